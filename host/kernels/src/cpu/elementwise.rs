//! Row-wise and element-wise operations between the products.
//!
//! Lengths that do not agree are a programming error of the caller; the shorter operand decides then.

use super::instruction_set::versions;
use super::scatter::Scatter;
use super::{Cpu, lanes};

/// Elements below which a dispatch of the pool costs more than it saves.
const PIECE_VALUES: usize = 8192;

versions! {
    fn normalize(input: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]) = normalize_rows;
}
versions! {
    fn gate(gate: &mut [f32], up: &[f32]) = gate_values;
}
versions! {
    fn clamped_gate(gate: &mut [f32], up: &[f32], alpha: f32, limit: f32) = clamped_gate_values;
}
versions! {
    fn add_scaled(a: &mut [f32], b: &[f32], factor: f32) = add_scaled_slices;
}
versions! {
    fn add_values(a: &mut [f32], b: &[f32]) = add_slices;
}
versions! {
    fn rotate(rows: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) = rotate_heads;
}

impl Cpu {
    /// Root-mean-square normalisation of each row of `weight.len()` values: `x / √(mean(x²) + ε) · weight`.
    ///
    /// The squares are summed in f64.
    pub fn rms_norm(&self, input: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]) {
        let (columns, set) = (weight.len().max(1), self.instruction_set());
        self.in_pieces(output, columns, &|start, output| {
            let input = input.get(start..start + output.len()).unwrap_or_default();
            normalize(set, input, weight, epsilon, output);
        });
    }

    /// `gate = silu(gate) · up`, with `silu(x) = x / (1 + e^−x)`.
    pub fn silu_mul(&self, gate_values: &mut [f32], up: &[f32]) {
        let set = self.instruction_set();
        self.in_pieces(gate_values, 1, &|start, part| {
            gate(set, part, up.get(start..start + part.len()).unwrap_or_default());
        });
    }

    /// gpt-oss's gate (`modeling_gpt_oss.py`): with `gate` at most `limit` and `up` in `[−limit, limit]`,
    /// `gate = gate · sigmoid(alpha · gate) · (up + 1)`.
    pub fn clamped_swiglu(&self, gate: &mut [f32], up: &[f32], alpha: f32, limit: f32) {
        let set = self.instruction_set();
        self.in_pieces(gate, 1, &|start, part| {
            let up = up.get(start..start + part.len()).unwrap_or_default();
            clamped_gate(set, part, up, alpha, limit);
        });
    }

    /// Adds to each row of `columns` values the rows of `terms` that `mixture` names for it, each times its factor, in
    /// the order named. Every row has the same number of entries in `mixture`; entries without a row are left out.
    pub fn add_mixture(&self, rows: &mut [f32], columns: usize, terms: &[f32], mixture: &[(usize, f32)]) {
        let (columns, set) = (columns.max(1), self.instruction_set());
        let each = mixture.len().checked_div(rows.len() / columns).unwrap_or(0);
        self.in_pieces(rows, columns, &|start, part| {
            for (index, row) in part.chunks_exact_mut(columns).enumerate() {
                let first = (start / columns + index) * each;
                for (term, factor) in mixture.get(first..first + each).unwrap_or_default() {
                    let term = terms.get(term * columns..(term + 1) * columns).unwrap_or_default();
                    add_scaled(set, row, term, *factor);
                }
            }
        });
    }

    /// `a += b`.
    pub fn add(&self, a: &mut [f32], b: &[f32]) {
        let set = self.instruction_set();
        self.in_pieces(a, 1, &|start, part| {
            add_values(set, part, b.get(start..start + part.len()).unwrap_or_default());
        });
    }

    /// Adds `bias` to each row of `bias.len()` values.
    pub fn add_bias(&self, rows: &mut [f32], bias: &[f32]) {
        let (columns, set) = (bias.len().max(1), self.instruction_set());
        self.in_pieces(rows, columns, &|_, part| {
            part.chunks_exact_mut(columns).for_each(|row| add_values(set, row, bias));
        });
    }

    /// Rotary position embedding in the "halves" order of HF and NeoX, in place.
    ///
    /// `rows` is `n × heads × head_dim`; `cos` and `sin` are `n × head_dim/2`. Component i pairs with i + head_dim/2.
    pub fn rope(&self, rows: &mut [f32], heads: usize, head_dim: usize, cos: &[f32], sin: &[f32]) {
        let (columns, half, set) = ((heads * head_dim).max(1), head_dim / 2, self.instruction_set());
        self.in_pieces(rows, columns, &|start, part| {
            for (index, row) in part.chunks_exact_mut(columns).enumerate() {
                let angles = (start / columns + index) * half..(start / columns + index + 1) * half;
                let (Some(cos), Some(sin)) = (cos.get(angles.clone()), sin.get(angles)) else { return };
                rotate(set, row, head_dim, cos, sin);
            }
        });
    }

    /// Calls `work(start, part)` for parts of whole rows of `columns` values.
    fn in_pieces(&self, values: &mut [f32], columns: usize, work: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let length = values.len();
        let piece = PIECE_VALUES.div_ceil(columns) * columns;
        let parts = Scatter::new(values);
        self.parallel(length.div_ceil(piece), &|index| {
            // SAFETY: each index names its own range of `piece` values.
            work(index * piece, unsafe { parts.part(index * piece, piece) });
        });
    }
}

#[inline(always)]
fn normalize_rows(input: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]) {
    let columns = weight.len().max(1);
    for (input, output) in input.chunks_exact(columns).zip(output.chunks_exact_mut(columns)) {
        let mut squares = [0.0f64; 8];
        let (chunks, rest) = input.as_chunks::<8>();
        for chunk in chunks {
            for (sum, value) in squares.iter_mut().zip(chunk) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
        for (sum, value) in squares.iter_mut().zip(rest) {
            *sum += f64::from(*value) * f64::from(*value);
        }
        let mean = squares.iter().sum::<f64>() / columns as f64;
        let scale = (1.0 / (mean + f64::from(epsilon)).sqrt()) as f32;
        for ((output, input), weight) in output.iter_mut().zip(input).zip(weight) {
            *output = input * scale * weight;
        }
    }
}

#[inline(always)]
fn gate_values(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + lanes::exp(-*gate)) * up;
    }
}

#[inline(always)]
fn clamped_gate_values(gate: &mut [f32], up: &[f32], alpha: f32, limit: f32) {
    for (gate, up) in gate.iter_mut().zip(up) {
        let (bounded, up) = (gate.min(limit), up.clamp(-limit, limit));
        *gate = bounded / (1.0 + lanes::exp(-alpha * bounded)) * (up + 1.0);
    }
}

#[inline(always)]
fn add_scaled_slices(a: &mut [f32], b: &[f32], factor: f32) {
    for (a, b) in a.iter_mut().zip(b) {
        *a = b.mul_add(factor, *a);
    }
}

#[inline(always)]
fn add_slices(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

#[inline(always)]
fn rotate_heads(row: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
    for head in row.chunks_exact_mut(head_dim.max(1)) {
        let (first, second) = head.split_at_mut(head_dim / 2);
        for (((first, second), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            let (a, b) = (*first, *second);
            *first = a * cos - b * sin;
            *second = b * cos + a * sin;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InstructionSet;

    fn devices() -> Vec<Cpu> {
        [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512]
            .map(|set| Cpu::with_instruction_set(2, set).unwrap())
            .to_vec()
    }

    fn wave(length: usize, step: f32) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * step).sin() * 3.0).collect()
    }

    #[test]
    fn rms_norm_follows_the_formula_in_every_version() {
        for columns in [1, 7, 64, 577] {
            let (input, weight) = (wave(columns * 40, 0.37), wave(columns, 0.11));
            let mut expected = Vec::new();
            for row in input.chunks_exact(columns) {
                let mean = row.iter().map(|x| f64::from(x * x)).sum::<f64>() / columns as f64;
                expected
                    .extend(row.iter().zip(&weight).map(|(x, w)| f64::from(x * w) / (mean + 1e-5).sqrt()));
            }
            for cpu in devices() {
                let mut output = vec![0.0; input.len()];
                cpu.rms_norm(&input, &weight, 1e-5, &mut output);
                for (found, expected) in output.iter().zip(&expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-5, "{cpu:?}");
                }
            }
        }
    }

    #[test]
    fn silu_gates_and_sums_add() {
        let up = wave(20_000, 0.3);
        for cpu in devices() {
            let mut values = wave(20_000, 0.7);
            values[5] = -200.0;
            let before = values.clone();
            cpu.silu_mul(&mut values, &up);
            for ((found, gate), up) in values.iter().zip(&before).zip(&up) {
                let expected = f64::from(*gate) / (1.0 + (-f64::from(*gate)).exp()) * f64::from(*up);
                assert!((f64::from(*found) - expected).abs() < 2e-6, "{found} {expected}");
            }
            let mut sums = before.clone();
            cpu.add(&mut sums, &up);
            assert_eq!(sums[777], before[777] + up[777]);
            let mut rows = vec![1.0; 30];
            cpu.add_bias(&mut rows, &[1.0, 2.0, 3.0]);
            assert_eq!(rows, [2.0, 3.0, 4.0].repeat(10));
        }
    }

    #[test]
    fn clamped_swiglu_bounds_both_sides() {
        let up = wave(10_000, 0.3).iter().map(|value| value * 4.0).collect::<Vec<_>>();
        for cpu in devices() {
            let mut values: Vec<f32> = wave(10_000, 0.7).iter().map(|value| value * 5.0).collect();
            let before = values.clone();
            cpu.clamped_swiglu(&mut values, &up, 1.702, 7.0);
            for ((found, gate), up) in values.iter().zip(&before).zip(&up) {
                let (gate, up) = (f64::from(*gate).min(7.0), f64::from(*up).clamp(-7.0, 7.0));
                let expected = gate / (1.0 + (-1.702 * gate).exp()) * (up + 1.0);
                assert!((f64::from(*found) - expected).abs() < 1e-5 * expected.abs().max(1.0));
            }
        }
    }

    #[test]
    fn mixtures_add_the_rows_they_name() {
        let terms = [1.0, 2.0, 10.0, 20.0, 100.0, 200.0];
        let mixture = [(2, 0.5), (0, 1.0), (9, 1.0), (0, 0.0), (1, 2.0), (9, 1.0)];
        for cpu in devices() {
            let mut rows = [1.0; 6];
            cpu.add_mixture(&mut rows, 2, &terms, &mixture);
            assert_eq!(rows, [52.0, 103.0, 1.0, 1.0, 21.0, 41.0]);
        }
    }

    #[test]
    fn rope_rotates_pairs_of_halves() {
        for cpu in devices() {
            let mut rows = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
            // Two rows of one head of four: quarter turns in the first row, none in the second.
            cpu.rope(&mut rows, 1, 4, &[0.0, 0.0, 1.0, 1.0], &[1.0, 1.0, 0.0, 0.0]);
            assert_eq!(rows, [-3.0, -4.0, 1.0, 2.0, 5.0, 6.0, 7.0, 8.0]);
        }
    }
}
