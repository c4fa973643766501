//! Comparisons of `setp` and `set`.

use half::{bf16, f16};

use super::arithmetic::lanes;
use super::{Compute, Lanes, WARP};
use crate::ptx::Type;

/// The comparison of this name, as 0 or 1.
pub(super) fn compare(name: &str, kind: Type) -> Option<Compute> {
    if kind.is_float() { float(name, kind) } else { integer(name, kind) }
}

fn integer(name: &str, kind: Type) -> Option<Compute> {
    macro_rules! with {
        ($type:ty) => {
            Some(match name {
                "eq" => lanes!(|a, b, _| u64::from(a as $type == b as $type)),
                "ne" => lanes!(|a, b, _| u64::from(a as $type != b as $type)),
                "lt" | "lo" => lanes!(|a, b, _| u64::from((a as $type) < b as $type)),
                "le" | "ls" => lanes!(|a, b, _| u64::from(a as $type <= b as $type)),
                "gt" | "hi" => lanes!(|a, b, _| u64::from(a as $type > b as $type)),
                "ge" | "hs" => lanes!(|a, b, _| u64::from(a as $type >= b as $type)),
                _ => return None,
            })
        };
    }
    match kind {
        Type::U16 | Type::B16 => with!(u16),
        Type::S16 => with!(i16),
        Type::U32 | Type::B32 => with!(u32),
        Type::S32 => with!(i32),
        Type::U64 | Type::B64 => with!(u64),
        Type::S64 => with!(i64),
        _ => None,
    }
}

#[expect(clippy::neg_cmp_op_on_partial_ord, reason = "what is no number makes these true, as PTX has it")]
fn float(name: &str, kind: Type) -> Option<Compute> {
    macro_rules! with {
        ($value:expr) => {
            Some(match name {
                "eq" => lanes!(|a, b, _| u64::from($value(a) == $value(b))),
                "ne" => lanes!(|a, b, _| u64::from($value(a) < $value(b) || $value(a) > $value(b))),
                "lt" => lanes!(|a, b, _| u64::from($value(a) < $value(b))),
                "le" => lanes!(|a, b, _| u64::from($value(a) <= $value(b))),
                "gt" => lanes!(|a, b, _| u64::from($value(a) > $value(b))),
                "ge" => lanes!(|a, b, _| u64::from($value(a) >= $value(b))),
                "equ" => lanes!(|a, b, _| u64::from(!($value(a) < $value(b) || $value(a) > $value(b)))),
                "neu" => lanes!(|a, b, _| u64::from($value(a) != $value(b))),
                "ltu" => lanes!(|a, b, _| u64::from(!($value(a) >= $value(b)))),
                "leu" => lanes!(|a, b, _| u64::from(!($value(a) > $value(b)))),
                "gtu" => lanes!(|a, b, _| u64::from(!($value(a) <= $value(b)))),
                "geu" => lanes!(|a, b, _| u64::from(!($value(a) < $value(b)))),
                "num" => lanes!(|a, b, _| u64::from(!$value(a).is_nan() && !$value(b).is_nan())),
                "nan" => lanes!(|a, b, _| u64::from($value(a).is_nan() || $value(b).is_nan())),
                _ => return None,
            })
        };
    }
    match kind {
        Type::F32 => with!(|bits: u64| f32::from_bits(bits as u32)),
        Type::F64 => with!(f64::from_bits),
        Type::F16 => with!(|bits: u64| f16::from_bits(bits as u16)),
        Type::Bf16 => with!(|bits: u64| bf16::from_bits(bits as u16)),
        _ => None,
    }
}

/// How a comparison is combined with a predicate.
pub(super) fn combine(name: &str) -> Option<Compute> {
    Some(match name {
        "and" => lanes!(|a, b, _| a & b),
        "or" => lanes!(|a, b, _| a | b),
        "xor" => lanes!(|a, b, _| a ^ b),
        _ => return None,
    })
}
