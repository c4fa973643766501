//! The input rows of matrix products.

use super::Cpu;
use super::instruction_set::versions;
use super::packed::BLOCK;
use super::scatter::Scatter;
use crate::KernelError;

/// How a product treats its activations.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32 activations, f32 accumulation.
    #[default]
    Exact,
    /// Activations rounded to 8 bits in blocks of 32, for weights whose format has a packed form (see [`Cpu::pack`]);
    /// products with other weights run as `Exact`.
    Fast,
}

/// Rows of activations, prepared once and shared by every product that reads them.
pub struct Activations<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) quantized: Option<Quantized>,
    precision: Precision,
}

/// Activations as whole numbers of 8 bits with one scale per 32: `value ≈ scale · code`.
pub(super) struct Quantized {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) codes: Vec<i8>,
    pub(super) scales: Vec<f32>,
    /// Per block, the scale times the sum of the codes.
    pub(super) scaled_sums: Vec<f32>,
    /// Per half block of 16, minus the sum of the codes.
    pub(super) negated_sums: Vec<[i32; 2]>,
}

/// One row of [`Quantized`].
pub(super) struct QuantizedRow<'a> {
    pub(super) codes: &'a [i8],
    pub(super) scales: &'a [f32],
    pub(super) scaled_sums: &'a [f32],
}

versions! {
    fn quantize_blocks(
        values: &[f32],
        codes: &mut [i8],
        scales: &mut [f32],
        scaled_sums: &mut [f32],
        negated_sums: &mut [[i32; 2]],
    ) = quantize_portable;
}

/// Values that one thread quantises at a time.
const PIECE_VALUES: usize = 16_384;

impl Quantized {
    fn new(cpu: &Cpu, values: &[f32], columns: usize) -> Self {
        let (rows, blocks) = (values.len() / columns, values.len() / BLOCK);
        let mut quantized = Self {
            rows,
            columns,
            codes: vec![0; values.len()],
            scales: vec![0.0; blocks],
            scaled_sums: vec![0.0; blocks],
            negated_sums: vec![[0; 2]; blocks],
        };
        let codes = Scatter::new(&mut quantized.codes);
        let scales = Scatter::new(&mut quantized.scales);
        let scaled_sums = Scatter::new(&mut quantized.scaled_sums);
        let negated_sums = Scatter::new(&mut quantized.negated_sums);
        let (set, count) = (cpu.instruction_set(), PIECE_VALUES / BLOCK);
        cpu.parallel(values.len().div_ceil(PIECE_VALUES), &|piece| {
            let end = values.len().min((piece + 1) * PIECE_VALUES);
            // SAFETY: each piece has its own blocks in all four slices.
            let (codes, scales, scaled_sums, negated_sums) = unsafe {
                (
                    codes.part(piece * PIECE_VALUES, PIECE_VALUES),
                    scales.part(piece * count, count),
                    scaled_sums.part(piece * count, count),
                    negated_sums.part(piece * count, count),
                )
            };
            quantize_blocks(
                set,
                &values[piece * PIECE_VALUES..end],
                codes,
                scales,
                scaled_sums,
                negated_sums,
            );
        });
        quantized
    }

    /// Row `index`, which must exist.
    pub(super) fn row(&self, index: usize) -> QuantizedRow<'_> {
        let blocks = self.columns / BLOCK;
        let range = index * blocks..(index + 1) * blocks;
        QuantizedRow {
            codes: &self.codes[index * self.columns..(index + 1) * self.columns],
            scales: &self.scales[range.clone()],
            scaled_sums: &self.scaled_sums[range],
        }
    }
}

/// Scale `max|x| / 127`, codes rounded to nearest, ties to even.
#[inline(always)]
fn quantize_portable(
    values: &[f32],
    codes: &mut [i8],
    scales: &mut [f32],
    scaled_sums: &mut [f32],
    negated_sums: &mut [[i32; 2]],
) {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it leaves the rounded integer in the low bits
    let blocks = values.as_chunks::<BLOCK>().0.iter().zip(codes.as_chunks_mut::<BLOCK>().0);
    let factors = scales.iter_mut().zip(scaled_sums).zip(negated_sums);
    for ((values, codes), ((scale, scaled_sum), negated_sum)) in blocks.zip(factors) {
        let mut largest = [0.0f32; 16];
        for (index, value) in values.iter().enumerate() {
            let magnitude = value.abs();
            let lane = &mut largest[index % 16];
            *lane = if magnitude > *lane { magnitude } else { *lane };
        }
        let largest = super::lanes::max(&largest);
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let halves = values.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0);
        for ((values, codes), negated_sum) in halves.zip(&mut *negated_sum) {
            let mut sum = 0i32;
            for (value, code) in values.iter().zip(codes) {
                *code = (value * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i8;
                sum += i32::from(*code);
            }
            *negated_sum = -sum;
        }
        *scale = largest / 127.0;
        *scaled_sum = *scale * -(negated_sum[0] + negated_sum[1]) as f32;
    }
}

impl Activations<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The precision that was asked for.
    pub fn precision(&self) -> Precision {
        self.precision
    }
}

impl Cpu {
    /// Prepares `values` (`n × columns`, row-major) for products in the given precision.
    ///
    /// # Errors
    /// When `columns` is 0 or does not divide the number of values.
    pub fn activations<'a>(
        &self,
        values: &'a [f32],
        columns: usize,
        precision: Precision,
    ) -> Result<Activations<'a>, KernelError> {
        if columns == 0 || !values.len().is_multiple_of(columns) {
            let reason = format!("{} values do not divide into rows of {columns}", values.len());
            return Err(KernelError::Shape { what: "activations", reason });
        }
        let quantize = precision == Precision::Fast && columns.is_multiple_of(BLOCK);
        let quantized = quantize.then(|| Quantized::new(self, values, columns));
        Ok(Activations { values, rows: values.len() / columns, columns, quantized, precision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InstructionSet;

    #[test]
    fn codes_are_nearest_and_the_same_everywhere() {
        let values: Vec<f32> = (0..640).map(|i| ((i * 7919) % 1013) as f32 / 100.0 - 5.0).collect();
        let portable = Cpu::with_instruction_set(1, InstructionSet::Portable).unwrap();
        let expected = Quantized::new(&portable, &values, 64);
        for (index, value) in values.iter().enumerate() {
            let found = f32::from(expected.codes[index]) * expected.scales[index / BLOCK];
            assert!((value - found).abs() <= expected.scales[index / BLOCK] * 0.501);
        }
        let found = Quantized::new(&Cpu::new(2).unwrap(), &values, 64);
        assert_eq!((found.codes, found.scales), (expected.codes, expected.scales));
        assert_eq!((found.scaled_sums, found.negated_sums), (expected.scaled_sums, expected.negated_sums));
    }
}
