//! How a host ends.

use std::thread;
use std::time::Duration;

use crate::running_host::RunningHost;
use crate::synthetic;

#[test]
fn a_request_in_flight_gets_its_whole_answer() {
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let mut host = RunningHost::start(folder.path(), &[format!("{}={}", synthetic::NAME, model.display())]);
    let url = host.url("/v1/completions");
    let request = thread::spawn(move || {
        let body = serde_json::json!({
            "model": synthetic::NAME, "prompt": "x", "max_tokens": 400, "temperature": 0,
        });
        crate::http::post(&url, &body)
    });
    thread::sleep(Duration::from_millis(30));
    let status = host.terminate();
    assert!(status.success(), "{status}:\n{}", host.log());
    let answer = request.join().unwrap().success();
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{answer}");
}
