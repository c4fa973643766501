//! Requests as a client that knows nothing of this project makes them.

use std::io::Read;
use std::time::Duration;

use serde_json::Value;

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The body of a request that must have succeeded.
    pub(crate) fn success(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text);
        self.json()
    }

    /// Checks that the request was refused with this status, and that the error is about this field.
    #[track_caller]
    pub(crate) fn is_refused(&self, status: u16, field: Option<&str>) {
        assert_eq!(self.status, status, "{}", self.text);
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", self.text);
        if let Some(field) = field {
            assert_eq!(error["param"].as_str(), Some(field), "{}", self.text);
        }
    }
}

pub(crate) fn get(url: &str) -> Answer {
    answer(agent().get(url).call().unwrap())
}

pub(crate) fn post(url: &str, body: &Value) -> Answer {
    answer(agent().post(url).send_json(body).unwrap())
}

pub(crate) fn post_bytes(url: &str, media_type: &str, body: &[u8]) -> Answer {
    answer(agent().post(url).header("content-type", media_type).send(body).unwrap())
}

fn agent() -> ureq::Agent {
    let timeout = Some(Duration::from_secs(120));
    ureq::Agent::config_builder().timeout_global(timeout).http_status_as_error(false).build().into()
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    let mut text = String::new();
    let status = response.status().as_u16();
    response.body_mut().as_reader().read_to_string(&mut text).unwrap();
    Answer { status, text }
}
