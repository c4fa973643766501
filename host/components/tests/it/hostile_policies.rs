//! Policies that misbehave: each ends within its limits with an error that names the limit, and nothing else is
//! disturbed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use espalier_components::{
    ComponentError, Host, HostConfig, Limit, Limits, Probe, ScoringInputs, ScoringJob, Trace, Unit,
};
use espalier_kernels::Tensor;

use crate::guests::{facts, policy};

const GUEST_TIME: Duration = Duration::from_millis(200);

/// A host with tight limits for policies.
fn strict_host() -> Host {
    let scoring = Limits {
        guest_time: GUEST_TIME,
        wall_time: Duration::from_secs(10),
        host_calls: 20_000,
        memory_bytes: 32 << 20,
        tensor_bytes: 64 << 20,
        tensors: 1_000,
        crossing_bytes: 1 << 20,
        ..Limits::scoring()
    };
    Host::new(HostConfig { scoring, ..HostConfig::default() }).unwrap()
}

fn traces() -> [Trace; 1] {
    [Trace { probe: Probe::HeadOutput, values: Arc::new(Tensor::new(vec![4, 8], vec![1.0; 32]).unwrap()) }]
}

fn begin(host: &Host, name: &str, behaviour: &str) -> ScoringJob {
    policy(host, name).begin(ScoringInputs::new(facts(behaviour)), &[Unit::Head]).unwrap()
}

/// What ended the first `observe` of a policy, while another policy keeps answering.
fn observe(name: &str, behaviour: &str) -> ComponentError {
    let host = strict_host();
    let mut good = begin(&host, "activation-norm", "llama");
    let mut hostile = begin(&host, name, behaviour);
    good.observe(0, &traces()).unwrap();
    let started = Instant::now();
    let error = std::thread::scope(|scope| {
        let ended = scope.spawn(move || hostile.observe(0, &traces()));
        while !ended.is_finished() {
            good.observe(0, &traces()).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        ended.join().unwrap().unwrap_err()
    });
    // The margin is for a machine with more threads than cores.
    assert!(
        started.elapsed() < GUEST_TIME + Duration::from_secs(5),
        "{behaviour} took {:?}",
        started.elapsed()
    );
    assert!(good.scores(0, Unit::Head).unwrap().iter().all(|score| *score > 0.0));
    assert!(error.to_string().contains(&format!("{name}@0.1.0")), "{error}");
    error
}

fn limit(error: &ComponentError) -> &Limit {
    match error {
        ComponentError::Limit { limit, .. } => limit,
        other => panic!("no limit: {other}"),
    }
}

#[test]
fn a_handle_cannot_be_given_back_twice() {
    match observe("fixture-hostile-policy", "double-drop") {
        ComponentError::Trap { call: "observe", reason, .. } => {
            assert!(reason.contains("handle"), "{reason}")
        }
        other => panic!("{other}"),
    }
}

#[test]
fn an_endless_loop_ends_at_its_deadline() {
    let error = observe("fixture-loop-policy", "llama");
    assert_eq!(limit(&error), &Limit::GuestTime(GUEST_TIME));
    assert_eq!(
        error.to_string(),
        "fixture-loop-policy@0.1.0 was stopped in \"observe\": it computed for longer than 200ms"
    );
}

#[test]
fn endless_allocation_ends_at_the_memory_limit() {
    let error = observe("fixture-allocate-policy", "llama");
    assert!(
        matches!(limit(&error), Limit::Memory { wanted, allowed } if wanted > allowed && *allowed == 32 << 20)
    );
}

#[test]
fn a_trap_is_an_error_value_with_its_kind() {
    let error = observe("fixture-trap-policy", "llama");
    assert!(matches!(&error, ComponentError::Trap { call: "observe", .. }), "{error}");
    assert!(error.to_string().contains("unreachable"), "{error}");
}

#[test]
fn tensors_end_at_their_quota() {
    for behaviour in ["large-tensors", "one-huge-tensor", "wide-empty-tensor"] {
        let error = observe("fixture-hostile-policy", behaviour);
        assert!(
            matches!(limit(&error), Limit::TensorBytes { allowed, .. } if *allowed == 64 << 20),
            "{error}"
        );
    }
    let error = observe("fixture-hostile-policy", "empty-tensors");
    assert_eq!(limit(&error), &Limit::Tensors(1_000));
}

#[test]
fn kept_traces_count_towards_the_quota() {
    let host = strict_host();
    let mut job = begin(&host, "fixture-hostile-policy", "keep-traces");
    let large = Arc::new(Tensor::new(vec![1024, 1024], vec![1.0; 1 << 20]).unwrap());
    let traces = [Trace { probe: Probe::HeadOutput, values: large }];
    let kept = (0..100).take_while(|_| job.observe(0, &traces).is_ok()).count();
    // Sixteen of 4 MiB would be exactly the quota, which the bookkeeping exceeds.
    assert_eq!(kept, 15);
}

#[test]
fn host_calls_are_counted() {
    let error = observe("fixture-hostile-policy", "host-call-ping-pong");
    assert_eq!(limit(&error), &Limit::HostCalls(20_000));
}

#[test]
fn recursion_ends_at_the_stack_limit() {
    let error = observe("fixture-hostile-policy", "recursion");
    // The guest's own stack lies in its memory and may be the first to end.
    let stopped =
        matches!(&error, ComponentError::Limit { limit: Limit::Stack(_), .. } | ComponentError::Trap { .. });
    assert!(stopped, "{error}");
}

#[test]
fn what_crosses_is_limited() {
    let error = observe("fixture-hostile-policy", "gigantic-log-line");
    assert!(matches!(limit(&error), Limit::Memory { .. } | Limit::CrossingBytes(_)), "{error}");
    let host = Host::new(HostConfig {
        scoring: Limits { crossing_bytes: 1 << 20, ..Limits::scoring() },
        ..HostConfig::default()
    })
    .unwrap();
    let mut job = begin(&host, "fixture-hostile-policy", "gigantic-list");
    job.observe(0, &traces()).unwrap();
    assert_eq!(limit(&job.scores(0, Unit::Head).unwrap_err()), &Limit::CrossingBytes(1 << 20));
    let mut job = begin(&host, "fixture-hostile-policy", "gigantic-log-line");
    assert_eq!(limit(&job.observe(0, &traces()).unwrap_err()), &Limit::CrossingBytes(1 << 20));
}

#[test]
fn reading_everything_is_refused_and_the_guest_goes_on() {
    let host = strict_host();
    begin(&host, "fixture-hostile-policy", "read-everything").observe(0, &traces()).unwrap();
    begin(&host, "fixture-hostile-policy", "log-flood").observe(0, &traces()).unwrap();
}

#[test]
fn nonsense_is_not_taken_for_scores() {
    let host = strict_host();
    for (behaviour, problem) in [
        ("too-few-scores", "1 scores, expected one for each of the 4 units \"head\" of layer 0"),
        ("scores-not-finite", "NaN for unit 0 of layer 0, expected finite scores"),
    ] {
        let error = begin(&host, "fixture-hostile-policy", behaviour).scores(0, Unit::Head).unwrap_err();
        assert!(matches!(error, ComponentError::InvalidAnswer { .. }), "{error}");
        assert!(error.to_string().ends_with(problem), "{error}");
    }
    let error = policy(&host, "fixture-hostile-policy")
        .begin(ScoringInputs::new(facts("refuse")), &[Unit::Head])
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "fixture-hostile-policy@0.1.0 refused \"begin\": this model is not to my taste"
    );
}

#[test]
fn a_stopped_job_is_over_and_a_new_one_works() {
    let host = strict_host();
    let policy = policy(&host, "fixture-hostile-policy");
    let mut job = policy.begin(ScoringInputs::new(facts("large-tensors")), &[Unit::Head]).unwrap();
    job.observe(0, &traces()).unwrap_err();
    let error = job.observe(0, &traces()).unwrap_err();
    assert!(error.to_string().contains("was stopped earlier in this job"), "{error}");
    let mut job = policy.begin(ScoringInputs::new(facts("well-behaved")), &[Unit::Head]).unwrap();
    job.observe(0, &traces()).unwrap();
    assert_eq!(job.scores(0, Unit::Head).unwrap(), [1.0; 4]);
}
