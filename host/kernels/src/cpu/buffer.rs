//! A reusable f32 buffer on a cache-line border: vector loads and stores that straddle two lines cost double.

use std::slice;

use super::lanes::LANES;

#[derive(Copy, Clone)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// Values that start on a 64-byte border. Grows as needed and keeps its memory.
#[derive(Default)]
pub(super) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// The first `length` values, of which old ones are stale and new ones zero.
    pub(super) fn take(&mut self, length: usize) -> &mut [f32] {
        let lines = length.div_ceil(LANES);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0.0; LANES]));
        }
        // SAFETY: `Line` is `repr(C)` of sixteen f32 without padding, and at least `length` of them are there.
        unsafe { slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast::<f32>(), length) }
    }

    /// As [`Buffer::take`], numbers of 16 bits.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn take_halves(&mut self, length: usize) -> &mut [u16] {
        let values = self.take(length.div_ceil(2));
        // SAFETY: each f32 is two numbers of 16 bits, of which every pattern is valid, and their borders are coarser.
        unsafe { slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u16>(), length) }
    }

    /// All of it as numbers of 16 bits.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn halves(&self) -> &[u16] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts(self.lines.as_ptr().cast::<u16>(), self.lines.len() * LANES * 2) }
    }
}
