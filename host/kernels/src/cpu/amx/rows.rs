//! Activations as bf16, the left operand of tile products.

use super::{PAIR, STEP};
use crate::cpu::buffer::Buffer;
use crate::cpu::scatter::Scatter;
use crate::cpu::{Cpu, instruction_set::versions};

versions! {
    fn round_row(values: &[f32], high: &mut [u16], low: &mut [u16]) = round;
}

/// Rows of bf16, row-major; if wide, once more what rounding left of them.
pub(in crate::cpu) struct TileRows {
    buffer: Buffer,
    rows: usize,
    stride: usize,
    wide: bool,
}

impl TileRows {
    /// Rounds rows of `columns` values, a multiple of [`STEP`].
    pub(in crate::cpu) fn new(cpu: &Cpu, values: &[f32], columns: usize, wide: bool) -> Self {
        let rows = values.len() / columns;
        // An odd number of cache lines, so that the rows of a tile do not meet in the same places of the cache.
        let lines = (columns / STEP) | 1;
        let mut made = Self { buffer: Buffer::default(), rows, stride: lines * STEP, wide };
        let (stride, plane) = (made.stride, made.plane());
        let halves = Scatter::new(made.buffer.take_halves(plane * if wide { 2 } else { 1 }));
        let set = cpu.instruction_set();
        cpu.parallel(rows.div_ceil(PAIR), &|piece| {
            for (row, values) in values.chunks_exact(columns).enumerate().skip(piece * PAIR).take(PAIR) {
                let length = if wide { columns } else { 0 };
                // SAFETY: each row has its own places in both planes.
                let (high, low) = unsafe {
                    (halves.part(row * stride, columns), halves.part(plane + row * stride, length))
                };
                round_row(set, values, high, low);
            }
        });
        made
    }

    /// Values in a plane: a tile may begin at the last row, so that many follow it.
    fn plane(&self) -> usize {
        (self.rows + PAIR) * self.stride
    }

    /// Values from one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Whether there is a second plane.
    pub(in crate::cpu) fn wide(&self) -> bool {
        self.wide
    }

    /// What lies in a plane (0, or 1 if wide) from `row` and `column` on; [`PAIR`] rows at least.
    pub(super) fn from(&self, plane: usize, row: usize, column: usize) -> &[u16] {
        let length = self.plane();
        &self.buffer.halves()[plane * length..(plane + 1) * length][row * self.stride + column..]
    }
}

/// Rounds to nearest, ties to even; `low` gets what is left, or is empty.
#[inline(always)]
fn round(values: &[f32], high: &mut [u16], low: &mut [u16]) {
    for (value, high) in values.iter().zip(high.iter_mut()) {
        *high = nearest(*value);
    }
    for ((value, high), low) in values.iter().zip(high).zip(low) {
        *low = nearest(value - f32::from_bits(u32::from(*high) << 16));
    }
}

/// Also for infinities; a number that is none stays one unless its mantissa's low half is all that it has.
#[inline(always)]
fn nearest(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rounded_to_nearest_and_the_rest_is_kept() {
        let values: Vec<f32> = (0..64 * 3).map(|i| ((i * 7919) % 1013) as f32 / 100.0 - 5.0).collect();
        let rows = TileRows::new(&Cpu::new(1).unwrap(), &values, 64, true);
        for (index, value) in values.iter().enumerate() {
            let (row, column) = (index / 64, index % 64);
            assert_eq!(rows.from(0, row, column)[0], half::bf16::from_f32(*value).to_bits());
            let term = |plane: usize| half::bf16::from_bits(rows.from(plane, row, column)[0]).to_f32();
            assert!((value - term(0) - term(1)).abs() <= value.abs() / 65_536.0);
        }
        assert!(rows.from(1, 2, 63).len() >= PAIR * rows.stride() - 63);
    }
}
