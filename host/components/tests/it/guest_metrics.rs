//! What components count and observe themselves, and that they cannot do more than that.

use espalier_components::{
    ComponentError, ComponentMetrics, GuestMetric, Host, Limit, Limits, RequestRouter, RouteRequest,
};

use crate::guests::{host, router, variant};

fn ask(router: &RequestRouter, behaviour: &str) -> Result<usize, ComponentError> {
    let request = RouteRequest { model: behaviour.to_owned(), prompt_tokens: 7, ..RouteRequest::default() };
    router.route(&request, &[variant("original")]).map(|choice| choice.order[0])
}

fn recorded(host: &Host) -> ComponentMetrics {
    let [found] = host.metrics_of_guests().try_into().unwrap();
    assert_eq!((found.component.as_str(), found.version.as_str()), ("fixture-hostile-router", "0.1.0"));
    found
}

#[test]
fn all_instances_of_a_component_add_to_its_metrics() {
    let host = host();
    let (one, other) = (router(&host, "fixture-hostile-router"), router(&host, "fixture-hostile-router"));
    assert!(host.metrics_of_guests().is_empty());
    for router in [&one, &other, &one] {
        ask(router, "measured").unwrap();
    }
    // What an instance counted before it died stays counted.
    ask(&one, "trap").unwrap_err();
    ask(&one, "measured").unwrap();
    let ComponentMetrics { metrics, refused, .. } = recorded(&host);
    assert_eq!(metrics[1], ("requests".to_owned(), GuestMetric::Counter(4)));
    let GuestMetric::Histogram { buckets, sum, count } = &metrics[0].1 else { panic!("{metrics:?}") };
    assert_eq!((metrics[0].0.as_str(), *sum, *count), ("prompt_tokens", 28.0, 4));
    let at_most = |bound| buckets.iter().find(|(of, _)| *of == bound).map(|(_, within)| *within);
    assert_eq!((at_most(5.0), at_most(10.0)), (Some(0), Some(4)));
    assert_eq!(refused, []);
}

#[test]
fn a_flood_of_metrics_is_refused_and_counted() {
    let (host, limit) = (host(), Limits::router().metrics);
    let router = router(&host, "fixture-hostile-router");
    ask(&router, "measured").unwrap();
    for _ in 0..20 {
        ask(&router, "metric-flood").unwrap();
    }
    let ComponentMetrics { metrics, refused, .. } = recorded(&host);
    assert_eq!(metrics.len(), limit);
    assert!(metrics.iter().any(|(name, metric)| name == "requests" && *metric == GuestMetric::Counter(1)));
    let too_many = 600 - u64::try_from(limit - 2).unwrap();
    assert_eq!(refused, [("name", 600), ("too_many", too_many), ("value", 600)]);
    match ask(&router, "gigantic-metric-name").unwrap_err() {
        ComponentError::Limit { limit, .. } => {
            assert_eq!(limit, Limit::CrossingBytes(Limits::router().crossing_bytes));
        }
        other => panic!("{other}"),
    }
}
