//! The loss of a batch and its gradients: forwards through all layers, then backwards layer by layer.
//!
//! Each layer is a graph of its own. Its input is kept, and its graph either too or, with activation checkpointing, built
//! again when the backward pass comes to it: then memory holds the inner activations of one layer instead of all, for the
//! price of a second forward pass. Logits exist for a piece of the rows at a time.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, TensorId, Var};

use crate::batch::Batch;
use crate::cancellation::Cancellation;
use crate::error::TrainingError;
use crate::gradient_probes::LayerGradients;
use crate::gradient_sum::GradientSum;
use crate::network::{Layer, Network, Taps};
use crate::objective::Objective;
use crate::operation::heads::Rotation;
use crate::operation::rms_norm::rms_norm;
use crate::operation::seed::backward_from;
use crate::operation::values;

/// Logits that exist at the same time: 64 MiB of them, and as much of their gradients.
const LOGITS_AT_ONCE: usize = 1 << 24;

/// How the backward pass is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassOptions {
    /// Build each layer's graph a second time instead of keeping all of them.
    pub activation_checkpointing: bool,
}

/// Gradients of everything trainable, in the order of [`Network::trainable`].
#[derive(Clone, Debug)]
pub struct Gradients {
    values: Vec<Vec<f32>>,
}

impl Gradients {
    /// No gradient yet.
    #[must_use]
    pub fn zeros(network: &Network) -> Self {
        let lengths = network.trainable().iter().map(|parameter| parameter.shape().iter().product());
        Self { values: lengths.map(|length| vec![0.0; length]).collect() }
    }

    /// One slice for each trainable tensor, row by row.
    #[must_use]
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// The Euclidean norm of all gradients together.
    #[must_use]
    pub fn norm(&self) -> f64 {
        let squares = self.values.iter().map(|values| crate::sum::squares(values));
        squares.sum::<f64>().sqrt()
    }

    /// Multiplies all gradients.
    pub fn scale(&mut self, factor: f32) {
        self.values.iter_mut().for_each(|values| crate::sum::scale(values, factor));
    }

    /// Scales all gradients so that their norm is at most `largest`; returns what it was.
    pub fn clip_norm(&mut self, largest: f32) -> f64 {
        let norm = self.norm();
        if norm > f64::from(largest) {
            self.scale((f64::from(largest) / norm) as f32);
        }
        norm
    }

    /// Back to no gradient, in the same memory.
    pub fn clear(&mut self) {
        self.values.iter_mut().for_each(|values| crate::sum::clear(values));
    }
}

/// Gradients that are lent to a network's tensors for the time of a pass.
struct Lent<'a> {
    gradients: &'a mut Gradients,
    sums: Vec<GradientSum>,
}

impl<'a> Lent<'a> {
    fn new(network: &Network, gradients: &'a mut Gradients) -> Self {
        let sums = network.trainable().iter().map(|parameter| parameter.gradient.clone()).collect();
        let mut lent = Self { gradients, sums };
        lent.exchange();
        lent
    }

    fn exchange(&mut self) {
        for (values, sum) in self.gradients.values.iter_mut().zip(&self.sums) {
            sum.exchange(values);
        }
    }

    fn add(&self, place: usize, gradient: &Tensor) -> Result<(), TrainingError> {
        let Some(sum) = self.sums.get(place) else { return Ok(()) };
        values::read(&gradient.contiguous()?, |gradient| {
            crate::sum::add(&mut sum.lock(), gradient);
            Ok(())
        })?;
        Ok(())
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.exchange();
    }
}

/// A layer on the way forwards: its input, and its output with the graph between, if it is kept.
struct Segment {
    input: Tensor,
    graph: Option<Graph>,
}

struct Graph {
    /// The input as a variable, whose gradient is the one for the layer before.
    input: Var,
    taps: Option<(Var, Option<Var>)>,
    output: Tensor,
}

/// One pass over a batch.
pub(crate) struct Pass<'a> {
    network: &'a Network,
    batch: &'a Batch,
    options: PassOptions,
    rotation: Arc<Rotation>,
    places: HashMap<TensorId, usize>,
    gradients: Lent<'a>,
    /// Whether gradients of activations are wanted, and those found so far, last layer first.
    activations: Option<Vec<LayerGradients>>,
    /// Asked before every layer, forwards and backwards; nobody can stop the pass where there is none.
    cancellation: Option<&'a Cancellation>,
}

impl Network {
    /// The objective's loss on `batch`; its gradients are added to `gradients`.
    ///
    /// # Errors
    /// A batch or an objective that contradicts the model.
    pub fn accumulate_gradients(
        &self,
        batch: &Batch,
        objective: &Objective<'_>,
        options: PassOptions,
        gradients: &mut Gradients,
    ) -> Result<f64, TrainingError> {
        Ok(Pass::new(self, batch, options, gradients)?.run(objective)?.0)
    }

    /// The same, unless it is cancelled on the way: [`TrainingError::Cancelled`] then, and `gradients` are of no use.
    pub(crate) fn accumulate_gradients_unless(
        &self,
        cancellation: &Cancellation,
        batch: &Batch,
        objective: &Objective<'_>,
        options: PassOptions,
        gradients: &mut Gradients,
    ) -> Result<f64, TrainingError> {
        let mut pass = Pass::new(self, batch, options, gradients)?;
        pass.cancellation = Some(cancellation);
        Ok(pass.run(objective)?.0)
    }

    /// The loss on `batch` and, layer by layer, its gradients with respect to two activations.
    pub(crate) fn activation_gradients(
        &self,
        batch: &Batch,
        objective: &Objective<'_>,
    ) -> Result<(f64, Vec<LayerGradients>), TrainingError> {
        let options = PassOptions { activation_checkpointing: true };
        let mut unwanted = Gradients { values: Vec::new() };
        let mut pass = Pass::new(self, batch, options, &mut unwanted)?;
        pass.activations = Some(Vec::new());
        let (loss, mut found) = pass.run(objective)?;
        found.reverse();
        Ok((loss, found))
    }
}

impl<'a> Pass<'a> {
    fn new(
        network: &'a Network,
        batch: &'a Batch,
        options: PassOptions,
        gradients: &'a mut Gradients,
    ) -> Result<Self, TrainingError> {
        batch.check(network.spec())?;
        let rotation = network.rotation(batch.positions());
        let places = network.places();
        Ok(Self {
            network,
            batch,
            options,
            rotation,
            places,
            gradients: Lent::new(network, gradients),
            activations: None,
            cancellation: None,
        })
    }

    fn run(mut self, objective: &Objective<'_>) -> Result<(f64, Vec<LayerGradients>), TrainingError> {
        objective.check(self.network.spec(), self.batch)?;
        let mut hidden = self.network.embed(self.batch.tokens())?;
        let mut segments = Vec::with_capacity(self.network.layers.len());
        let mut loss = 0.0;
        let mut of_hidden = Vec::with_capacity(self.network.layers.len());
        for (index, layer) in self.network.layers.iter().enumerate() {
            self.check()?;
            let (segment, output) = self.forward(layer, hidden)?;
            segments.push(segment);
            let (part, gradient) = objective.hidden_loss(index, &output)?;
            loss += part;
            of_hidden.push(gradient);
            hidden = output;
        }
        self.check()?;
        let (part, mut gradient) = self.head(&hidden, objective)?;
        loss += part;
        for (index, segment) in segments.into_iter().enumerate().rev() {
            self.check()?;
            if let Some(Some(other)) = of_hidden.get(index) {
                gradient = (gradient + other)?;
            }
            let Some(layer) = self.network.layers.get(index) else { continue };
            gradient = self.backward(layer, segment, &gradient)?;
        }
        self.embedding(&gradient)?;
        Ok((loss, self.activations.unwrap_or_default()))
    }

    /// The number of the step is the caller's to add.
    fn check(&self) -> Result<(), TrainingError> {
        self.cancellation.map_or(Ok(()), |cancellation| cancellation.check(0))
    }

    fn forward(&self, layer: &Layer, input: Tensor) -> Result<(Segment, Tensor), TrainingError> {
        if self.options.activation_checkpointing {
            let output = layer.forward(&input, self.batch.positions(), &self.rotation, None)?.detach();
            return Ok((Segment { input, graph: None }, output));
        }
        let graph = self.graph(layer, &input)?;
        let output = graph.output.detach();
        Ok((Segment { input, graph: Some(graph) }, output))
    }

    fn graph(&self, layer: &Layer, input: &Tensor) -> Result<Graph, TrainingError> {
        let input = Var::from_tensor(input)?;
        let taps = match &self.activations {
            Some(_) => Some(self.new_taps(layer)?),
            None => None,
        };
        let tensors = taps.as_ref().map(|(head_output, ffn_activation)| Taps {
            head_output: head_output.as_tensor().clone(),
            ffn_activation: ffn_activation.as_ref().map(|variable| variable.as_tensor().clone()),
        });
        let output =
            layer.forward(input.as_tensor(), self.batch.positions(), &self.rotation, tensors.as_ref())?;
        Ok(Graph { input, taps, output })
    }

    fn new_taps(&self, layer: &Layer) -> Result<(Var, Option<Var>), TrainingError> {
        let (heads, ffn) = layer.tap_widths();
        let rows = self.batch.tokens().len();
        let zeros = |width: usize| {
            Ok::<_, TrainingError>(Var::from_tensor(&values::tensor(
                vec![0.0; rows * width],
                (rows, width),
            )?)?)
        };
        Ok((zeros(heads)?, ffn.map(zeros).transpose()?))
    }

    /// Through one layer: from the gradient of its output to that of its input.
    fn backward(
        &mut self,
        layer: &Layer,
        segment: Segment,
        gradient: &Tensor,
    ) -> Result<Tensor, TrainingError> {
        let graph = match segment.graph {
            Some(graph) => graph,
            None => self.graph(layer, &segment.input)?,
        };
        let mut store = backward_from(&graph.output, gradient)?;
        let of_input = take(&mut store, &graph.input)?;
        if let (Some(found), Some((heads, ffn))) = (&mut self.activations, &graph.taps) {
            let ffn_activation = match ffn {
                Some(ffn) => Some(values::to_kernel_tensor(&take(&mut store, ffn)?)?),
                None => None,
            };
            let head_output = values::to_kernel_tensor(&take(&mut store, heads)?)?;
            found.push(LayerGradients { head_output, ffn_activation });
        }
        self.collect(&store)?;
        Ok(of_input)
    }

    /// Adds what a backward pass left for trainable tensors.
    fn collect(&mut self, store: &GradStore) -> Result<(), TrainingError> {
        for (id, place) in &self.places {
            if let Some(gradient) = store.get_id(*id) {
                self.gradients.add(*place, gradient)?;
            }
        }
        Ok(())
    }

    /// Final norm, head and loss: the loss and the gradient of the last layer's output.
    fn head(&mut self, hidden: &Tensor, objective: &Objective<'_>) -> Result<(f64, Tensor), TrainingError> {
        let spec = self.network.spec();
        let input = Var::from_tensor(hidden)?;
        let normed = rms_norm(input.as_tensor(), &self.network.final_norm, spec.rms_norm_eps)?;
        let head = self.network.head.detach();
        let sum = self.sum(&self.network.head);
        let (rows, at_once) = (self.batch.tokens().len(), (LOGITS_AT_ONCE / spec.vocab_size).max(1));
        let mut loss = 0.0;
        let mut gradients = Vec::new();
        for start in (0..rows).step_by(at_once) {
            let count = at_once.min(rows - start);
            let part = normed.detach().narrow(0, start, count)?;
            let mut logits = self.network.products.transposed(&part, &head)?;
            loss += objective.logits_loss(self.batch, start, spec.vocab_size, &mut logits);
            let of_logits = values::tensor(logits, (count, spec.vocab_size))?;
            gradients.push(self.network.products.plain(&of_logits, &head)?);
            if let Some(mut sum) = sum.map(GradientSum::lock).filter(|sum| !sum.is_empty()) {
                self.network.products.add_outer(&of_logits, &part, &mut sum)?;
            }
        }
        let gradient = Tensor::cat(&gradients, 0)?;
        let mut store = backward_from(&normed, &gradient)?;
        let of_input = take(&mut store, &input)?;
        self.collect(&store)?;
        Ok((loss, of_input))
    }

    /// Where the gradient of `tensor` goes, if it trains.
    fn sum(&self, tensor: &Tensor) -> Option<&GradientSum> {
        self.places.get(&tensor.id()).and_then(|place| self.gradients.sums.get(*place))
    }

    /// Adds the gradient of the first layer's input to the rows of the embedding.
    fn embedding(&mut self, gradient: &Tensor) -> Result<(), TrainingError> {
        let Some(mut sums) = self.sum(&self.network.embedding).map(GradientSum::lock) else { return Ok(()) };
        let width = self.network.spec().hidden_size;
        values::read(&gradient.contiguous()?, |gradient| {
            for (token, row) in self.batch.tokens().iter().zip(gradient.chunks_exact(width)) {
                let start = *token as usize * width;
                if let Some(sum) = sums.get_mut(start..start + width) {
                    crate::sum::add(sum, row);
                }
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// The gradient of a variable; zeros where nothing depends on it.
fn take(store: &mut GradStore, variable: &Var) -> Result<Tensor, TrainingError> {
    match store.remove(variable.as_tensor()) {
        Some(gradient) => Ok(gradient),
        None => Ok(variable.zeros_like()?),
    }
}
