//! Gradients of the loss for pruning policies: what a small change of a head or a channel would do.
//!
//! They go with the activations of the same layers and tokens that the serving path shows as `head-output` and
//! `ffn-activation`: a first-order estimate of taking out a unit is `Σ a · ∂L/∂a` over its values, and a diagonal Fisher
//! estimate sums its squares window by window.

use espalier_kernels::Tensor;

use crate::batch::Batch;
use crate::error::TrainingError;
use crate::network::Network;
use crate::objective::Objective;

/// Name of the gradient by the heads' outputs, in WIT, plans and reports.
pub const HEAD_OUTPUT_GRADIENT: &str = "head-output-gradient";
/// Name of the gradient by the gated FFN activation.
pub const FFN_ACTIVATION_GRADIENT: &str = "ffn-activation-gradient";

/// The gradients of one layer, for the tokens of one window.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerGradients {
    /// By the heads' outputs side by side, the input of `o_proj`: `[tokens, heads * head_dim]`.
    pub head_output: Tensor,
    /// By the gated FFN activation, the input of `down_proj`: `[tokens, ffn_size]`. Dense layers have it.
    pub ffn_activation: Option<Tensor>,
}

/// The gradients of one window's loss, first layer first.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowGradients {
    /// Mean negative log-probability of the window's tokens but the first, in nats.
    pub loss: f64,
    /// One entry for each layer.
    pub layers: Vec<LayerGradients>,
}

impl Network {
    /// Runs one window of tokens forwards and backwards. The loss is the mean over its predicted tokens, the choice of
    /// experts is constant, and memory holds the inner activations of one layer at a time.
    ///
    /// # Errors
    /// A window of less than two tokens, or one that contradicts the model.
    pub fn window_gradients(&self, tokens: &[u32]) -> Result<WindowGradients, TrainingError> {
        let batch = Batch::new(&[tokens.to_vec()])?;
        let (loss, layers) = self.activation_gradients(&batch, &Objective::CrossEntropy)?;
        Ok(WindowGradients { loss, layers })
    }
}
