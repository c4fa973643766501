//! Reading a request.

use crate::bindings::wasi::io::streams::StreamError;
use crate::http::{IncomingBody, IncomingRequest};

/// Bytes that are asked for at once.
const CHUNK: u64 = 64 << 10;

/// The path below the endpoint's own, and the query after the question mark, empty where there is none.
pub fn path_and_query(request: &IncomingRequest) -> (String, String) {
    let whole = request.path_with_query().unwrap_or_default();
    match whole.split_once('?') {
        Some((path, query)) => (path.to_owned(), query.to_owned()),
        None => (whole, String::new()),
    }
}

/// The whole body, which the host has limited and received before the call. The error says what is wrong with it.
pub fn read_body(request: &IncomingRequest) -> Result<Vec<u8>, String> {
    read(request.consume().map_err(|()| "the body was read before".to_owned())?)
}

/// All of a body.
pub(crate) fn read(body: IncomingBody) -> Result<Vec<u8>, String> {
    let stream = body.stream().map_err(|()| "the body was read before".to_owned())?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(CHUNK) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}

impl crate::http::IncomingResponse {
    /// The whole body of a response.
    pub fn read_body(&self) -> Result<Vec<u8>, String> {
        read(self.consume().map_err(|()| "the body was read before".to_owned())?)
    }
}
