//! Perplexity-greedy: layers go in the order in which the model bears it best.
//!
//! In each round every layer that is left is taken out on trial, and the one without which the loss on the calibration text
//! is lowest goes for good (Song et al., "SLEB", arXiv 2402.09025; Zhong et al., "BlockPruner", arXiv 2406.10594). The
//! score of a layer is the number of its round. Half of the layers are decided this way; the others follow in the order
//! of their loss in the last round. For L layers that is some 3/8·L² passes over the calibration text, so choose few
//! windows: unlike similarity scores it sees what layers do together.

use std::cell::RefCell;

use espalier_scoring_policy::{
    Ablated, Description, Guest, GuestJob, Job, ModelShape, ScoredUnit, Traces, Unit, ablation, identity,
};

struct PerplexityGreedy;

impl Guest for PerplexityGreedy {
    type Job = Search;

    fn describe() -> Description {
        Description { identity: identity!(), units: vec![ScoredUnit::ablating(Unit::Layer)] }
    }
}

/// One search over the layers of a model.
struct Search {
    layers: u32,
    /// The layers, those that go first in front; empty until the first question.
    order: RefCell<Vec<u32>>,
}

impl GuestJob for Search {
    fn begin(shape: ModelShape, _units: Vec<Unit>) -> Result<Job, String> {
        let layers = u32::try_from(shape.layers.len()).map_err(|_| "too many layers")?;
        Ok(Job::new(Self { layers, order: RefCell::default() }))
    }

    fn observe(&self, _layer: u32, _traces: &Traces) -> Result<(), String> {
        Ok(())
    }

    fn scores(&self, layer: u32, _unit: Unit) -> Result<Vec<f64>, String> {
        let mut order = self.order.borrow_mut();
        if order.is_empty() {
            *order = removal_order(self.layers)?;
        }
        let round = order.iter().position(|gone| *gone == layer).ok_or("a layer that was not tried")?;
        Ok(vec![round as f64])
    }
}

fn removal_order(layers: u32) -> Result<Vec<u32>, String> {
    let mut gone: Vec<Ablated> = Vec::new();
    let mut order: Vec<u32> = Vec::new();
    let rounds = layers.div_ceil(2);
    loop {
        let mut losses = Vec::new();
        for layer in (0..layers).filter(|layer| !order.contains(layer)) {
            gone.push(Ablated { layer, unit: Unit::Layer, index: 0 });
            losses.push((ablation::loss(&gone)?, layer));
            gone.pop();
        }
        losses.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let decided = if order.len() as u32 + 1 < rounds { 1 } else { losses.len() };
        for (_, layer) in losses.into_iter().take(decided) {
            gone.push(Ablated { layer, unit: Unit::Layer, index: 0 });
            order.push(layer);
        }
        if order.len() as u32 >= layers {
            return Ok(order);
        }
    }
}

espalier_scoring_policy::export!(PerplexityGreedy);
