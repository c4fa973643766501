//! Components that mean harm: each gets a clear error within its deadline, and nobody else notices.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::running_host::RunningHost;
use crate::{http, program, synthetic};

/// What a hostile call may cost at most: its deadline, and a margin for a machine with more threads than cores.
const DEADLINE: Duration = Duration::from_secs(40);

/// A router that does what the model's name says; the good one is called something else.
const ROUTER: &str = "fixture-hostile-router";

/// Policies, and a word of the error that each must end in.
const POLICIES: [(&str, &str); 3] = [
    ("fixture-loop-policy", "computed"),
    ("fixture-allocate-policy", "memory"),
    ("fixture-trap-policy", "unreachable"),
];

#[test]
fn a_hostile_policy_fails_its_own_job_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let mut host = RunningHost::start(folder.path(), &[format!("{}={}", synthetic::NAME, model.display())]);
    let calibration = folder.path().join("calibration.txt");
    fs::write(&calibration, "Four score and seven years ago. ".repeat(100)).unwrap();
    let job = |policy: &str, out: &str| {
        let request = json!({
            "kind": "prune", "model": synthetic::NAME, "policy": policy, "units": ["head", "ffn-channel"],
            "keep": 0.8, "calibration": calibration, "windows": 2, "window_tokens": 64, "out": folder.path().join(out),
        });
        let id = http::post(&host.admin_url("/admin/v1/jobs"), &request).success()["id"].as_u64().unwrap();
        host.job(id)
    };
    for name in POLICIES.map(|(name, _)| name).into_iter().chain(["activation-norm"]) {
        host.command(&["component", "deploy", program::component(name).to_str().unwrap()]);
    }

    let (over, served) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        // Requests are in flight all the while; each must be answered whole.
        let client = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let answer = host.complete(synthetic::NAME, 16).success();
                assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{answer}");
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        for (name, word) in POLICIES {
            let began = Instant::now();
            let job = job(name, name);
            assert_eq!(job["state"], "failed", "{job}");
            let error = job["error"].as_str().unwrap();
            assert!(error.contains(&format!("{name}@0.1.0")) && error.contains(word), "{error}");
            assert!(began.elapsed() < DEADLINE, "{name} took {:?}", began.elapsed());
            assert!(!folder.path().join(name).exists(), "{name} left a checkpoint");
        }
        over.store(true, Ordering::Relaxed);
        client.join().unwrap();
    });
    assert!(served.into_inner() > 0);
    assert_eq!(job("activation-norm", "good")["state"], "succeeded", "{}", host.log());
    host.is_healthy();
}

#[test]
fn a_hostile_router_costs_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let names = ["loop", "allocate", "trap", "wrong-index", "refuse"];
    let models = names.iter().flat_map(|name| {
        let path = model.display();
        [format!("{name}={path}"), format!("{name}@other={path}")]
    });
    let mut host = RunningHost::start(folder.path(), &models.collect::<Vec<_>>());
    host.command(&["component", "deploy", program::component(ROUTER).to_str().unwrap()]);
    for name in names {
        let began = Instant::now();
        let answer = host.complete(name, 2).success();
        assert_eq!(answer["espalier"]["variant"], "original", "the default answers: {answer}");
        assert!(began.elapsed() < DEADLINE, "{name} took {:?}", began.elapsed());
    }
    assert!(host.log().contains(&format!("{ROUTER}@0.1.0")), "{}", host.log());
    host.is_healthy();
}

#[test]
fn what_is_no_component_of_the_world_is_refused_and_the_active_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let mut host = RunningHost::start(folder.path(), &[format!("{}={}", synthetic::NAME, model.display())]);
    host.command(&["component", "deploy", program::component("least-busy").to_str().unwrap()]);
    let slots = |host: &RunningHost| http::get(&host.admin_url("/admin/v1/slots")).success();
    let before = slots(&host);
    let deploy = |query: &str, bytes: &[u8]| {
        http::post_bytes(&host.admin_url(&format!("/admin/v1/components{query}")), "application/wasm", bytes)
    };
    let guest = |name: &str| fs::read(program::component(name)).unwrap();

    let wrong = deploy("?slot=router", &guest("fixture-wrong-world"));
    wrong.is_refused(422, Some("component"));
    assert!(wrong.text.contains("network"), "the missing import is named: {}", wrong.text);
    deploy("?slot=router", &guest("activation-norm")).is_refused(422, None);
    let named = deploy("", &guest("fixture-bad-name"));
    assert!((400..500).contains(&named.status), "{}: {}", named.status, named.text);

    let whole = guest("activation-norm");
    for bytes in [b"".as_slice(), b"not wasm", b"\0asm\x01\0\0\0", &whole[..whole.len() / 2]] {
        let answer = deploy("", bytes);
        assert!((400..500).contains(&answer.status), "{}: {}", answer.status, answer.text);
    }
    assert_eq!(slots(&host), before);
    host.is_healthy();
}
