//! Sums over long slices, in an order that does not depend on the number of threads.

use rayon::prelude::*;

/// Values that one thread takes at once.
const PIECE: usize = 1 << 14;

/// `sums += values`.
pub(crate) fn add(sums: &mut [f32], values: &[f32]) {
    sums.par_chunks_mut(PIECE).zip(values.par_chunks(PIECE)).for_each(|(sums, values)| {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    });
}

/// `values *= factor`.
pub(crate) fn scale(values: &mut [f32], factor: f32) {
    values.par_chunks_mut(PIECE).for_each(|values| values.iter_mut().for_each(|value| *value *= factor));
}

/// Sets all to zero.
pub(crate) fn clear(values: &mut [f32]) {
    values.par_chunks_mut(PIECE).for_each(|values| values.fill(0.0));
}

/// `Σ value²`, in f64 and piece by piece.
pub(crate) fn squares(values: &[f32]) -> f64 {
    let of_piece =
        |piece: &[f32]| piece.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>();
    values.par_chunks(PIECE).map(of_piece).collect::<Vec<f64>>().into_iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_for_small_numbers() {
        let mut sums = vec![1.0; 40_000];
        add(&mut sums, &vec![2.0; 40_000]);
        assert_eq!(squares(&sums), 360_000.0);
    }
}
