//! What a writer is to write.

use std::collections::HashMap;

use espalier_kernels::WeightFormat;

use crate::error::ModelError;
use crate::spec::ModelSpec;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPlan {
    /// HF name.
    pub name: String,
    /// Format of its values; HF directories hold F32, F16 and Bf16, and Mxfp4 for gpt-oss's experts; GGUF files all.
    pub format: WeightFormat,
    /// Sides, slowest first.
    pub shape: Vec<usize>,
}

impl ModelSpec {
    /// Whether `tensors` are exactly those of [`ModelSpec::tensors`], in any order.
    ///
    /// # Errors
    /// The first that is missing, there twice, unknown, or of another shape.
    pub fn check_plan(&self, tensors: &[TensorPlan]) -> Result<(), ModelError> {
        let mut missing: HashMap<String, Vec<usize>> =
            self.tensors().into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
        for plan in tensors {
            match missing.remove(&plan.name) {
                Some(expected) if expected == plan.shape => {}
                Some(expected) => {
                    return Err(ModelError::TensorShape {
                        name: plan.name.clone(),
                        found: plan.shape.clone(),
                        expected,
                    });
                }
                None => {
                    return Err(ModelError::argument(
                        "planned tensor",
                        &plan.name,
                        "each tensor of the model once",
                    ));
                }
            }
        }
        match missing.into_iter().min() {
            Some((name, expected)) => Err(ModelError::MissingTensor { name, expected }),
            None => Ok(()),
        }
    }
}
