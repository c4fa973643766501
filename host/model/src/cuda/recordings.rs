//! Steps that come again in the same shape: the second time they are started as one.
//!
//! A step's tokens, positions and block tables lie in buffers that are written before; all else that its kernels are told
//! follows from its shape.

use std::collections::HashMap;

use espalier_kernels::{Cuda, CudaGraph, Precision};

use crate::error::ModelError;

/// Recordings that are kept; a batch has so many sizes and lengths at most, or loses them all now and then.
const MOST: usize = 64;

/// What the kernels of a step in which every token decodes depend on.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct StepShape {
    pub(super) rows: usize,
    /// Rows of logits.
    pub(super) selected: usize,
    /// Parts that the longest row's keys are cut into.
    pub(super) splits: usize,
    pub(super) precision: Precision,
}

/// The recorded steps of one cache.
#[derive(Default)]
pub(super) struct Recordings {
    graphs: HashMap<StepShape, CudaGraph>,
}

impl Recordings {
    /// Does a step of that shape; `false` where there is no recording that is still good.
    pub(super) fn replay(&mut self, cuda: &Cuda, shape: StepShape) -> Result<bool, ModelError> {
        match self.graphs.get_mut(&shape) {
            Some(graph) => Ok(cuda.replay(graph)?),
            None => Ok(false),
        }
    }

    /// Records a step of that shape, which `work` asks for.
    pub(super) fn record(
        &mut self,
        cuda: &Cuda,
        shape: StepShape,
        work: impl FnOnce() -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        if self.graphs.len() >= MOST {
            self.graphs.clear();
        }
        self.graphs.insert(shape, cuda.record(work)?);
        Ok(())
    }
}
