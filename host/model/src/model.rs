//! A loaded model: weights in the shape that the kernels want, ready for [`Model::forward`].
//!
//! Weights are views of the checkpoint's memory map wherever the format allows it, so loading costs neither a copy nor
//! resident memory for them until they are used; a CUDA device gets a copy. A `Model` is immutable and shared by everything that runs it.

use espalier_kernels::{Cpu, Device, Matrix};

use crate::checkpoint::Checkpoint;
use crate::cuda;
use crate::error::ModelError;
use crate::forward::rope::RotaryTable;
use crate::spec::ModelSpec;
use crate::weights::{Layer, Source};

/// The weights of a transformer and the device that runs them.
pub struct Model {
    pub(crate) spec: ModelSpec,
    device: Device,
    pub(crate) cpu: Cpu,
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) final_norm: Vec<f32>,
    pub(crate) head: Matrix,
    pub(crate) rotary: RotaryTable,
    weight_bytes: u64,
    /// The weights once more, where the model runs on a CUDA device.
    pub(crate) cuda: Option<cuda::Weights>,
}

impl Model {
    /// Takes the weights out of `checkpoint`, and sends them to the CUDA device if there is one in `device`.
    ///
    /// # Errors
    /// A tensor that is missing or whose shape contradicts the specification, by name and with both shapes; weights that
    /// don't fit the device.
    pub fn load(checkpoint: &Checkpoint, device: impl Into<Device>) -> Result<Self, ModelError> {
        let device = device.into();
        let cpu = device.cpu().clone();
        let spec = checkpoint.spec().clone();
        let source = Source { checkpoint, spec: &spec };
        let embedding = source.matrix("model.embed_tokens.weight", spec.vocab_size, spec.hidden_size)?;
        let head = if spec.tie_word_embeddings {
            embedding.clone()
        } else {
            source.matrix("lm_head.weight", spec.vocab_size, spec.hidden_size)?
        };
        let layers = spec
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| source.layer(index, layer))
            .collect::<Result<Vec<_>, _>>()?;
        let final_norm = source.vector("model.norm.weight", spec.hidden_size)?;
        let rotary = RotaryTable::new(&spec.rope, spec.head_dim);
        let weight_bytes = checkpoint.tensors().map(|tensor| tensor.byte_len() as u64).sum();
        let cuda = None;
        let mut model =
            Self { device, cpu, embedding, layers, final_norm, head, rotary, weight_bytes, cuda, spec };
        if let Some(cuda) = model.device.cuda() {
            model.cuda = Some(cuda::Weights::upload(&model, cuda.fork()?)?);
        }
        Ok(model)
    }

    /// The shape of the model.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The processor.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// Bytes of all weights as stored; a tied head counts once.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}
