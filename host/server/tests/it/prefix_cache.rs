//! Prompts that begin alike, over HTTP: what is computed, what the metrics and the usage say of it.

use espalier_engine::EngineConfig;
use serde_json::{Value, json};

use crate::host::{Host, MODEL, Setup};

const SHARED: usize = 400;
const REQUESTS: u32 = 50;

fn host(prefix_cache: bool) -> Host {
    let setup = Setup::default();
    let config = EngineConfig { prefix_cache, max_model_len: Some(1024), ..setup.config.clone() };
    Host::with(Setup { config, ..setup })
}

fn body(own: u32) -> Value {
    let tokens: Vec<u32> =
        (0..SHARED as u32).map(|index| index * 37 % 250).chain([own, own + 1, 9]).collect();
    json!({"model": MODEL, "prompt": tokens, "max_tokens": 4, "seed": own})
}

fn answers(host: &Host) -> Vec<Value> {
    let answer = |own| host.post("/v1/completions", &body(own)).success();
    (0..REQUESTS).map(|own| answer(own)["choices"].clone()).collect()
}

#[test]
fn a_shared_beginning_is_computed_once_and_the_metrics_say_so() {
    let (with, without) = (host(true), host(false));
    assert_eq!(answers(&with), answers(&without));
    let ours = r#"{generation="1",model="tiny",variant="original"}"#;
    let computed = |host: &Host| host.series(&format!("espalier_prompt_tokens_total{ours}"));
    assert_eq!(computed(&without), f64::from(REQUESTS) * 403.0);
    assert!(computed(&with) <= 0.15 * computed(&without), "{} were computed", computed(&with));
    let cached = with.series(&format!("espalier_prompt_tokens_cached_total{ours}"));
    assert_eq!(cached + computed(&with), computed(&without));
    let theirs = r#"{engine="1",model_name="tiny"}"#;
    assert_eq!(with.series(&format!("vllm:prefix_cache_hits_total{theirs}")), cached);
    assert_eq!(with.series(&format!("vllm:prefix_cache_queries_total{theirs}")), computed(&without));
    assert_eq!(without.series(&format!("vllm:prefix_cache_queries_total{theirs}")), 0.0);
    assert_eq!(with.series(&format!("vllm:prompt_tokens_total{theirs}")), computed(&without));
    let blocks = |host: &Host, state| {
        let labels = format!(r#"{{generation="1",model="tiny",state="{state}",variant="original"}}"#);
        host.series(&format!("espalier_kv_cache_blocks{labels}"))
    };
    assert!(blocks(&with, "cached") > 0.0 && blocks(&without, "cached") == 0.0);
}

#[test]
fn the_usage_says_what_was_cached_and_a_salt_keeps_apart() {
    let host = host(true);
    let cached = |own: u32, more: &[(&str, Value)]| {
        let mut body = body(own);
        more.iter().for_each(|(field, value)| body[*field] = value.clone());
        let usage = host.post("/v1/completions", &body).success()["usage"].clone();
        assert_eq!(usage["prompt_tokens"], SHARED + 3);
        usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() as usize
    };
    assert_eq!(cached(1, &[]), 0);
    let blocks = SHARED / 32 * 32;
    assert_eq!(cached(5, &[("n", json!(3)), ("priority", json!(-1)), ("user", json!("me"))]), blocks);
    assert_eq!(cached(7, &[("cache_salt", json!("mine"))]), 0);
    assert_eq!(cached(9, &[("cache_salt", json!("mine"))]), blocks);
}
