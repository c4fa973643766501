//! Weighted split: each variant gets requests in proportion to its weight, and a session stays with its variant.
//!
//! Setting `weights`: `original:9, small:1`. A variant without a weight gets nothing; without the setting all weigh the same.
//!
//! Rule: with h(s, v) uniform in (0, 1), a hash of session and variant, the variant with the least -ln h(s, v) / w(v)
//! answers, the one with the second least where it can't, and so on. Of independent exponential times with rates w the
//! first is that of v with probability w(v) / Σ w. Changing one weight, or adding or removing a variant, moves only the
//! sessions that must move. A request without a session is drawn afresh.
//!
//! Source: rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM
//! Transactions on Networking 6(1), 1998) with the logarithmic method for weights (Schindelhauer and Schomaker, "Weighted
//! distributed hash tables", SPAA 2005). The mixer is the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use espalier_request_router::{
    Choice, Guest, Identity, Request, Setting, Settings, VariantStatus, fraction, identity,
};

struct WeightedSplit;

/// By variant; empty where all weigh the same.
static WEIGHTS: OnceLock<BTreeMap<String, f64>> = OnceLock::new();

impl Guest for WeightedSplit {
    fn describe() -> Identity {
        identity!()
    }

    fn configure(settings: Vec<Setting>) -> Result<(), String> {
        let mut settings = Settings::new(settings);
        let weights = settings.numbers("weights", 0.0..=1e9)?;
        settings.finish(&["weights"])?;
        if !weights.is_empty() && weights.values().all(|weight| *weight == 0.0) {
            return Err("weights: found only 0, expected one above it".to_owned());
        }
        WEIGHTS.set(weights).map_err(|_| "was configured before".to_owned())
    }

    fn route(request: Request, variants: Vec<VariantStatus>) -> Result<Choice, String> {
        let key = request.session.unwrap_or(request.draw);
        let mut times: Vec<(usize, f64)> = variants
            .iter()
            .enumerate()
            .map(|(index, variant)| (index, time(key, &variant.name, weight(&variant.name))))
            .filter(|(_, time)| time.is_finite())
            .collect();
        if times.is_empty() {
            return Err("no variant with a weight is loaded".to_owned());
        }
        times.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        Ok(Choice::in_order(times.into_iter().map(|(index, _)| index)))
    }
}

fn weight(variant: &str) -> f64 {
    match WEIGHTS.get() {
        Some(weights) if !weights.is_empty() => weights.get(variant).copied().unwrap_or(0.0),
        _ => 1.0,
    }
}

/// -ln h / w; infinite for a variant that weighs nothing.
fn time(key: u64, variant: &str, weight: f64) -> f64 {
    if weight <= 0.0 {
        return f64::INFINITY;
    }
    let hash = mix(variant.bytes().fold(mix(key), |hash, byte| mix(hash ^ u64::from(byte))));
    // Above 0, so that the logarithm is finite.
    let uniform = fraction(hash) + f64::EPSILON / 4.0;
    -uniform.ln() / weight
}

/// The finalizer of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

espalier_request_router::export!(WeightedSplit);
