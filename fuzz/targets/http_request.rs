//! Any bytes as the body of a request to the OpenAI API: a validated request, or an error that can be written as JSON.
#![no_main]

use espalier_server::body::parse_json;
use espalier_server::openai::chat_request::ChatRequest;
use espalier_server::openai::completion_request::CompletionRequest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match parse_json(bytes) {
        Ok(body) => {
            let errors = [CompletionRequest::parse(body.clone()).err(), ChatRequest::parse(body).err()];
            for error in errors.into_iter().flatten() {
                let _ = error.to_json();
            }
        }
        Err(error) => {
            let _ = error.to_json();
        }
    }
});
