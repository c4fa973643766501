//! Random values that depend on a seed and a name, and on nothing that was drawn before.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// A generator for what `name` stands for.
pub(crate) fn generator(name: &str, seed: u64) -> Pcg64Mcg {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Pcg64Mcg::seed_from_u64(seed ^ hash)
}

/// `count` values of mean 0 and the given deviation: sums of four uniform 16-bit numbers, within ±3.46 deviations, the
/// same on every machine.
pub(crate) fn normal(name: &str, seed: u64, count: usize, deviation: f32) -> Vec<f32> {
    let mut random = generator(name, seed);
    let value = |bits: u64| {
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        deviation * (sum as f32 / 65_535.0 - 2.0) * 3.0_f32.sqrt()
    };
    (0..count).map(|_| value(random.next_u64())).collect()
}

/// The numbers below `count` in an order that depends on the generator alone: a Fisher-Yates shuffle.
pub(crate) fn permutation(random: &mut Pcg64Mcg, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for index in 0..count {
        order.swap(index, index + below(random, (count - index) as u64) as usize);
    }
    order
}

/// A number in `0..bound`, without the bias of a plain remainder.
fn below(random: &mut Pcg64Mcg, bound: u64) -> u64 {
    let accepted = u64::MAX - u64::MAX % bound.max(1);
    loop {
        let value = random.next_u64();
        if value < accepted {
            return value % bound.max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_mean_zero_and_the_deviation() {
        let values = normal("a", 1, 10_000, 0.5);
        let mean = values.iter().sum::<f32>() / 10_000.0;
        let variance = values.iter().map(|value| value * value).sum::<f32>() / 10_000.0;
        assert!(mean.abs() < 0.02 && (variance - 0.25).abs() < 0.01, "{mean} {variance}");
        assert_ne!(values[..4], normal("b", 1, 4, 0.5)[..], "another name has other values");
        assert_eq!(values[..4], normal("a", 1, 4, 0.5)[..]);
    }

    #[test]
    fn a_permutation_has_every_number_once() {
        let mut order = permutation(&mut generator("order", 3), 100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
