//! `cvt`: from every type to every other, with rounding and saturation.
//!
//! A value goes through an f64 or an i128, which hold every source type exactly, so that it is rounded once.

use half::{bf16, f16};

use super::arithmetic::lanes;
use super::rounding::{Rounding, round_single};
use super::{Compute, Lanes, WARP};
use crate::ptx::Type;

/// The conversion, if PTX has it. `rounding` is that of the instruction, `to_integer` whether a float stays a float but
/// becomes a whole number, `saturated` whether `.sat` was said.
pub(super) fn convert(
    to: Type,
    from: Type,
    rounding: Option<Rounding>,
    whole: bool,
    saturated: bool,
) -> Option<Compute> {
    match (from.is_float(), to.is_float()) {
        (false, false) => integers(to, from, saturated),
        (false, true) => integer_to_float(to, from, rounding.unwrap_or(Rounding::Nearest)),
        (true, false) => float_to_integer(to, from, rounding.unwrap_or(Rounding::Zero)),
        (true, true) => floats(to, from, rounding.filter(|_| !whole), rounding.filter(|_| whole)),
    }
}

/// A function over lanes with one more choice made per arm, since a function pointer cannot carry it.
macro_rules! from_integer {
    ($from:expr, |$value:ident| $body:expr) => {
        match $from {
            Type::U8 | Type::B8 => Some(lanes!(|a, _, _| {
                let $value = i128::from(a as u8);
                $body
            })),
            Type::S8 => Some(lanes!(|a, _, _| {
                let $value = i128::from(a as i8);
                $body
            })),
            Type::U16 | Type::B16 => Some(lanes!(|a, _, _| {
                let $value = i128::from(a as u16);
                $body
            })),
            Type::S16 => Some(lanes!(|a, _, _| {
                let $value = i128::from(a as i16);
                $body
            })),
            Type::U32 | Type::B32 => Some(lanes!(|a, _, _| {
                let $value = i128::from(a as u32);
                $body
            })),
            Type::S32 => Some(lanes!(|a, _, _| {
                let $value = i128::from(a as i32);
                $body
            })),
            Type::U64 | Type::B64 => Some(lanes!(|a, _, _| {
                let $value = i128::from(a);
                $body
            })),
            Type::S64 => Some(lanes!(|a, _, _| {
                let $value = i128::from(a as i64);
                $body
            })),
            _ => None,
        }
    };
}

macro_rules! from_float {
    ($from:expr, |$value:ident| $body:expr) => {
        match $from {
            Type::F16 => Some(lanes!(|a, _, _| {
                let $value = f16::from_bits(a as u16).to_f64();
                $body
            })),
            Type::Bf16 => Some(lanes!(|a, _, _| {
                let $value = bf16::from_bits(a as u16).to_f64();
                $body
            })),
            Type::F32 => Some(lanes!(|a, _, _| {
                let $value = f64::from(f32::from_bits(a as u32));
                $body
            })),
            Type::F64 => Some(lanes!(|a, _, _| {
                let $value = f64::from_bits(a);
                $body
            })),
            _ => None,
        }
    };
}

macro_rules! to_each_integer {
    ($to:expr, $with:ident) => {
        match $to {
            Type::U8 | Type::B8 => $with!(u8),
            Type::S8 => $with!(i8),
            Type::U16 | Type::B16 => $with!(u16),
            Type::S16 => $with!(i16),
            Type::U32 | Type::B32 => $with!(u32),
            Type::S32 => $with!(i32),
            Type::U64 | Type::B64 => $with!(u64),
            Type::S64 => $with!(i64),
            _ => None,
        }
    };
}

fn integers(to: Type, from: Type, saturated: bool) -> Option<Compute> {
    macro_rules! plain {
        ($to:ty) => {
            from_integer!(from, |value| value as $to as u64)
        };
    }
    macro_rules! clamped {
        ($to:ty) => {
            from_integer!(from, |value| value.clamp(i128::from(<$to>::MIN), i128::from(<$to>::MAX)) as $to
                as u64)
        };
    }
    if saturated { to_each_integer!(to, clamped) } else { to_each_integer!(to, plain) }
}

fn integer_to_float(to: Type, from: Type, rounding: Rounding) -> Option<Compute> {
    macro_rules! single {
        ($direction:expr) => {
            // Up to 64 bits: the value as f64 and what that left over.
            from_integer!(from, |value| {
                let near = value as f64;
                u64::from(round_single_from(near, (value - near as i128) as f64, value, $direction).to_bits())
            })
        };
    }
    match (to, rounding) {
        (Type::F32, Rounding::Nearest) => from_integer!(from, |value| u64::from((value as f32).to_bits())),
        (Type::F32, Rounding::Zero) => single!(Rounding::Zero),
        (Type::F32, Rounding::Down) => single!(Rounding::Down),
        (Type::F32, Rounding::Up) => single!(Rounding::Up),
        (Type::F64, Rounding::Nearest) => from_integer!(from, |value| (value as f64).to_bits()),
        (Type::F16, Rounding::Nearest) => {
            from_integer!(from, |value| u64::from(f16::from_f64(value as f64).to_bits()))
        }
        (Type::Bf16, Rounding::Nearest) => {
            from_integer!(from, |value| u64::from(bf16::from_f64(value as f64).to_bits()))
        }
        _ => None,
    }
}

fn round_single_from(near: f64, rest: f64, _exact: i128, rounding: Rounding) -> f32 {
    round_single(near, rest, rounding)
}

/// A cast of Rust clamps and turns what is no number into 0, which is what PTX says of these.
fn float_to_integer(to: Type, from: Type, rounding: Rounding) -> Option<Compute> {
    macro_rules! to_integer {
        ($to:ty) => {
            match rounding {
                Rounding::Nearest => from_float!(from, |value| value.round_ties_even() as $to as u64),
                Rounding::Zero => from_float!(from, |value| value.trunc() as $to as u64),
                Rounding::Down => from_float!(from, |value| value.floor() as $to as u64),
                Rounding::Up => from_float!(from, |value| value.ceil() as $to as u64),
            }
        };
    }
    to_each_integer!(to, to_integer)
}

fn floats(to: Type, from: Type, rounding: Option<Rounding>, whole: Option<Rounding>) -> Option<Compute> {
    if let Some(whole) = whole {
        return to_whole(to, from, whole);
    }
    match (to, rounding.unwrap_or(Rounding::Nearest)) {
        (Type::F64, _) => from_float!(from, |value| value.to_bits()),
        (Type::F32, Rounding::Nearest) => from_float!(from, |value| u64::from((value as f32).to_bits())),
        (Type::F32, Rounding::Zero) => {
            from_float!(from, |value| round_single(value, 0.0, Rounding::Zero).to_bits().into())
        }
        (Type::F32, Rounding::Down) => {
            from_float!(from, |value| round_single(value, 0.0, Rounding::Down).to_bits().into())
        }
        (Type::F32, Rounding::Up) => {
            from_float!(from, |value| round_single(value, 0.0, Rounding::Up).to_bits().into())
        }
        (Type::F16, Rounding::Nearest) => {
            from_float!(from, |value| u64::from(f16::from_f64(value).to_bits()))
        }
        (Type::F16, Rounding::Zero) => from_float!(from, |value| half_to_zero(value)),
        (Type::Bf16, Rounding::Nearest) => {
            from_float!(from, |value| u64::from(bf16::from_f64(value).to_bits()))
        }
        (Type::Bf16, Rounding::Zero) => {
            from_float!(from, |value| u64::from(round_single(value, 0.0, Rounding::Zero).to_bits() >> 16))
        }
        _ => None,
    }
}

fn half_to_zero(value: f64) -> u64 {
    let near = f16::from_f64(value);
    let too_far = near.to_f64().abs() > value.abs() && near.to_f64() != 0.0;
    u64::from(near.to_bits() - u16::from(too_far))
}

fn to_whole(to: Type, from: Type, rounding: Rounding) -> Option<Compute> {
    if to != from {
        return None;
    }
    macro_rules! back {
        ($round:ident) => {
            match to {
                Type::F32 => Some(lanes!(|a, _, _| f32::from_bits(a as u32).$round().to_bits().into())),
                Type::F64 => Some(lanes!(|a, _, _| f64::from_bits(a).$round().to_bits())),
                Type::F16 => Some(lanes!(|a, _, _| {
                    f16::from_f32(f16::from_bits(a as u16).to_f32().$round()).to_bits().into()
                })),
                Type::Bf16 => Some(lanes!(|a, _, _| {
                    bf16::from_f32(bf16::from_bits(a as u16).to_f32().$round()).to_bits().into()
                })),
                _ => None,
            }
        };
    }
    match rounding {
        Rounding::Nearest => back!(round_ties_even),
        Rounding::Zero => back!(trunc),
        Rounding::Down => back!(floor),
        Rounding::Up => back!(ceil),
    }
}

/// Two f32 rounded and packed: the first operand into the upper half.
pub(super) fn pack(to: Type, rounding: Rounding) -> Option<Compute> {
    Some(match (to, rounding) {
        (Type::F16x2, Rounding::Nearest) => lanes!(|a, b, _| packed_half(b) | packed_half(a) << 16),
        (Type::Bf16x2, Rounding::Nearest) => lanes!(|a, b, _| packed_brain(b) | packed_brain(a) << 16),
        (Type::F16x2, Rounding::Zero) => lanes!(|a, b, _| {
            half_to_zero(f32::from_bits(b as u32).into())
                | half_to_zero(f32::from_bits(a as u32).into()) << 16
        }),
        (Type::Bf16x2, Rounding::Zero) => lanes!(|a, b, _| (b & 0xffff_0000) >> 16 | a & 0xffff_0000),
        _ => return None,
    })
}

fn packed_half(bits: u64) -> u64 {
    f16::from_f32(f32::from_bits(bits as u32)).to_bits().into()
}

fn packed_brain(bits: u64) -> u64 {
    bf16::from_f32(f32::from_bits(bits as u32)).to_bits().into()
}

/// f32 to tf32: 10 bits of fraction, ties away from zero.
pub(super) fn to_tf32() -> Compute {
    lanes!(|a, _, _| {
        let bits = a as u32;
        u64::from(if bits & 0x7f80_0000 == 0x7f80_0000 {
            bits
        } else {
            bits.wrapping_add(0x1000) & 0xffff_e000
        })
    })
}
