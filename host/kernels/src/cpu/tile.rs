//! The inner kernel of every exact product: a tile of weight rows against a tile of activation rows.
//!
//! Each pair of rows has its 16 lanes of partial sums (see [`super::lanes`] for the order), so a tile of 4 × 4 keeps
//! 16 vector registers busy and loads 8 vectors for 16 multiply-adds. The lanes stay in memory between calls: long
//! rows may be taken in pieces of a multiple of 16 columns without changing a bit of the result.

#[cfg(target_arch = "x86_64")]
#[path = "tile_avx2.rs"]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[path = "tile_avx512.rs"]
mod avx512;

use super::InstructionSet;
use super::lanes::{self, Lanes};

/// Rows, one every `stride` values, of which `columns` values are used.
#[derive(Copy, Clone)]
pub(super) struct Rows<'a> {
    values: &'a [f32],
    stride: usize,
    count: usize,
    columns: usize,
}

impl<'a> Rows<'a> {
    /// The first `count` rows of `values`, as many as there are.
    pub(super) fn new(values: &'a [f32], stride: usize, count: usize, columns: usize) -> Self {
        let whole = if values.len() < columns { 0 } else { (values.len() - columns) / stride.max(1) + 1 };
        Self { values, stride, count: count.min(whole), columns }
    }

    /// `count` rows from `first` on, as many as there are.
    pub(super) fn part(&self, first: usize, count: usize) -> Self {
        let count = count.min(self.count.saturating_sub(first));
        let values = self.values.get(first * self.stride..).unwrap_or_default();
        Self { values, stride: self.stride, count, columns: self.columns }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Row `index`, if there is one.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn get(&self, index: usize) -> Option<&'a [f32]> {
        (index < self.count).then(|| self.row(index))
    }

    pub(super) fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.stride..index * self.stride + self.columns]
    }
}

/// Adds the products of every weight row with every activation row to `sums[w · activations.count() + a]`.
pub(super) fn accumulate(set: InstructionSet, weights: Rows, activations: Rows, sums: &mut [Lanes]) {
    assert_eq!(weights.columns, activations.columns);
    assert!(sums.len() >= weights.count * activations.count);
    match set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 | InstructionSet::Avx512Vnni | InstructionSet::Amx => {
            avx512::accumulate(weights, activations, sums);
        }
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => avx2::accumulate(weights, activations, sums),
        _ => accumulate_portable(weights, activations, sums),
    }
}

/// Sums each set of lanes: `out[i] = Σ sums[i]`, as many as there are of both.
pub(super) fn reduce(set: InstructionSet, sums: &[Lanes], out: &mut [f32]) {
    let count = sums.len().min(out.len());
    let (sums, out) = (&sums[..count], &mut out[..count]);
    #[cfg(target_arch = "x86_64")]
    if set >= InstructionSet::Avx512 {
        return avx512::reduce(sums, out);
    }
    let _ = set;
    for (out, lanes) in out.iter_mut().zip(sums) {
        *out = lanes::sum(lanes);
    }
}

fn accumulate_portable(weights: Rows, activations: Rows, sums: &mut [Lanes]) {
    for w in 0..weights.count {
        for a in 0..activations.count {
            lanes::accumulate(weights.row(w), activations.row(a), &mut sums[w * activations.count + a]);
        }
    }
}

/// A kernel that holds the sums of `W` weight rows by `A` activation rows in registers.
trait RegisterTile {
    /// Activation rows of the largest tile.
    const ACTIVATIONS: usize;

    /// Adds products to `sums[w · stride + a]`. Both row sets have the same number of columns.
    ///
    /// # Safety
    /// The processor has the kernel's features, `weights` has `W` rows, `activations` has `A`, and
    /// `sums` more than `(W − 1) · stride + A − 1` elements.
    unsafe fn run<const W: usize, const A: usize>(
        weights: Rows,
        activations: Rows,
        sums: &mut [Lanes],
        stride: usize,
    );
}

/// Cuts a tile of any size into register tiles.
///
/// # Safety
/// The processor has the features of `T`, and there are sums for all pairs of rows.
unsafe fn accumulate_tiles<T: RegisterTile>(weights: Rows, activations: Rows, sums: &mut [Lanes]) {
    let mut a = 0;
    while a < activations.count {
        let part = activations.part(a, T::ACTIVATIONS);
        let (sums, stride) = (&mut sums[a..], activations.count);
        // SAFETY: passed on from the caller; each arm names the number of rows in `part`.
        unsafe {
            match part.count {
                4 => strip::<T, 4, 4>(weights, part, sums, stride),
                3 => strip::<T, 4, 3>(weights, part, sums, stride),
                2 => strip::<T, 4, 2>(weights, part, sums, stride),
                _ => strip::<T, 8, 1>(weights, part, sums, stride),
            }
        }
        a += part.count;
    }
}

/// All weight rows, `W` at a time and the rest singly, against `A` activation rows.
///
/// # Safety
/// As for [`accumulate_tiles`]; `activations` has `A` rows.
unsafe fn strip<T: RegisterTile, const W: usize, const A: usize>(
    weights: Rows,
    activations: Rows,
    sums: &mut [Lanes],
    stride: usize,
) {
    let whole = weights.count / W * W;
    for w in (0..whole).step_by(W) {
        // SAFETY: `w + W` rows exist, and their sums.
        unsafe { T::run::<W, A>(weights.part(w, W), activations, &mut sums[w * stride..], stride) };
    }
    for w in whole..weights.count {
        // SAFETY: row `w` exists, and its sums.
        unsafe { T::run::<1, A>(weights.part(w, 1), activations, &mut sums[w * stride..], stride) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::lanes::LANES;

    fn noise(length: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits_as_single_dots() {
        for columns in [1, 15, 16, 31, 64, 100, 577] {
            for (w, a) in [(1, 1), (3, 2), (8, 1), (9, 3), (11, 5), (4, 4), (17, 9)] {
                let (weights, activations) = (noise(w * columns, 1), noise(a * columns, 2));
                for set in [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512] {
                    let set = set.min(InstructionSet::detect());
                    let rows = |values, count| Rows::new(values, columns, count, columns);
                    let mut sums = vec![[0.0; LANES]; w * a];
                    accumulate(set, rows(&weights, w), rows(&activations, a), &mut sums);
                    let mut out = vec![0.0; w * a];
                    reduce(set, &sums, &mut out);
                    for (index, found) in out.iter().enumerate() {
                        let weight = &weights[index / a * columns..][..columns];
                        let activation = &activations[index % a * columns..][..columns];
                        let mut lanes = [0.0; LANES];
                        lanes::accumulate(weight, activation, &mut lanes);
                        assert_eq!(*found, lanes::sum(&lanes), "{set}: {w}x{a}x{columns}");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_in_pieces_give_the_same_bits() {
        let (weights, activations) = (noise(5 * 100, 3), noise(3 * 100, 4));
        for set in [InstructionSet::Portable, InstructionSet::detect()] {
            let run = |borders: &[usize]| {
                let mut sums = vec![[0.0; LANES]; 15];
                for border in borders.windows(2) {
                    let columns = border[1] - border[0];
                    let weights = Rows::new(&weights[border[0]..], 100, 5, columns);
                    let activations = Rows::new(&activations[border[0]..], 100, 3, columns);
                    accumulate(set, weights, activations, &mut sums);
                }
                sums
            };
            assert_eq!(run(&[0, 100]), run(&[0, 16, 64, 100]));
        }
    }
}
