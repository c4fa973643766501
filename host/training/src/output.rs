//! Trained weights as an ordinary Hugging Face directory.
//!
//! What did not change keeps its bytes if it keeps its format, MXFP4 included. The directory appears complete or not at all.

use std::path::Path;

use espalier_kernels::{WeightFormat, dequantize, quantize};
use espalier_model::{
    Checkpoint, ModelError, ModelSpec, Shapes, TensorBytes, TensorPlan, TensorSpec, TokenizerFiles,
    write_hugging_face_in_parts,
};

use rayon::prelude::*;

use crate::error::TrainingError;
use crate::network::Adapter;
use crate::parameters::Parameters;

/// The number formats of a written model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputFormats {
    /// Of everything but experts' matrices; `None` keeps each tensor's own, or bf16 where a directory cannot hold it.
    pub dtype: Option<WeightFormat>,
    /// Of experts' matrices; `None` likewise.
    pub experts: Option<WeightFormat>,
}

impl OutputFormats {
    /// The format of a tensor that was stored as `source`, if it was.
    #[must_use]
    pub fn of(&self, tensor: &TensorSpec, source: Option<WeightFormat>) -> WeightFormat {
        let of_experts = is_matrix_of_experts(&tensor.name);
        let wanted = if of_experts { self.experts.or(self.dtype) } else { self.dtype };
        let storable = |format: &WeightFormat| match format {
            WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16 => true,
            WeightFormat::Mxfp4 => of_experts,
            _ => false,
        };
        wanted.or(source.filter(storable)).unwrap_or(WeightFormat::Bf16)
    }
}

fn is_matrix_of_experts(name: &str) -> bool {
    name.contains(".mlp.experts.") && name.ends_with(".weight")
}

/// A trained model, on its way to the disk.
#[derive(Clone, Copy, Debug)]
pub struct TrainedModel<'a> {
    /// Its shape.
    pub spec: &'a ModelSpec,
    /// Its tokenizer.
    pub tokenizer_files: &'a TokenizerFiles,
    /// All weights.
    pub parameters: &'a Parameters,
    /// What is merged into them.
    pub adapter: Option<&'a Adapter>,
    /// What it was trained from, if it was there before.
    pub source: Option<&'a Checkpoint>,
    /// The formats to write.
    pub formats: OutputFormats,
}

impl TrainedModel<'_> {
    /// Writes the model into the new directory `directory`.
    ///
    /// # Errors
    /// A directory that is not empty, a value that its format would lose, the disk.
    pub fn write(&self, directory: &Path) -> Result<(), TrainingError> {
        let plans = self.plans();
        let mut produce = |plan: &TensorPlan,
                           part: std::ops::Range<usize>|
         -> Result<TensorBytes, ModelError> { self.produce(plan, &part) };
        // A pruned model may have layers that only this program reads; it is no different after training.
        let (spec, files) = (self.spec, self.tokenizer_files);
        Ok(write_hugging_face_in_parts(directory, spec, files, &plans, Shapes::PerLayer, &mut produce)?)
    }

    fn plans(&self) -> Vec<TensorPlan> {
        let tensors = self.spec.tensors().into_iter().map(|tensor| {
            let source = self.source.and_then(|source| source.tensor(&tensor.name).ok());
            let format = self.formats.of(&tensor, source.map(|source| source.format));
            TensorPlan { name: tensor.name, format, shape: tensor.shape }
        });
        tensors.collect()
    }

    fn produce(&self, plan: &TensorPlan, part: &std::ops::Range<usize>) -> Result<TensorBytes, ModelError> {
        let as_model_error = |error: TrainingError| match error {
            TrainingError::Model(error) => error,
            other => ModelError::argument(format!("tensor {}", plan.name), other, "trained values"),
        };
        let trains = !self.parameters.trainable().is_empty();
        let source = self.source.and_then(|source| source.tensor(&plan.name).ok());
        let changed = trains || self.adapter.is_some_and(|adapter| adapter.changes(&plan.name));
        if let Some(source) = source.filter(|source| !changed && source.format == plan.format) {
            return Ok(source.slice(part.clone())?.bytes()?.into());
        }
        let mut values = self.parameters.values(&plan.name).map_err(as_model_error)?;
        if let Some(adapter) = self.adapter
            && let Some(merged) = adapter.merged(&plan.name, &values).map_err(as_model_error)?
        {
            values = merged;
        }
        let row: usize = plan.shape.iter().skip(1).product();
        let values = values.get(part.start * row..part.end * row).unwrap_or_default();
        check(plan, values)?;
        let mut bytes = Vec::new();
        quantize(plan.format, values, &mut bytes)?;
        Ok(bytes.into())
    }
}

/// The values must survive their format.
fn check(plan: &TensorPlan, values: &[f32]) -> Result<(), ModelError> {
    let limit = if plan.format == WeightFormat::F16 { 65_504.0 } else { f32::MAX };
    match values.iter().enumerate().find(|(_, value)| value.is_nan() || value.abs() > limit) {
        Some((index, &value)) => {
            let what = format!("value {index} of tensor {}", plan.name);
            Err(ModelError::argument(what, value, format!("at most {limit} in {}", plan.format.name())))
        }
        None => Ok(()),
    }
}

/// Values that one thread rounds at once; a multiple of every format's block.
const PIECE: usize = 1 << 14;

/// The values that `format` makes of `values`: what a model computes with once it is written.
///
/// # Errors
/// A format that nothing is quantised to, values that are not whole blocks.
pub fn rounded(format: WeightFormat, values: &[f32]) -> Result<Vec<f32>, TrainingError> {
    let mut rounded = vec![0.0; values.len()];
    let pieces = rounded.par_chunks_mut(PIECE).zip(values.par_chunks(PIECE));
    pieces.try_for_each(|(rounded, values)| {
        let mut bytes = Vec::new();
        quantize(format, values, &mut bytes)?;
        dequantize(format, &bytes, rounded)
    })?;
    Ok(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_what_writing_and_reading_does() {
        let values: Vec<f32> = (0..40_000).map(|value| (value as f32 * 0.37).sin()).collect();
        let (mut bytes, mut expected) = (Vec::new(), vec![0.0; values.len()]);
        quantize(WeightFormat::Mxfp4, &values, &mut bytes).unwrap();
        dequantize(WeightFormat::Mxfp4, &bytes, &mut expected).unwrap();
        assert_eq!(rounded(WeightFormat::Mxfp4, &values).unwrap(), expected);
        assert_eq!(rounded(WeightFormat::F32, &values).unwrap(), values);
    }
}
