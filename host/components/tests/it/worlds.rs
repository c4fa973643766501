//! What does not fit a world is refused before it runs, with a reason.

use espalier_components::{ComponentError, Host, HostConfig, World};

use crate::guests::{bytes, host, load};

#[test]
fn a_component_is_of_the_world_that_it_exports() {
    let host = host();
    assert_eq!(load(&host, "least-busy").unwrap().world(), World::RequestRouter);
    assert_eq!(load(&host, "perplexity").unwrap().world(), World::EvaluationMetric);
    let component = load(&host, "activation-norm").unwrap();
    assert_eq!(component.world(), World::ScoringPolicy);
    assert_eq!(component.size(), bytes("activation-norm").len());
}

#[test]
fn everything_that_does_not_fit_is_named() {
    let host = host();
    let error = load(&host, "fixture-wrong-world").unwrap_err();
    let ComponentError::WrongWorld { expected: World::RequestRouter, problems, .. } = &error else {
        panic!("{error}")
    };
    let expected = [
        "it imports espalier:kernels/network@1.0.0-rc.1, which the world does not give",
        "espalier:kernels/telemetry@1.0.0-rc.1 gives \"log\" as `func(level: enum { debug, info, warning, error }, message: string)`, \
         the component imports `func(level: enum { debug, info }, message: string)`",
        "the component must export \"configure\" of espalier:policy/routing@1.0.0-rc.1, which is not there",
        "the component must export \"describe\" of espalier:policy/routing@1.0.0-rc.1, which is not there",
        "espalier:policy/routing@1.0.0-rc.1 exports \"route\" as `func(model: string) -> u32`, the component must export \
         `func(request: record { model: string, prompt-tokens: u32, max-tokens: u32, streaming: bool, session: \
         option<u64>, quality: option<f32>, draw: u64 }, variants: list<record { name: string, accepts: bool, running: u32, \
         waiting: u32, kv-usage: f32, milliseconds-per-token: option<f32>, parameters: u64, active-parameters: u64, \
         weight-bytes: u64 }>) -> result<record { order: list<u32>, shadow: option<record { target: u32, share: f32 }> }, \
         string>`",
    ];
    assert_eq!(problems, &expected);
}

#[test]
fn another_world_than_expected_is_refused() {
    let host = host();
    let error = host.load("least-busy", &bytes("least-busy"), Some(World::ScoringPolicy)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "least-busy does not fit the world scoring-policy: the export espalier:policy/scoring@1.0.0-rc.1 is missing"
    );
    let error = espalier_components::ScoringPolicy::new(load(&host, "least-busy").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "least-busy@0.1.0 has the world request-router, expected scoring-policy");
}

#[test]
fn what_is_no_component_is_refused() {
    let host = host();
    let whole = bytes("least-busy");
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    let mut corrupted = whole.clone();
    corrupted[whole.len() / 2..].fill(0xff);
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("text", b"(module)".to_vec()),
        ("core module", core_module),
        ("truncated", whole[..whole.len() / 2].to_vec()),
        ("truncated by one byte", whole[..whole.len() - 1].to_vec()),
        ("corrupted", corrupted),
    ] {
        let error = host.load(what, &bytes, None).unwrap_err();
        assert!(matches!(error, ComponentError::NotAComponent { .. }), "{what}: {error}");
        assert!(
            error.to_string().starts_with(&format!("{what} is not a WebAssembly component: ")),
            "{error}"
        );
    }
    let nothing = b"\0asm\x0d\0\x01\0";
    let error = host.load("empty component", nothing, None).unwrap_err();
    assert!(matches!(error, ComponentError::UnknownWorld { .. }), "{error}");
}

#[test]
fn every_flipped_byte_is_survived() {
    let host = host();
    let whole = bytes("least-busy");
    for position in (0..whole.len()).step_by(whole.len() / 40) {
        let mut flipped = whole.clone();
        flipped[position] ^= 0x55;
        // Some positions hold text or constants, and the component is still one.
        let _ = host.load("flipped", &flipped, None);
    }
    load(&host, "least-busy").unwrap();
}

#[test]
fn a_component_cannot_give_itself_a_path_as_a_name() {
    let error = load(&host(), "fixture-bad-name").unwrap_err();
    assert!(matches!(&error, ComponentError::InvalidAnswer { call: "describe", .. }), "{error}");
    assert!(error.to_string().contains("../../../etc/passwd"), "{error}");
}

#[test]
fn a_component_that_is_too_large_is_not_even_parsed() {
    let host = Host::new(HostConfig { component_bytes: 1_000, ..HostConfig::default() }).unwrap();
    let error = load(&host, "least-busy").unwrap_err();
    assert!(matches!(error, ComponentError::TooLarge { limit: 1_000, .. }), "{error}");
}
