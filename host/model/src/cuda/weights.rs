//! A model's weights in the memory of a CUDA device.

use espalier_kernels::{Cpu, Cuda, CudaBuffer, CudaMatrix, Matrix};

use crate::error::ModelError;
use crate::model::Model;
use crate::weights::{FeedForward, GatedNetwork, Layer, Linear};

/// All weights of a model, and the handle to the device that holds them.
pub(crate) struct CudaWeights {
    pub(super) cuda: Cuda,
    pub(super) embedding: CudaMatrix,
    /// Where it is another matrix than the embedding.
    pub(super) head: Option<CudaMatrix>,
    pub(super) final_norm: CudaBuffer<f32>,
    pub(super) layers: Vec<CudaLayer>,
}

/// One layer's weights.
pub(super) struct CudaLayer {
    pub(super) attention_norm: CudaBuffer<f32>,
    pub(super) query: CudaLinear,
    pub(super) key: CudaLinear,
    pub(super) value: CudaLinear,
    pub(super) attention_output: CudaLinear,
    pub(super) sinks: Option<CudaBuffer<f32>>,
    pub(super) ffn_norm: CudaBuffer<f32>,
    pub(super) feed_forward: CudaFeedForward,
}

/// A layer's feed-forward part: one network, or a router and the networks of all experts, one below the other.
pub(super) struct CudaFeedForward {
    pub(super) router: Option<CudaRouter>,
    pub(super) gate: CudaLinear,
    pub(super) up: CudaLinear,
    pub(super) down: CudaLinear,
}

/// The router of a mixture of experts.
pub(super) struct CudaRouter {
    pub(super) linear: CudaLinear,
    pub(super) active: usize,
}

/// A matrix and its bias, if it has one.
pub(super) struct CudaLinear {
    pub(super) weight: CudaMatrix,
    pub(super) bias: Option<CudaBuffer<f32>>,
}

/// Sends weights.
struct Upload<'a> {
    cpu: &'a Cpu,
    cuda: &'a Cuda,
}

impl CudaWeights {
    /// Sends all weights of a loaded model to the device, where they must fit beside what is there.
    pub(crate) fn upload(model: &Model, cuda: Cuda) -> Result<Self, ModelError> {
        let upload = Upload { cpu: &model.cpu, cuda: &cuda };
        let (needed, (free, total)) = (model.weight_bytes(), cuda.memory()?);
        if needed > free as u64 {
            let expected = format!("at most {free}, what is free of {total} on {cuda:?}");
            return Err(ModelError::argument("bytes of weights", needed, expected));
        }
        let embedding = upload.matrix(&model.embedding)?;
        let head = (!model.spec.tie_word_embeddings).then(|| upload.matrix(&model.head)).transpose()?;
        let final_norm = cuda.upload(&model.final_norm)?;
        let layers = model.layers.iter().map(|layer| upload.layer(layer)).collect::<Result<_, _>>()?;
        // They are read in other streams from now on.
        cuda.synchronize()?;
        Ok(Self { embedding, head, final_norm, layers, cuda })
    }
}

impl Upload<'_> {
    fn matrix(&self, matrix: &Matrix) -> Result<CudaMatrix, ModelError> {
        Ok(self.cuda.matrix(self.cpu, &[matrix])?)
    }

    fn linear(&self, linear: &Linear) -> Result<CudaLinear, ModelError> {
        let bias = linear.bias.as_ref().map(|bias| self.cuda.upload(bias)).transpose()?;
        Ok(CudaLinear { weight: self.matrix(&linear.weight)?, bias })
    }

    fn layer(&self, layer: &Layer) -> Result<CudaLayer, ModelError> {
        let sinks = layer.sinks.as_ref().map(|sinks| self.cuda.upload(sinks));
        Ok(CudaLayer {
            attention_norm: self.cuda.upload(&layer.attention_norm)?,
            query: self.linear(&layer.query)?,
            key: self.linear(&layer.key)?,
            value: self.linear(&layer.value)?,
            attention_output: self.linear(&layer.attention_output)?,
            sinks: sinks.transpose()?,
            ffn_norm: self.cuda.upload(&layer.ffn_norm)?,
            feed_forward: self.feed_forward(&layer.feed_forward)?,
        })
    }

    fn feed_forward(&self, part: &FeedForward) -> Result<CudaFeedForward, ModelError> {
        match part {
            FeedForward::Dense(network) => Ok(CudaFeedForward {
                router: None,
                gate: self.linear(&network.gate)?,
                up: self.linear(&network.up)?,
                down: self.linear(&network.down)?,
            }),
            FeedForward::Experts { router, experts, active } => Ok(CudaFeedForward {
                router: Some(CudaRouter { linear: self.linear(router)?, active: *active }),
                gate: self.stacked(experts, |expert| &expert.gate)?,
                up: self.stacked(experts, |expert| &expert.up)?,
                down: self.stacked(experts, |expert| &expert.down)?,
            }),
        }
    }

    /// One projection of all experts.
    fn stacked(
        &self,
        experts: &[GatedNetwork],
        part: impl Fn(&GatedNetwork) -> &Linear,
    ) -> Result<CudaLinear, ModelError> {
        let matrices: Vec<&Matrix> = experts.iter().map(|expert| &part(expert).weight).collect();
        let weight = self.cuda.matrix(self.cpu, &matrices)?;
        let biases: Vec<f32> = experts
            .iter()
            .flat_map(|expert| part(expert).bias.as_deref().unwrap_or_default())
            .copied()
            .collect();
        Ok(CudaLinear { weight, bias: Some(self.cuda.upload(&biases)?) })
    }
}
