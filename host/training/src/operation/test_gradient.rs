//! Holding a derivative to the differences of its function.

use candle_core::{Tensor, Var};

use super::{seed::backward_from, values};

/// Smooth values between -1.3 and 1.3 that repeat nowhere in a small tensor.
pub(crate) fn wave(shape: &[usize], phase: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |index: usize| 1.3 * ((index * 7 + phase * 13) as f32 * 0.737 + phase as f32).sin();
    values::tensor((0..count).map(value).collect(), shape).unwrap()
}

/// Asserts that the gradients of `Σ weight · function(inputs)` are its central differences.
pub(crate) fn assert_gradients(inputs: &[Tensor], function: impl Fn(&[Tensor]) -> Tensor) {
    let variables: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let tracked: Vec<Tensor> = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
    let output = function(&tracked);
    let weights = wave(output.dims(), 11);
    let gradients = backward_from(&output, &weights).unwrap();
    let weights = values::to_vec(&weights).unwrap();
    let loss = |inputs: &[Tensor]| {
        let output = values::to_vec(&function(inputs)).unwrap();
        output.iter().zip(&weights).map(|(value, weight)| f64::from(*value) * f64::from(*weight)).sum::<f64>()
    };
    const STEP: f32 = 1.0 / 128.0;
    for (place, input) in inputs.iter().enumerate() {
        let found = values::to_vec(gradients.get(&tracked[place]).unwrap()).unwrap();
        let mut moved = values::to_vec(input).unwrap();
        for (index, found) in found.iter().enumerate() {
            let mut loss_at = |step: f32| {
                let before = moved[index];
                moved[index] += step;
                let mut inputs = inputs.to_vec();
                inputs[place] = values::tensor(moved.clone(), input.shape().clone()).unwrap();
                moved[index] = before;
                loss(&inputs)
            };
            let expected = ((loss_at(STEP) - loss_at(-STEP)) / f64::from(2.0 * STEP)) as f32;
            let limit = 2e-3 * (1.0 + expected.abs());
            assert!(
                (found - expected).abs() <= limit,
                "input {place}, value {index}: {found}, expected {expected}"
            );
        }
    }
}
