//! Directed rounding of f32 arithmetic, flushing of subnormal numbers, saturation.

use super::arithmetic::lanes;
use super::{Compute, Lanes, WARP};
use crate::ptx::Type;

/// Which way a result goes that lies between two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

impl Rounding {
    pub(super) fn named(modifier: &str) -> Option<Self> {
        Some(match modifier {
            "rn" | "rni" => Self::Nearest,
            "rz" | "rzi" => Self::Zero,
            "rm" | "rmi" => Self::Down,
            "rp" | "rpi" => Self::Up,
            _ => return None,
        })
    }
}

/// The exact sum `value + rest` as an f32, where `rest` is smaller than the last place of `value`.
pub(super) fn round_single(value: f64, rest: f64, rounding: Rounding) -> f32 {
    let near = value as f32;
    if !near.is_finite() && !value.is_finite() || value.is_nan() {
        return near;
    }
    // How the exact value compares with the rounded one.
    let difference = (value - f64::from(near)) + rest;
    let (below, above) = (difference < 0.0, difference > 0.0);
    match rounding {
        Rounding::Nearest => near,
        Rounding::Zero if near > 0.0 && below => near.next_down(),
        Rounding::Zero if near < 0.0 && above => near.next_up(),
        Rounding::Down if below => near.next_down(),
        Rounding::Up if above => near.next_up(),
        _ => near,
    }
}

/// a · b + c, rounded once. The product of two f32 is exact in an f64; the sum's rest is found by two-sum.
fn multiply_add(a: u64, b: u64, c: u64, rounding: Rounding) -> u64 {
    let value = |bits: u64| f64::from(f32::from_bits(bits as u32));
    let (product, addend) = (value(a) * value(b), value(c));
    let sum = product + addend;
    let part = sum - product;
    let rest = (product - (sum - part)) + (addend - part);
    let rest = if rest.is_nan() { 0.0 } else { rest };
    round_single(sum, rest, rounding).to_bits().into()
}

/// `add`, `sub`, `mul`, `fma` of f32 in a direction other than to nearest.
pub(super) fn directed(opcode: &str, rounding: Rounding) -> Option<Compute> {
    const ONE: u64 = 0x3f80_0000;
    const NEGATIVE_ZERO: u64 = 0x8000_0000;
    macro_rules! in_direction {
        ($direction:expr) => {
            match opcode {
                "add" => Some(lanes!(|a, b, _| multiply_add(a, ONE, b, $direction))),
                "sub" => Some(lanes!(|a, b, _| multiply_add(a, ONE, b ^ NEGATIVE_ZERO, $direction))),
                "mul" => Some(lanes!(|a, b, _| multiply_add(a, b, NEGATIVE_ZERO, $direction))),
                "fma" => Some(lanes!(|a, b, c| multiply_add(a, b, c, $direction))),
                _ => None,
            }
        };
    }
    match rounding {
        Rounding::Nearest => None,
        Rounding::Zero => in_direction!(Rounding::Zero),
        Rounding::Down => in_direction!(Rounding::Down),
        Rounding::Up => in_direction!(Rounding::Up),
    }
}

/// Subnormal f32 become zeros of their sign.
pub(super) fn flush() -> Compute {
    lanes!(|a, _, _| if a as u32 & 0x7f80_0000 == 0 { a & 0x8000_0000 } else { a })
}

/// Into [0, 1]; what is no number becomes 0.
pub(super) fn saturate(kind: Type) -> Option<Compute> {
    Some(match kind {
        Type::F32 => lanes!(|a, _, _| {
            let value = f32::from_bits(a as u32);
            u64::from(if value > 0.0 { value.min(1.0) } else { 0.0 }.to_bits())
        }),
        Type::F64 => lanes!(|a, _, _| {
            let value = f64::from_bits(a);
            if value > 0.0 { value.min(1.0) } else { 0.0 }.to_bits()
        }),
        Type::F16 => lanes!(|a, _, _| saturate_bits(a, 0x3c00)),
        Type::F16x2 => lanes!(|a, _, _| saturate_bits(a, 0x3c00) | saturate_bits(a >> 16, 0x3c00) << 16),
        _ => return None,
    })
}

fn saturate_bits(a: u64, one: u16) -> u64 {
    let bits = a as u16;
    u64::from(if bits & 0x8000 != 0 || bits > 0x7c00 { 0 } else { bits.min(one) })
}

/// Negative numbers and what is no number become 0.
pub(super) fn rectify(kind: Type) -> Option<Compute> {
    Some(match kind {
        Type::F16 => lanes!(|a, _, _| rectify_bits(a, 0x7c00)),
        Type::F16x2 => lanes!(|a, _, _| rectify_bits(a, 0x7c00) | rectify_bits(a >> 16, 0x7c00) << 16),
        Type::Bf16 => lanes!(|a, _, _| rectify_bits(a, 0x7f80)),
        Type::Bf16x2 => lanes!(|a, _, _| rectify_bits(a, 0x7f80) | rectify_bits(a >> 16, 0x7f80) << 16),
        _ => return None,
    })
}

fn rectify_bits(a: u64, infinity: u16) -> u64 {
    let bits = a as u16;
    if bits & 0x7fff > infinity {
        return 0x7fff;
    }
    u64::from(if bits & 0x8000 != 0 { 0 } else { bits })
}
