//! Sums in sixteen lanes, which the compiler turns into vector instructions and which always add in the same order.

const LANES: usize = 16;

/// `Σ a · b`.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

/// `target += factor * source`.
pub(super) fn add_scaled(target: &mut [f32], source: &[f32], factor: f32) {
    for (target, source) in target.iter_mut().zip(source) {
        *target += factor * source;
    }
}

/// The sum over all rows, one value for each of `columns`.
pub(super) fn column_sums(values: &[f32], columns: usize) -> Vec<f32> {
    let mut sums = vec![0.0; columns];
    for row in values.chunks_exact(columns.max(1)) {
        add_scaled(&mut sums, row, 1.0);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_count_every_value_once() {
        let a: Vec<f32> = (0..37).map(|value| value as f32).collect();
        assert_eq!(dot(&a, &[1.0; 37]), 666.0);
        assert_eq!(column_sums(&a[..36], 3), [198.0, 210.0, 222.0]);
    }
}
