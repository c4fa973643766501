//! What a pass over calibration text adds up: 64-bit sums in the guest of the small vectors that tensors were reduced to.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::{ModelShape, Tensor};

/// Weighted sums of one vector for each layer.
#[derive(Default)]
pub struct Sums(RefCell<BTreeMap<u32, Sum>>);

/// The sum of one layer.
#[derive(Clone, Default)]
pub struct Sum {
    /// Element by element, the sum of what was added.
    pub values: Vec<f64>,
    /// The sum of the weights, for example of tokens.
    pub weight: f64,
}

impl Sums {
    /// Adds the values of one sequence, which count `weight`.
    pub fn add(&self, layer: u32, values: &[f64], weight: f64) {
        let mut sums = self.0.borrow_mut();
        let sum = sums.entry(layer).or_default();
        sum.values.resize(values.len().max(sum.values.len()), 0.0);
        sum.values.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        sum.weight += weight;
    }

    /// What was added for a layer.
    pub fn of(&self, layer: u32) -> Result<Sum, String> {
        self.0.borrow().get(&layer).cloned().ok_or_else(|| format!("layer {layer} was never observed"))
    }
}

impl Sum {
    /// The values by the weight; zeros where nothing has weight.
    pub fn mean(&self) -> Vec<f64> {
        self.values.iter().map(|value| if self.weight == 0.0 { 0.0 } else { value / self.weight }).collect()
    }
}

/// The values of a tensor that was reduced to a few.
pub fn values(tensor: &Tensor) -> Result<Vec<f64>, String> {
    Ok(tensor.read()?.into_iter().map(f64::from).collect())
}

/// The sum of the heads' values in each key/value group of a layer.
pub fn by_group(heads: &[f64], shape: &ModelShape, layer: u32) -> Vec<f64> {
    let groups = shape.layers.get(layer as usize).map_or(0, |layer| layer.kv_heads as usize);
    let heads_per_group = heads.len().checked_div(groups).unwrap_or(0).max(1);
    heads.chunks(heads_per_group).map(|group| group.iter().sum()).collect()
}

/// The sum of the channels' values in each head.
pub fn by_head(channels: &[f64], shape: &ModelShape) -> Vec<f64> {
    channels.chunks(shape.head_dim.max(1) as usize).map(|head| head.iter().sum()).collect()
}

/// Distances from the mean in standard deviations of the population; zeros where there is no deviation.
pub fn standardised(values: &[f64]) -> Vec<f64> {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    values.iter().map(|value| if deviation == 0.0 { 0.0 } else { (value - mean) / deviation }).collect()
}
