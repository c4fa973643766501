//! Sixteen lanes of f32 in portable code, and the order of summation that all kernels share.
//!
//! A dot product runs in 16 lanes: lane l takes the elements l, l+16, l+32, … in turn, each by one fused
//! multiply-add, and the lanes are then folded 16→8→4→2→1. Every instruction set and every batch size does exactly
//! this, so results are the same to the last bit.

/// Sixteen values, one vector register where the machine has them that wide.
pub(crate) type Lanes = [f32; LANES];

/// Lanes of the order of summation.
pub(crate) const LANES: usize = 16;

/// `a + b`, lane by lane.
#[inline(always)]
pub(crate) fn add(a: &Lanes, b: &Lanes) -> Lanes {
    std::array::from_fn(|lane| a[lane] + b[lane])
}

/// `a·b`, lane by lane.
#[inline(always)]
pub(crate) fn multiply(a: &Lanes, b: &Lanes) -> Lanes {
    std::array::from_fn(|lane| a[lane] * b[lane])
}

/// `a·b + c`, lane by lane, with one rounding.
#[inline(always)]
pub(crate) fn multiply_add(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
}

/// `a·b + c` with the same `a` in all lanes.
#[inline(always)]
pub(crate) fn scale_add(a: f32, b: &Lanes, c: &Lanes) -> Lanes {
    std::array::from_fn(|lane| a.mul_add(b[lane], c[lane]))
}

/// The sum of the lanes: l with l+8, then l+4, then l+2, then the last two.
#[inline(always)]
pub(crate) fn sum(lanes: &Lanes) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|lane| lanes[lane] + lanes[lane + 8]);
    let four: [f32; 4] = std::array::from_fn(|lane| eight[lane] + eight[lane + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// The largest lane.
#[inline(always)]
pub(crate) fn max(lanes: &Lanes) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let eight: [f32; 8] = std::array::from_fn(|lane| larger(lanes[lane], lanes[lane + 8]));
    let four: [f32; 4] = std::array::from_fn(|lane| larger(eight[lane], eight[lane + 4]));
    larger(larger(four[0], four[2]), larger(four[1], four[3]))
}

/// Adds the products of two equally long slices to `lanes`, in the shared order.
#[inline(always)]
pub(crate) fn accumulate(a: &[f32], b: &[f32], lanes: &mut Lanes) {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        *lanes = multiply_add(a, b, lanes);
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane = a.mul_add(*b, *lane);
    }
}

/// `e^x` to about one unit in the last place; 0 below −87.3, and infinity above 88.7.
///
/// Cody–Waite reduction by ln 2 and the minimax polynomial of Cephes' `expf`; no branches, so that it vectorises.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer in the low bits
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-88.0, 89.0);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let exponent = shifted - ROUND;
    let r = exponent.mul_add(-LN2_LOW, exponent.mul_add(-LN2_HIGH, clamped));
    let mut p = 1.987_569_1e-4_f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 0.5);
    let mantissa = p.mul_add(r * r, r) + 1.0;
    // 2^exponent in two factors, so that the ends of the range neither wrap nor lose the result.
    let whole = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let first = whole >> 1;
    let power = |exponent: i32| f32::from_bits(((exponent + 127) as u32) << 23);
    let value = mantissa * power(first) * power(whole - first);
    if x < -87.336_54 { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_of_the_last_place() {
        for step in -87_000..88_700 {
            let x = step as f32 / 1000.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found - expected).abs() <= expected * 2.4e-7, "exp({x}) = {found}, expected {expected}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(1000.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn dot_takes_ragged_lengths() {
        for length in [0, 1, 15, 16, 17, 100] {
            let a: Vec<f32> = (0..length).map(|i| i as f32).collect();
            let mut lanes = [0.0; LANES];
            accumulate(&a, &vec![2.0; length], &mut lanes);
            assert_eq!(sum(&lanes), (length * length.saturating_sub(1)) as f32);
        }
    }
}
