//! Where backward passes add the gradient of one tensor that trains.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The sum so far, shared by the tensor and everything that computes with it. Empty unless a pass is under way, which lends
/// its sums for that time.
#[derive(Clone, Debug, Default)]
pub(crate) struct GradientSum(Arc<Mutex<Vec<f32>>>);

impl GradientSum {
    /// Exchanges the sum with `values`: once to lend it, once more to have it back.
    pub(crate) fn exchange(&self, values: &mut Vec<f32>) {
        std::mem::swap(&mut *self.lock(), values);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<f32>> {
        // A sum that a panic left half made is as good as any other: its pass has no result.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
