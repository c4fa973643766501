//! The differentiable operations of a transformer: each one node of the graph, with its derivative written out.
//!
//! candle has the products, the graph and the order of the backward pass. What is here does in one pass over memory what
//! would be many small nodes there, and computes no gradient that nobody asked for. Everything is f32 (factors of
//! products may be rounded, see [`products`]), row-major and on the processor; sums run in a fixed order, so that equal inputs give equal bits whatever the number of threads.

pub(crate) mod activation;
pub(crate) mod attention_weights;
pub(crate) mod experts;
pub(crate) mod heads;
mod lanes;
pub(crate) mod linear;
pub(crate) mod products;
pub(crate) mod rms_norm;
pub(crate) mod routing_weights;
pub(crate) mod seed;
#[cfg(test)]
mod test_gradient;
pub(crate) mod values;
