//! The routers of the repository that have a configuration: who answers, in which order, who gets copies, and which
//! configurations they refuse.

use std::collections::BTreeMap;

use espalier_components::{ComponentError, RequestRouter, RouteRequest, Shadow, VariantStatus};

use crate::guests::{configured, host, variant};

/// A variant of so many parameters, half of them active, that needs so long for a token.
fn sized(name: &str, parameters: u64, milliseconds: Option<f32>) -> VariantStatus {
    VariantStatus {
        parameters,
        active_parameters: parameters / 2,
        milliseconds_per_token: milliseconds,
        ..variant(name)
    }
}

fn order(router: &RequestRouter, request: &RouteRequest, variants: &[VariantStatus]) -> Vec<usize> {
    router.route(request, variants).unwrap().order
}

fn of_session(session: u64) -> RouteRequest {
    RouteRequest { session: Some(session), ..RouteRequest::default() }
}

/// What the guest says of a configuration that it refuses.
#[track_caller]
fn refusal(name: &str, settings: &[(&str, &str)]) -> String {
    match configured(&host(), name, settings).unwrap_err() {
        ComponentError::Guest { call: "configure", message, .. } => message,
        other => panic!("{other}"),
    }
}

/// Which variant each session gets.
fn assignment(router: &RequestRouter, names: &[&str]) -> Vec<String> {
    let variants: Vec<_> = names.iter().map(|name| variant(name)).collect();
    // Sessions are hashes; consecutive numbers are the hardest ones to spread.
    (0..4_000).map(|session| names[order(router, &of_session(session), &variants)[0]].to_owned()).collect()
}

fn shares(assigned: &[String]) -> BTreeMap<&str, f64> {
    let mut shares = BTreeMap::new();
    for name in assigned {
        *shares.entry(name.as_str()).or_insert(0.0) += 1.0 / assigned.len() as f64;
    }
    shares
}

#[test]
fn weighted_split_gives_each_variant_its_weight() {
    let host = host();
    let router = configured(&host, "weighted-split", &[("weights", "a:6, b:3, c:1, gone:5")]).unwrap();
    let assigned = assignment(&router, &["a", "b", "c", "unnamed"]);
    let found = shares(&assigned);
    // Five standard deviations of the largest.
    for (name, share) in [("a", 0.6), ("b", 0.3), ("c", 0.1)] {
        assert!((found[name] - share).abs() < 0.04, "{found:?}");
    }
    assert_eq!(found.get("unnamed"), None);
    // Without sessions the host's draw decides.
    let variants = [variant("a"), variant("b"), variant("c")];
    let drawn = |draw: u64| RouteRequest { draw: draw << 40, ..RouteRequest::default() };
    let hits = (0..4_000).filter(|draw| order(&router, &drawn(*draw), &variants)[0] == 0).count();
    assert!((2_240..2_560).contains(&hits), "{hits}");
    // Every variant with a weight follows, for when the first one is full.
    assert_eq!(order(&router, &of_session(1), &variants).len(), 3);
}

#[test]
fn sessions_stay_unless_they_must_move() {
    let host = host();
    let router = |weights| configured(&host, "weighted-split", &[("weights", weights)]).unwrap();
    let before = assignment(&router("a:1, b:1"), &["a", "b"]);
    assert_eq!(
        before,
        assignment(&router("a:1, b:1"), &["b", "a"]),
        "the order of the variants says nothing"
    );
    // More weight for b takes sessions from a and from nobody else.
    let after = assignment(&router("a:1, b:3"), &["a", "b"]);
    let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    assert!(moved.iter().all(|(before, after)| (before.as_str(), after.as_str()) == ("a", "b")));
    let share = moved.len() as f64 / before.len() as f64;
    assert!((share - 0.25).abs() < 0.04, "{share}");
    // A third variant takes from both; without weights all weigh the same.
    let plain = configured(&host, "weighted-split", &[]).unwrap();
    let third = assignment(&plain, &["a", "b", "c"]);
    let pairs = before.iter().zip(&third);
    assert!(pairs.filter(|(before, after)| before != after).all(|(_, after)| after == "c"));
    assert!((shares(&third)["c"] - 1.0 / 3.0).abs() < 0.04);
}

#[test]
fn weighted_split_refuses_what_is_no_weight() {
    assert_eq!(
        refusal("weighted-split", &[("weight", "a:1")]),
        "found the setting \"weight\", expected weights"
    );
    let weights = |text| refusal("weighted-split", &[("weights", text)]);
    assert_eq!(weights("a"), "weights: found \"a\", expected VARIANT:NUMBER, separated by commas");
    assert_eq!(weights("a:-1"), "weights: found \"-1\", expected a number from 0 to 1000000000");
    assert_eq!(weights("a:NaN"), "weights: found \"NaN\", expected a number from 0 to 1000000000");
    assert_eq!(weights("a:1, a:2"), "weights: found \"a\" twice, expected each variant once");
    assert_eq!(weights("a:0, b:0"), "weights: found only 0, expected one above it");
    let router = configured(&host(), "weighted-split", &[("weights", "gone:1")]).unwrap();
    let error = router.route(&RouteRequest::default(), &[variant("a")]).unwrap_err();
    assert!(error.to_string().contains("no variant with a weight is loaded"), "{error}");
}

#[test]
fn length_and_quality_takes_the_smallest_that_will_do() {
    let host = host();
    let settings = [("lengths", "small:100, medium:1000")];
    let router = configured(&host, "length-and-quality", &settings).unwrap();
    let variants = [sized("large", 1000, None), sized("small", 500, None), sized("medium", 800, None)];
    let prompt = |tokens| RouteRequest { prompt_tokens: tokens, ..RouteRequest::default() };
    assert_eq!(order(&router, &prompt(100), &variants), [1, 2, 0]);
    assert_eq!(order(&router, &prompt(101), &variants), [2, 0, 1]);
    assert_eq!(order(&router, &prompt(1001), &variants), [0, 2, 1]);
    // A quality that is asked for wins over the length.
    let asks = |quality| RouteRequest { quality: Some(quality), ..prompt(5000) };
    for (quality, first) in [(0.0, 1), (0.5, 1), (0.51, 2), (0.8, 2), (0.9, 0), (1.0, 0)] {
        assert_eq!(order(&router, &asks(quality), &variants)[0], first, "{quality}");
    }
    // What the operator says of a variant wins over its size.
    let settings = [("qualities", "small:0.95, medium:0.9")];
    let router = configured(&host, "length-and-quality", &settings).unwrap();
    assert_eq!(order(&router, &asks(0.92), &variants), [1, 0, 2]);
    assert_eq!(order(&router, &prompt(1), &variants), [0, 1, 2], "without lengths the best");
    let refused = refusal("length-and-quality", &[("qualities", "small:2")]);
    assert_eq!(refused, "qualities: found \"2\", expected a number from 0 to 1");
    let refused = refusal("length-and-quality", &[("length", "small:2")]);
    assert_eq!(refused, "found the setting \"length\", expected lengths, qualities");
}

#[test]
fn cost_latency_target_takes_the_best_that_meets_it() {
    let host = host();
    let never = ("explore", "0");
    let fast = [("milliseconds-per-token", "20"), never];
    let router = configured(&host, "cost-latency-target", &fast).unwrap();
    let route = |router: &RequestRouter, times: [Option<f32>; 3]| {
        let [large, medium, small] = times;
        let variants =
            [sized("large", 1000, large), sized("medium", 800, medium), sized("small", 500, small)];
        order(router, &RouteRequest::default(), &variants)
    };
    assert_eq!(route(&router, [Some(25.0), Some(19.0), Some(9.0)]), [1, 2, 0]);
    assert_eq!(route(&router, [Some(20.0), Some(19.0), Some(9.0)]), [0, 1, 2]);
    assert_eq!(route(&router, [None, Some(19.0), Some(9.0)]), [0, 1, 2], "what is not known counts as fast");
    assert_eq!(route(&router, [Some(50.0), Some(40.0), Some(30.0)]), [2, 1, 0], "none meets it: the fastest");
    // A cost is a share of the active parameters, or what the operator says.
    let cheap = [("cost", "0.8"), never];
    let router = configured(&host, "cost-latency-target", &cheap).unwrap();
    assert_eq!(route(&router, [None, None, None]), [1, 2, 0]);
    let priced = [("cost", "3"), ("costs", "large:5, medium:4, small:2.5"), never];
    let router = configured(&host, "cost-latency-target", &priced).unwrap();
    assert_eq!(route(&router, [None, None, None]), [2, 1, 0]);
    let valued = [("cost", "9"), ("qualities", "large:1, medium:2, small:1.5"), never];
    let router = configured(&host, "cost-latency-target", &valued).unwrap();
    assert_eq!(route(&router, [None, None, None]), [1, 2, 0]);
    let refused = refusal("cost-latency-target", &[]);
    assert_eq!(refused, "found neither milliseconds-per-token nor cost, expected a target");
    let refused = refusal("cost-latency-target", &[("cost", "-1")]);
    assert_eq!(refused, "cost: found \"-1\", expected a number, at least 0");
}

#[test]
fn a_share_of_requests_explores_what_was_slow() {
    let target = [("milliseconds-per-token", "20"), ("explore", "0.1")];
    let router = configured(&host(), "cost-latency-target", &target).unwrap();
    let variants = [sized("large", 1000, Some(30.0)), sized("small", 500, Some(9.0))];
    let draws = (0..1_000_u64).map(|i| i.wrapping_mul(u64::MAX / 1_000));
    let explored = draws
        .filter(|draw| {
            order(&router, &RouteRequest { draw: *draw, ..RouteRequest::default() }, &variants)[0] == 0
        })
        .count();
    assert!((99..=101).contains(&explored), "{explored}");
}

#[test]
fn fallback_chain_keeps_its_order() {
    let host = host();
    let variants = [variant("a"), variant("b"), variant("c")];
    let route = |settings: &[(&str, &str)]| {
        let router = configured(&host, "fallback-chain", settings).unwrap();
        order(&router, &RouteRequest::default(), &variants)
    };
    assert_eq!(route(&[]), [0, 1, 2]);
    assert_eq!(route(&[("order", "c, gone, a")]), [2, 0, 1]);
    assert_eq!(route(&[("order", "c,a"), ("others", "never")]), [2, 0]);
    let only = configured(&host, "fallback-chain", &[("order", "x, y"), ("others", "never")]).unwrap();
    let error = only.route(&RouteRequest::default(), &variants).unwrap_err().to_string();
    assert_eq!(error, "fallback-chain@0.1.0 refused \"route\": none of x, y is loaded");
    let refused = refusal("fallback-chain", &[("order", "a, a")]);
    assert_eq!(refused, "order: found \"a, a\", expected names of variants, each once: A, B");
    let refused = refusal("fallback-chain", &[("others", "no")]);
    assert_eq!(refused, "others: found \"no\", expected after or never");
    refusal("fallback-chain", &[("others", "never")]);
}

#[test]
fn shadow_answers_from_one_and_copies_to_another() {
    let host = host();
    let route = |settings: &[(&str, &str)], names: &[&str]| {
        let variants: Vec<_> = names.iter().map(|name| variant(name)).collect();
        let router = configured(&host, "shadow", settings).unwrap();
        let choice = router.route(&RouteRequest::default(), &variants).unwrap();
        (choice.order, choice.shadow)
    };
    let to = |variant, share| Some(Shadow { variant, share });
    assert_eq!(route(&[("to", "b")], &["a", "b", "c"]), (vec![0, 2], to(1, 0.1)));
    assert_eq!(route(&[("to", "a"), ("share", "1")], &["a", "b"]), (vec![1], to(0, 1.0)));
    assert_eq!(route(&[("to", "b"), ("answer", "c")], &["a", "b", "c"]), (vec![2, 0], to(1, 0.1)));
    assert_eq!(route(&[("to", "gone")], &["a", "b"]), (vec![0, 1], None));
    assert_eq!(route(&[("to", "a")], &["a"]), (vec![0], None));
    assert_eq!(refusal("shadow", &[]), "to: found nothing, expected the variant that gets the copies");
    refusal("shadow", &[("to", "a"), ("answer", "a")]);
    assert_eq!(
        refusal("shadow", &[("to", "a"), ("share", "1.5")]),
        "share: found \"1.5\", expected a number from 0 to 1"
    );
}
