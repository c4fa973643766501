//! One output slice that the pieces of a job write disjoint parts of.

use std::marker::PhantomData;

/// A mutable slice that several threads write, each its own elements.
pub(crate) struct Scatter<'a, T> {
    start: *mut T,
    length: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: the only access is through `part`, whose callers promise that parts alive at the same time are disjoint, so
// sharing a `Scatter` is like sending each thread its own `&mut [T]`, which `T: Send` allows.
unsafe impl<T: Send> Sync for Scatter<'_, T> {}

impl<'a, T> Scatter<'a, T> {
    /// Borrows `slice` until the job is over.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), borrow: PhantomData }
    }

    /// The elements `start..start + length`, cut off at the end of the slice.
    ///
    /// # Safety
    /// No other part that is alive at the same time may overlap this one.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    #[inline(always)]
    pub(crate) unsafe fn part(&self, start: usize, length: usize) -> &mut [T] {
        let start = start.min(self.length);
        let length = length.min(self.length - start);
        // SAFETY: the range lies inside the borrowed slice, and the caller promises that it is not aliased.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }
}
