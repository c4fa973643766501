//! Writing a response piece by piece.

use crate::bindings::wasi::io::streams::OutputStream;
use crate::http::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};

/// What one write takes at most, by the rules of `wasi:io`.
const CHUNK: usize = 4096;

/// The client reads no more; the host ends the call soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// A response whose head is under way.
pub struct ResponseWriter {
    // In this order: the stream is dropped before its body.
    stream: Option<OutputStream>,
    body: Option<OutgoingBody>,
}

impl ResponseWriter {
    /// Sends the head: a status and headers of the guest's own choice.
    pub fn begin(out: ResponseOutparam, status: u16, headers: &[(&str, &str)]) -> Self {
        let fields = Fields::new();
        for (name, value) in headers {
            // A name or a value that is none would be a mistake of the guest's author; the response goes without it.
            let _ = fields.append(&(*name).to_owned(), &value.as_bytes().to_vec());
        }
        let response = OutgoingResponse::new(fields);
        let _ = response.set_status_code(status);
        let body = response.body().ok();
        ResponseOutparam::set(out, Ok(response));
        let stream = body.as_ref().and_then(|body| body.write().ok());
        Self { stream, body }
    }

    /// A whole response of this media type.
    pub fn whole(out: ResponseOutparam, status: u16, media_type: &str, content: &[u8]) {
        let mut writer = Self::begin(out, status, &[("content-type", media_type)]);
        if writer.write(content).is_ok() {
            writer.finish();
        }
    }

    /// Writes, and waits until it is on its way to the client.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let stream = self.stream.as_ref().ok_or(Gone)?;
        bytes.chunks(CHUNK).try_for_each(|chunk| stream.blocking_write_and_flush(chunk)).map_err(|_| Gone)
    }

    /// Ends the body. A writer that is dropped instead leaves the response visibly cut.
    pub fn finish(mut self) {
        self.stream = None;
        if let Some(body) = self.body.take() {
            // Fails where the client has gone, who does not care any more.
            let _ = OutgoingBody::finish(body, None);
        }
    }
}
