//! Cost and latency target: the best variant that meets the target answers.
//!
//! Settings: `milliseconds-per-token` and `cost`, the most that a token may take and cost (one of the two at least);
//! `costs`, for example `original:1, small:0.6`, else a variant costs its share of the active parameters of the largest one;
//! `qualities`, for example `original:1, small:0.9`, else a variant is worth its parameters; `explore`, by default 0.02.
//!
//! Rule: of the variants whose cost is within the target and whose recent time per token is (one that has decoded nothing
//! yet counts as fast) the best answers, and where its queue is full the next best. After them come the others: first
//! those within the cost, the fastest first, then the cheapest first. A variant that nobody uses is measured by nobody, so
//! a share of the requests, `explore`, goes to the best variant within the cost whatever its time was. The rule is this
//! project's own.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use espalier_request_router::{
    Choice, Guest, Identity, Request, Setting, Settings, VariantStatus, fraction, identity,
};

struct CostLatencyTarget;

struct Target {
    milliseconds: f64,
    cost: f64,
    costs: BTreeMap<String, f64>,
    qualities: BTreeMap<String, f64>,
    explore: f64,
}

/// A variant as the target sees it.
struct Candidate {
    index: usize,
    within_cost: bool,
    within_time: bool,
    milliseconds: f64,
    cost: f64,
    quality: f64,
}

static TARGET: OnceLock<Target> = OnceLock::new();

impl Guest for CostLatencyTarget {
    fn describe() -> Identity {
        identity!()
    }

    fn configure(settings: Vec<Setting>) -> Result<(), String> {
        let mut settings = Settings::new(settings);
        let milliseconds = settings.number("milliseconds-per-token", 0.0..=f64::MAX)?;
        let cost = settings.number("cost", 0.0..=f64::MAX)?;
        if milliseconds.is_none() && cost.is_none() {
            return Err("found neither milliseconds-per-token nor cost, expected a target".to_owned());
        }
        let target = Target {
            milliseconds: milliseconds.unwrap_or(f64::INFINITY),
            cost: cost.unwrap_or(f64::INFINITY),
            costs: settings.numbers("costs", 0.0..=f64::MAX)?,
            qualities: settings.numbers("qualities", 0.0..=f64::MAX)?,
            explore: settings.number("explore", 0.0..=1.0)?.unwrap_or(0.02),
        };
        settings.finish(&["milliseconds-per-token", "cost", "costs", "qualities", "explore"])?;
        TARGET.set(target).map_err(|_| "was configured before".to_owned())
    }

    fn route(request: Request, variants: Vec<VariantStatus>) -> Result<Choice, String> {
        let target = TARGET.get().ok_or("was not configured")?;
        let explores = fraction(request.draw) < target.explore;
        let mut candidates = target.candidates(&variants);
        candidates.sort_by(|a, b| order(a, b, explores));
        Ok(Choice::in_order(candidates.into_iter().map(|candidate| candidate.index)))
    }
}

impl Target {
    fn candidates(&self, variants: &[VariantStatus]) -> Vec<Candidate> {
        let dearest = variants.iter().map(|variant| variant.active_parameters).max().unwrap_or(0).max(1);
        let candidate = |(index, variant): (usize, &VariantStatus)| {
            let milliseconds = variant.milliseconds_per_token.map_or(0.0, f64::from);
            let share = variant.active_parameters as f64 / dearest as f64;
            let cost = self.costs.get(&variant.name).copied().unwrap_or(share);
            let quality = self.qualities.get(&variant.name).copied();
            Candidate {
                index,
                within_cost: cost <= self.cost,
                within_time: milliseconds <= self.milliseconds,
                milliseconds,
                cost,
                quality: quality.unwrap_or(variant.parameters as f64),
            }
        };
        variants.iter().enumerate().map(candidate).collect()
    }
}

/// Who is asked first. Of equals the model's first variant is.
fn order(a: &Candidate, b: &Candidate, explores: bool) -> Ordering {
    let meets = |candidate: &Candidate| candidate.within_cost && (candidate.within_time || explores);
    let targets = meets(b).cmp(&meets(a)).then(b.within_cost.cmp(&a.within_cost));
    let among_equals = match (meets(a), a.within_cost) {
        (true, _) => b.quality.total_cmp(&a.quality),
        (false, true) => a.milliseconds.total_cmp(&b.milliseconds),
        (false, false) => a.cost.total_cmp(&b.cost),
    };
    targets.then(among_equals).then(a.index.cmp(&b.index))
}

espalier_request_router::export!(CostLatencyTarget);
