//! Activations as whole numbers, for products with packed weights.

use super::Cpu;
use super::instruction_set::versions;
use super::packed::BLOCK;
use super::scatter::Scatter;

/// Activations as whole numbers of 8 bits with one scale per block of 32: `value ≈ scale · code`.
///
/// Numbers of 16 bits are two such rows, which follow each other: `value ≈ scale · code + scale' · code'`, where scale is
/// 255 times scale'. The product of such a value is the sum of the products of its rows.
pub(super) struct Quantized {
    /// Rows of codes: as many as there are rows of values, or twice as many.
    pub(super) rows: usize,
    /// Rows of codes for a row of values: 1 or 2.
    pub(super) parts: usize,
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

/// Where the codes of some values go: one or two rows of them and of what belongs to their blocks.
struct Places<'a> {
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    scaled_sums: &'a mut [f32],
    negated_sums: &'a mut [[i32; 2]],
}

versions! {
    fn quantize_row(values: &[f32], parts: usize, places: Places) = quantize_portable;
}

/// Values that one thread quantises at a time, some rows of them.
const PIECE_VALUES: usize = 16_384;
/// The largest code.
const LARGEST: f32 = 127.0;
/// Values of the first row's codes in those of the second, which then reach from −127 to 127 as well.
const STEP: f32 = 255.0;

impl Quantized {
    /// Rounds rows of `columns` values, a multiple of [`BLOCK`], to 16 bits if `wide` and to 8 bits otherwise.
    pub(super) fn new(cpu: &Cpu, values: &[f32], columns: usize, wide: bool) -> Self {
        let parts = if wide { 2 } else { 1 };
        let (rows, blocks) = (values.len() / columns, columns / BLOCK);
        let mut quantized = Self {
            rows: rows * parts,
            parts,
            columns,
            codes: vec![0; values.len() * parts],
            scales: vec![0.0; rows * parts * blocks],
            scaled_sums: vec![0.0; rows * parts * blocks],
            negated_sums: vec![[0; 2]; rows * parts * blocks],
        };
        let codes = Scatter::new(&mut quantized.codes);
        let scales = Scatter::new(&mut quantized.scales);
        let scaled_sums = Scatter::new(&mut quantized.scaled_sums);
        let negated_sums = Scatter::new(&mut quantized.negated_sums);
        let (set, step) = (cpu.instruction_set(), (PIECE_VALUES / columns).max(1));
        cpu.parallel(rows.div_ceil(step), &|piece| {
            for (row, values) in values.chunks_exact(columns).enumerate().skip(piece * step).take(step) {
                // SAFETY: each row of values has its own rows of codes and blocks in all four slices.
                let places = unsafe {
                    Places {
                        codes: codes.part(row * parts * columns, parts * columns),
                        scales: scales.part(row * parts * blocks, parts * blocks),
                        scaled_sums: scaled_sums.part(row * parts * blocks, parts * blocks),
                        negated_sums: negated_sums.part(row * parts * blocks, parts * blocks),
                    }
                };
                quantize_row(set, values, parts, places);
            }
        });
        quantized
    }

    /// Row `index` of codes, which must exist.
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

/// One row of values to one or two of codes, the first with the larger steps.
#[inline(always)]
fn quantize_portable(values: &[f32], parts: usize, places: Places) {
    let Places { codes, scales, scaled_sums, negated_sums } = places;
    let (columns, blocks) = (values.len(), values.len() / BLOCK);
    let (codes, codes_low) = codes.split_at_mut(columns);
    let (scales, scales_low) = scales.split_at_mut(blocks);
    let (scaled_sums, scaled_sums_low) = scaled_sums.split_at_mut(blocks);
    let (negated_sums, negated_sums_low) = negated_sums.split_at_mut(blocks);
    if parts == 1 {
        let codes = codes.as_chunks_mut::<BLOCK>().0.iter_mut();
        let factors = scales.iter_mut().zip(scaled_sums).zip(negated_sums);
        for ((values, codes), ((scale, scaled_sum), sums)) in
            values.as_chunks::<BLOCK>().0.iter().zip(codes).zip(factors)
        {
            let (inverse, step) = steps(values, LARGEST);
            round(values, inverse, codes, sums);
            *scale = step;
            *scaled_sum = step * -(sums[0] + sums[1]) as f32;
        }
        return;
    }
    let codes = codes.as_chunks_mut::<BLOCK>().0.iter_mut().zip(codes_low.as_chunks_mut::<BLOCK>().0);
    let high = scales.iter_mut().zip(scaled_sums).zip(negated_sums);
    let low = scales_low.iter_mut().zip(scaled_sums_low).zip(negated_sums_low);
    let blocks = values.as_chunks::<BLOCK>().0.iter().zip(codes).zip(high.zip(low));
    for ((values, (codes, codes_low)), (high, low)) in blocks {
        let (inverse, step) = steps(values, LARGEST * STEP + LARGEST);
        let scaled = values.map(|value| value * inverse);
        round(&scaled, 1.0 / STEP, codes, high.1);
        let mut rest = scaled;
        for (rest, code) in rest.iter_mut().zip(codes) {
            // At a tie it can be 127.5.
            *rest = (*rest - STEP * f32::from(*code)).clamp(-LARGEST, LARGEST);
        }
        round(&rest, 1.0, codes_low, low.1);
        for (((scale, scaled_sum), sums), step) in [(high, step * STEP), (low, step)] {
            *scale = step;
            *scaled_sum = step * -(sums[0] + sums[1]) as f32;
        }
    }
}

/// The steps in one, and the size of a step, if the largest magnitude among the values is to be `largest` steps.
#[inline(always)]
fn steps(values: &[f32; BLOCK], largest: f32) -> (f32, f32) {
    let mut magnitudes = [0.0f32; 16];
    for (index, value) in values.iter().enumerate() {
        let magnitude = value.abs();
        let lane = &mut magnitudes[index % 16];
        *lane = if magnitude > *lane { magnitude } else { *lane };
    }
    let found = super::lanes::max(&magnitudes);
    (if found > 0.0 { largest / found } else { 0.0 }, found / largest)
}

/// Codes `values · inverse`, rounded to nearest, ties to even, and minus their sums.
#[inline(always)]
fn round(values: &[f32; BLOCK], inverse: f32, codes: &mut [i8; BLOCK], negated_sums: &mut [i32; 2]) {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it leaves the rounded integer in the low bits
    let halves = values.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0);
    for ((values, codes), negated_sum) in halves.zip(negated_sums) {
        let mut sum = 0i32;
        for (value, code) in values.iter().zip(codes) {
            *code = (value * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i8;
            sum += i32::from(*code);
        }
        *negated_sum = -sum;
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
        for (wide, parts) in [(false, 1), (true, 2)] {
            let expected = Quantized::new(&portable, &values, 64, wide);
            for (index, value) in values.iter().enumerate() {
                let (row, column) = (index / 64, index % 64);
                let term = |part: usize| {
                    let row = expected.row(row * parts + part);
                    f64::from(row.codes[column]) * f64::from(row.scales[column / BLOCK])
                };
                let found: f64 = (0..parts).map(term).sum();
                let step = expected.row(row * parts + parts - 1).scales[column / BLOCK];
                assert!((f64::from(*value) - found).abs() <= f64::from(step) * 0.51, "{value} {found}");
            }
            let found = Quantized::new(&Cpu::new(2).unwrap(), &values, 64, wide);
            assert_eq!((found.codes, found.scales), (expected.codes, expected.scales));
            assert_eq!(
                (found.scaled_sums, found.negated_sums),
                (expected.scaled_sums, expected.negated_sums)
            );
        }
    }
}
