//! Routers that misbehave: the request gets an error in time, the next one an answer.

use std::time::{Duration, Instant};

use espalier_components::{ComponentError, Host, HostConfig, Limit, Limits, RequestRouter, RouteRequest};

use crate::guests::{configured, host, router, variant};
use crate::logged_lines::LoggedLines;

fn ask(router: &RequestRouter, behaviour: &str) -> Result<usize, ComponentError> {
    let request = RouteRequest { model: behaviour.to_owned(), ..RouteRequest::default() };
    router.route(&request, &[variant("original"), variant("small")]).map(|choice| choice.order[0])
}

fn limit(router: &RequestRouter, behaviour: &str) -> Limit {
    match ask(router, behaviour).unwrap_err() {
        ComponentError::Limit { limit, call: "route", component }
            if component == "fixture-hostile-router@0.1.0" =>
        {
            limit
        }
        other => panic!("{other}"),
    }
}

#[test]
fn every_misbehaviour_ends_and_the_next_request_is_answered() {
    // So little memory that it is used up long before the deadline.
    let limits = Limits { memory_bytes: 16 << 20, ..Limits::router() };
    let host = Host::new(HostConfig { router: limits.clone(), ..HostConfig::default() }).unwrap();
    let router = router(&host, "fixture-hostile-router");
    let started = Instant::now();
    assert_eq!(limit(&router, "loop"), Limit::GuestTime(limits.guest_time));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(ask(&router, "anything").unwrap(), 0);
    assert!(matches!(limit(&router, "allocate"), Limit::Memory { .. }));
    assert_eq!(ask(&router, "anything").unwrap(), 0);
    assert_eq!(limit(&router, "host-call-ping-pong"), Limit::HostCalls(limits.host_calls));
    assert_eq!(limit(&router, "gigantic-error"), Limit::CrossingBytes(limits.crossing_bytes));
    assert!(matches!(ask(&router, "trap").unwrap_err(), ComponentError::Trap { .. }));
    assert_eq!(ask(&router, "anything").unwrap(), 0);
}

#[test]
fn an_answer_that_names_no_variant_is_refused() {
    let host = host();
    let router = router(&host, "fixture-hostile-router");
    for (behaviour, found, expected) in [
        ("wrong-index", "the index 4294967295", "one below the number of variants, 2"),
        ("wrong-fallback", "the index 2", "one below the number of variants, 2"),
        ("twice", "the index 1 twice", "each variant at most once"),
        ("nobody", "an order of 0 variants", "from 1 to 2"),
        ("wrong-shadow", "the shadow 9", "one below the number of variants, 2"),
        ("wrong-share", "the share NaN", "one from 0 to 1"),
    ] {
        let sentence =
            format!("fixture-hostile-router@0.1.0 answered \"route\" with {found}, expected {expected}");
        assert_eq!(ask(&router, behaviour).unwrap_err().to_string(), sentence);
    }
    assert!(matches!(limit(&router, "endless-order"), Limit::CrossingBytes(_)));
    assert_eq!(
        ask(&router, "refuse").unwrap_err().to_string(),
        "fixture-hostile-router@0.1.0 refused \"route\": nothing fits"
    );
}

#[test]
fn a_router_that_fails_over_its_configuration_never_begins() {
    let host = host();
    let error = |setting| configured(&host, "fixture-hostile-router", &[("configure", setting)]).unwrap_err();
    assert_eq!(
        error("refuse").to_string(),
        "fixture-hostile-router@0.1.0 refused \"configure\": nothing fits"
    );
    assert!(matches!(error("trap"), ComponentError::Trap { call: "configure", .. }));
    assert!(matches!(
        error("loop"),
        ComponentError::Limit { call: "configure", limit: Limit::GuestTime(_), .. }
    ));
}

#[test]
fn instances_are_kept_between_calls_and_replaced_after_a_trap() {
    let host = host();
    let router = router(&host, "fixture-hostile-router");
    let count = || match ask(&router, "count").unwrap_err() {
        ComponentError::Guest { message, .. } => message,
        other => panic!("{other}"),
    };
    assert_eq!([count(), count(), count()], ["1", "2", "3"]);
    ask(&router, "trap").unwrap_err();
    assert_eq!(count(), "1");
}

#[test]
fn a_router_that_loops_does_not_hold_up_the_others() {
    let host = host();
    let (hostile, good) = (router(&host, "fixture-hostile-router"), router(&host, "least-busy"));
    std::thread::scope(|scope| {
        let looping = scope.spawn(|| limit(&hostile, "loop"));
        let mut answers = 0;
        while !looping.is_finished() {
            assert_eq!(ask(&good, "smollm2").unwrap(), 0);
            assert_eq!(ask(&hostile, "anything").unwrap(), 0);
            answers += 1;
        }
        assert!(answers > 10, "{answers}");
        assert!(matches!(looping.join().unwrap(), Limit::GuestTime(_)));
    });
}

#[test]
fn more_instances_than_the_pool_has_are_refused_by_name() {
    let host = Host::new(HostConfig { pooled_instances: 2, ..HostConfig::default() }).unwrap();
    let router = router(&host, "fixture-hostile-router");
    let outcomes = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| ask(&router, "loop").unwrap_err())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let busy = outcomes.iter().filter(|error| matches!(error, ComponentError::Busy { limit: 2, .. })).count();
    let stopped = outcomes.iter().filter(|error| matches!(error, ComponentError::Limit { .. })).count();
    assert_eq!(busy + stopped, 6, "{outcomes:?}");
    assert_eq!(ask(&router, "anything").unwrap(), 0);
}

#[test]
fn a_host_without_room_for_a_pool_works_all_the_same() {
    // More address space than a process can have.
    let host = Host::new(HostConfig { pooled_instances: 1_000_000, ..HostConfig::default() }).unwrap();
    let router = router(&host, "fixture-hostile-router");
    assert_eq!(ask(&router, "anything").unwrap(), 0);
    assert!(matches!(limit(&router, "loop"), Limit::GuestTime(_)));
    assert_eq!(ask(&router, "anything").unwrap(), 0);
}

#[test]
fn no_more_calls_run_at_once_than_are_allowed() {
    let limits = Limits { concurrent_calls: 3, ..Limits::router() };
    let host = Host::new(HostConfig { router: limits, ..HostConfig::default() }).unwrap();
    let (hostile, good) = (router(&host, "fixture-hostile-router"), router(&host, "least-busy"));
    let outcomes = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..12).map(|_| scope.spawn(|| ask(&hostile, "loop").unwrap_err())).collect();
        // Another component has its own allowance.
        assert_eq!(ask(&good, "smollm2").unwrap(), 0);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let of = |wanted: &str| outcomes.iter().filter(|error| error.outcome() == wanted).count();
    assert_eq!(of("concurrent_calls") + of("guest_time"), 12, "{outcomes:?}");
    assert!(of("concurrent_calls") >= 1 && of("guest_time") >= 3, "{outcomes:?}");
    let refused = outcomes.iter().find(|error| error.outcome() == "concurrent_calls").unwrap();
    // A fresh instance is configured first, so the refused call may be that one.
    let (start, end) = ("fixture-hostile-router@0.1.0 was stopped in", "3 of its calls run already");
    let sentence = refused.to_string();
    assert!(sentence.starts_with(start) && sentence.ends_with(end), "{sentence}");
    // Every place is given back.
    for _ in 0..8 {
        assert_eq!(ask(&hostile, "anything").unwrap(), 0);
    }
}

#[test]
fn a_router_that_logs_with_every_request_is_held_to_a_rate() {
    let limits = Limits { log_lines_per_second: 10, ..Limits::router() };
    let host = Host::new(HostConfig { router: limits, ..HostConfig::default() }).unwrap();
    let router = router(&host, "fixture-hostile-router");
    let started = Instant::now();
    let lines = LoggedLines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        for _ in 0..500 {
            assert_eq!(ask(&router, "chatty").unwrap(), 0);
        }
    });
    // Those of one second, those of the time that passed, and for each of those a word on what was dropped.
    let most = 10 + 2 * (started.elapsed().as_secs_f64() * 10.0) as usize + 2;
    let found = lines.count();
    assert!((10..=most).contains(&found), "{found} of 2,000 lines, at most {most} expected");
}
