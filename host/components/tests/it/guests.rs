//! Where the built guests are, what they are called, and inputs for them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use espalier_components::{
    Component, ComponentError, Configuration, DIRECTORY_VARIABLE, EvaluationMetric, Host, HostConfig,
    LayerFacts, ModelFacts, RequestRouter, ScoringPolicy, Unit, VariantStatus,
};

/// Every guest of the repository. Each has a test in this folder; a guest that is not listed fails
/// [`every_guest_has_a_test`].
const GUESTS: [(&str, &str); 42] = [
    ("activation-norm", "activation_norm.rs"),
    ("activation-sparsity", "scoring_formulas.rs"),
    ("agreement", "agreement.rs"),
    ("attention-entropy", "scoring_formulas.rs"),
    ("bleu", "answer_metrics.rs"),
    ("block-influence", "scoring_formulas.rs"),
    ("chrf", "answer_metrics.rs"),
    ("compare", "endpoints.rs"),
    ("cost-latency-target", "routers.rs"),
    ("exact-match", "answer_metrics.rs"),
    ("expert-contribution", "scoring_formulas.rs"),
    ("expert-frequency", "scoring_formulas.rs"),
    ("expert-voting", "scoring_formulas.rs"),
    ("fallback-chain", "routers.rs"),
    ("fisher", "scoring_formulas.rs"),
    ("fixture-allocate-policy", "hostile_policies.rs"),
    ("fixture-bad-name", "worlds.rs"),
    ("fixture-hidden-states-metric", "hostile_metrics.rs"),
    ("fixture-hostile-endpoint", "hostile_endpoints.rs"),
    ("fixture-hostile-metric", "hostile_metrics.rs"),
    ("fixture-hostile-policy", "hostile_policies.rs"),
    ("fixture-hostile-router", "hostile_routers.rs"),
    ("fixture-loop-policy", "hostile_policies.rs"),
    ("fixture-trap-policy", "hostile_policies.rs"),
    ("fixture-wrong-world", "worlds.rs"),
    ("flap", "scoring_formulas.rs"),
    ("inverse", "scoring_formulas.rs"),
    ("least-busy", "least_busy.rs"),
    ("length-and-quality", "routers.rs"),
    ("magnitude", "scoring_formulas.rs"),
    ("no-op", "endpoints.rs"),
    ("perplexity", "perplexity.rs"),
    ("perplexity-greedy", "scoring_formulas.rs"),
    ("random", "random.rs"),
    ("reap", "scoring_formulas.rs"),
    ("repetition", "answer_metrics.rs"),
    ("rouge", "answer_metrics.rs"),
    ("shadow", "routers.rs"),
    ("speed", "answer_metrics.rs"),
    ("taylor", "scoring_formulas.rs"),
    ("wanda", "scoring_formulas.rs"),
    ("weighted-split", "routers.rs"),
];

/// Their names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    GUESTS.iter().map(|(name, _)| *name)
}

/// The folder of the built guests.
fn folder() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/components");
    std::env::var_os(DIRECTORY_VARIABLE).map_or_else(default, PathBuf::from)
}

/// The bytes of a built guest.
pub(crate) fn bytes(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.wasm"));
    fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "the guest {} cannot be read ({error}): build the guests with `cargo xtask setup`",
            path.display()
        )
    })
}

pub(crate) fn host() -> Host {
    Host::new(HostConfig::default()).unwrap()
}

pub(crate) fn load(host: &Host, name: &str) -> Result<Component, ComponentError> {
    host.load(name, &bytes(name), None)
}

pub(crate) fn policy(host: &Host, name: &str) -> ScoringPolicy {
    ScoringPolicy::new(load(host, name).unwrap()).unwrap()
}

pub(crate) fn router(host: &Host, name: &str) -> RequestRouter {
    configured(host, name, &[]).unwrap()
}

/// A router with a configuration.
pub(crate) fn configured(
    host: &Host,
    name: &str,
    settings: &[(&str, &str)],
) -> Result<RequestRouter, ComponentError> {
    RequestRouter::new(load(host, name)?, &configuration(settings))
}

pub(crate) fn configuration(settings: &[(&str, &str)]) -> Configuration {
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Configuration::new(settings.collect()).unwrap()
}

pub(crate) fn metric(host: &Host, name: &str) -> EvaluationMetric {
    EvaluationMetric::new(load(host, name).unwrap()).unwrap()
}

/// A model of two layers with four heads of two channels and six FFN channels.
pub(crate) fn facts(architecture: &str) -> Arc<ModelFacts> {
    let parameters = BTreeMap::from([(Unit::Head, 64), (Unit::FfnChannel, 24)]);
    let layer = LayerFacts {
        heads: 4,
        kv_heads: 2,
        ffn_size: 6,
        experts: 0,
        active_experts: 0,
        sliding_window: None,
        attention_sinks: false,
        parameters_per_unit: parameters,
    };
    Arc::new(ModelFacts {
        architecture: architecture.to_owned(),
        hidden_size: 8,
        vocab_size: 100,
        head_dim: 2,
        layers: vec![layer.clone(), layer],
    })
}

/// An idle variant.
pub(crate) fn variant(name: &str) -> VariantStatus {
    VariantStatus { name: name.to_owned(), accepts: true, ..VariantStatus::default() }
}

/// The component with an empty custom section at its end: other bytes, the same behaviour.
pub(crate) fn with_other_bytes(mut component: Vec<u8>) -> Vec<u8> {
    component.extend([0, 2, 1, b'x']);
    component
}

#[test]
fn every_guest_has_a_test() {
    let mut found: Vec<String> = fs::read_dir(folder())
        .expect("build the guests with `cargo xtask setup`")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    let mut known: Vec<_> = GUESTS.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(found, known, "each built guest must be listed here and tested");
    for (guest, file) in GUESTS {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(file);
        let text = fs::read_to_string(&source).unwrap();
        assert!(text.contains(&format!("\"{guest}\"")), "{file} does not test {guest}");
    }
}
