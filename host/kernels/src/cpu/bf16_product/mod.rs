//! Products of two matrices that both change from call to call, as training has them, with factors rounded to bf16.
//!
//! Products with weights (see [`super::matmul`]) prepare one side once and read it often. Here nothing stays: each call
//! rounds both factors into panels, in pairs along the dimension that is summed over, as AVX-512's products of bf16 pairs
//! take them, and multiplies the panels block by block. Sums are in f32. A result does not depend on the number of threads.

mod pack;
mod tile;

use std::cell::RefCell;

use self::pack::pack;
use self::tile::{LEFT, RIGHT, Tile, run};
use super::Cpu;
use super::scatter::Scatter;
use crate::KernelError;
use crate::error::check_length;

/// Pairs that a pass over the panels takes: with them a panel of the right side fills half of a first-level cache.
const DEPTH: usize = 128;
/// Rows and columns of the output that a thread computes at once, a multiple of the panels'.
const BLOCK: usize = 128;

/// A matrix of f32 as it lies in memory, or the transpose of one.
#[derive(Clone, Copy, Debug)]
pub struct Dense<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a> Dense<'a> {
    /// `rows × columns` values, row by row.
    ///
    /// # Errors
    /// Another number of values.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Result<Self, KernelError> {
        check_length("a dense matrix", values.len(), rows * columns)?;
        Ok(Self { values, rows, columns, transposed: false })
    }

    /// The transpose, of the same memory.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }
}

/// What a product does with what its output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Replaces it.
    Replace,
    /// Adds to it.
    Add,
}

/// A thread's panels, kept for its next product.
#[derive(Default)]
struct Scratch {
    left: Vec<u32>,
    right: Vec<u32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Cpu {
    /// Whether this processor multiplies pairs of bf16; without them [`Cpu::bf16_product`] is right but slow.
    #[must_use]
    pub fn has_bf16_products(&self) -> bool {
        tile::supported(self.instruction_set())
    }

    /// `left · right`, `left.rows × right.columns` values, with both factors rounded to bf16 and sums in f32.
    ///
    /// # Errors
    /// When the shapes do not agree; nothing is written then.
    pub fn bf16_product(
        &self,
        left: Dense<'_>,
        right: Dense<'_>,
        output: &mut [f32],
        sum: Sum,
    ) -> Result<(), KernelError> {
        check_length("the rows of a product's right side", right.rows, left.columns)?;
        check_length("the output of a product", output.len(), left.rows * right.columns)?;
        if left.columns == 0 && sum == Sum::Replace {
            output.fill(0.0);
        }
        SCRATCH.with_borrow_mut(|Scratch { left: left_panels, right: right_panels }| {
            pack::<LEFT>(self, left, left_panels);
            pack::<RIGHT>(self, right.transposed(), right_panels);
            let product = Blocks {
                left: left_panels,
                right: right_panels,
                rows: left.rows,
                columns: right.columns,
                pairs: left.columns.div_ceil(2),
                sum,
            };
            product.run(self, output);
        });
        Ok(())
    }
}

/// A product of packed sides, cut into blocks of the output.
struct Blocks<'a> {
    left: &'a [u32],
    right: &'a [u32],
    rows: usize,
    columns: usize,
    pairs: usize,
    sum: Sum,
}

impl Blocks<'_> {
    fn run(&self, cpu: &Cpu, output: &mut [f32]) {
        let across = self.columns.div_ceil(BLOCK);
        let blocks = self.rows.div_ceil(BLOCK) * across;
        let output = Scatter::new(output);
        cpu.parallel(blocks, &|block| {
            let (row, column) = (block / across * BLOCK, block % across * BLOCK);
            for first in (0..self.pairs).step_by(DEPTH) {
                self.block(cpu, (row, column), first, &output);
            }
        });
    }

    /// Adds the products of up to `DEPTH` pairs from `first` on to the block that begins at `(row, column)`.
    fn block(&self, cpu: &Cpu, (row, column): (usize, usize), first: usize, output: &Scatter<'_, f32>) {
        let pairs = DEPTH.min(self.pairs - first);
        let (row_end, column_end) = ((row + BLOCK).min(self.rows), (column + BLOCK).min(self.columns));
        for column in (column..column_end).step_by(RIGHT) {
            let right = &self.right[(column * self.pairs) + first * RIGHT..][..pairs * RIGHT];
            for row in (row..row_end).step_by(LEFT) {
                let left = &self.left[(row * self.pairs) + first * LEFT..][..pairs * LEFT];
                let start = row * self.columns + column;
                let (rows, columns) = (LEFT.min(row_end - row), RIGHT.min(column_end - column));
                let length = (rows - 1) * self.columns + columns;
                // SAFETY: other tiles write other rows or columns; what lies between this tile's rows is not touched.
                let output = unsafe { output.part(start, length) };
                let adds = first > 0 || self.sum == Sum::Add;
                run(
                    cpu.instruction_set(),
                    Tile { left, right, rows, columns, stride: self.columns, adds },
                    output,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InstructionSet;

    fn noise(length: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..length).map(|_| next()).collect()
    }

    fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
    }

    /// The product of the rounded factors in f64.
    fn expected(left: &[f32], right: &[f32], (m, n, k): (usize, usize, usize)) -> Vec<f64> {
        let rounded = |value: f32| f64::from(half::bf16::from_f32(value).to_f32());
        let sum = |row: usize, column: usize| {
            (0..k).map(|i| rounded(left[row * k + i]) * rounded(right[i * n + column])).sum::<f64>()
        };
        (0..m).flat_map(|row| (0..n).map(move |column| sum(row, column))).collect()
    }

    #[test]
    fn every_order_and_every_set_is_the_product_of_rounded_factors() {
        for (m, n, k) in [(1, 1, 1), (8, 32, 2), (7, 33, 5), (130, 40, 300), (9, 200, 257), (33, 31, 0)] {
            let (left, right) = (noise(m * k, 1), noise(k * n, 2));
            let (left_turned, right_turned) = (transpose(&left, m, k), transpose(&right, k, n));
            let expected = expected(&left, &right, (m, n, k));
            for set in [InstructionSet::Portable, InstructionSet::detect()] {
                let cpu = Cpu::with_instruction_set(2, set).unwrap();
                let lefts =
                    [Dense::new(&left, m, k).unwrap(), Dense::new(&left_turned, k, m).unwrap().transposed()];
                let rights = [
                    Dense::new(&right, k, n).unwrap(),
                    Dense::new(&right_turned, n, k).unwrap().transposed(),
                ];
                for left in lefts {
                    for right in rights {
                        let mut output = vec![7.0; m * n];
                        cpu.bf16_product(left, right, &mut output, Sum::Replace).unwrap();
                        cpu.bf16_product(left, right, &mut output, Sum::Add).unwrap();
                        for (found, expected) in output.iter().zip(&expected) {
                            let difference = (f64::from(*found) - 2.0 * expected).abs();
                            assert!(difference < 1e-4, "{set} {m}x{n}x{k}: {found}, expected 2 · {expected}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn shapes_that_do_not_agree_are_refused() {
        let cpu = Cpu::new(1).unwrap();
        let values = [0.0; 6];
        let (two, three) = (Dense::new(&values, 2, 3).unwrap(), Dense::new(&values, 3, 2).unwrap());
        assert!(Dense::new(&values, 2, 2).is_err());
        assert!(cpu.bf16_product(two, two, &mut [0.0; 4], Sum::Replace).is_err());
        assert!(cpu.bf16_product(two, three, &mut [0.0; 5], Sum::Replace).is_err());
    }
}
