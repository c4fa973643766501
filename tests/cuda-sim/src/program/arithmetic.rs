//! What arithmetic and logic instructions compute, by opcode and type.
//!
//! Rounding other than to nearest is in `rounding`; `.ftz`, `.sat` and `.relu` are steps of their own around these.

use half::{bf16, f16};

use super::{Compute, Lanes, WARP};
use crate::ptx::Type;

/// A function over all lanes from an expression over one.
macro_rules! lanes {
    (|$a:tt, $b:tt, $c:tt| $body:expr) => {{
        fn run(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
            let mut out = [0; WARP];
            for lane in 0..WARP {
                let ($a, $b, $c) = (a[lane], b[lane], c[lane]);
                out[lane] = $body;
            }
            out
        }
        run as $crate::program::Compute
    }};
}
pub(super) use lanes;

/// The same for values of one Rust type.
macro_rules! typed {
    ($type:ty, |$a:tt, $b:tt, $c:tt| $body:expr) => {{
        #[allow(dead_code, reason = "not every expression names its type")]
        type T = $type;
        lanes!(|a, b, c| {
            let ($a, $b, $c) = (a as T, b as T, c as T);
            let result: T = $body;
            result as u64
        })
    }};
}

/// The same for every integer type.
macro_rules! integers {
    ($kind:expr, |$a:tt, $b:tt, $c:tt| $body:expr) => {
        match $kind {
            Type::U8 | Type::B8 => Some(typed!(u8, |$a, $b, $c| $body)),
            Type::S8 => Some(typed!(i8, |$a, $b, $c| $body)),
            Type::U16 | Type::B16 => Some(typed!(u16, |$a, $b, $c| $body)),
            Type::S16 => Some(typed!(i16, |$a, $b, $c| $body)),
            Type::U32 | Type::B32 => Some(typed!(u32, |$a, $b, $c| $body)),
            Type::S32 => Some(typed!(i32, |$a, $b, $c| $body)),
            Type::U64 | Type::B64 => Some(typed!(u64, |$a, $b, $c| $body)),
            Type::S64 => Some(typed!(i64, |$a, $b, $c| $body)),
            _ => None,
        }
    };
}

fn single(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn double(bits: u64) -> f64 {
    f64::from_bits(bits)
}

fn half_value(bits: u64) -> f64 {
    f16::from_bits(bits as u16).to_f64()
}

fn brain(bits: u64) -> f64 {
    bf16::from_bits(bits as u16).to_f64()
}

/// An expression on floating point numbers for every such type. Those of 16 bits are computed as f64 and rounded once,
/// pairs one half after the other.
macro_rules! floats {
    ($kind:expr, |$a:tt, $b:tt, $c:tt| $body:expr) => {
        match $kind {
            Type::F32 => Some(lanes!(|a, b, c| {
                let ($a, $b, $c) = (single(a), single(b), single(c));
                let result: f32 = $body;
                u64::from(result.to_bits())
            })),
            Type::F64 => Some(lanes!(|a, b, c| {
                let ($a, $b, $c) = (double(a), double(b), double(c));
                let result: f64 = $body;
                result.to_bits()
            })),
            Type::F16 => Some(lanes!(|a, b, c| {
                let ($a, $b, $c) = (half_value(a), half_value(b), half_value(c));
                u64::from(f16::from_f64($body).to_bits())
            })),
            Type::Bf16 => Some(lanes!(|a, b, c| {
                let ($a, $b, $c) = (brain(a), brain(b), brain(c));
                u64::from(bf16::from_f64($body).to_bits())
            })),
            Type::F16x2 => Some(lanes!(|a, b, c| {
                let one = |shift: u32| {
                    let ($a, $b, $c) =
                        (half_value(a >> shift), half_value(b >> shift), half_value(c >> shift));
                    u64::from(f16::from_f64($body).to_bits()) << shift
                };
                one(0) | one(16)
            })),
            Type::Bf16x2 => Some(lanes!(|a, b, c| {
                let one = |shift: u32| {
                    let ($a, $b, $c) = (brain(a >> shift), brain(b >> shift), brain(c >> shift));
                    u64::from(bf16::from_f64($body).to_bits()) << shift
                };
                one(0) | one(16)
            })),
            _ => None,
        }
    };
}

/// What the numbers' minimum and maximum need: how zeros of both signs and what is no number compare.
pub(super) trait Ordered: Copy {
    fn least(self, other: Self) -> Self;
    fn greatest(self, other: Self) -> Self;
    fn least_or_nan(self, other: Self) -> Self;
    fn greatest_or_nan(self, other: Self) -> Self;
}

macro_rules! ordered {
    ($float:ty) => {
        impl Ordered for $float {
            fn least(self, other: Self) -> Self {
                if self == other && self.is_sign_negative() || other.is_nan() {
                    self
                } else if self < other {
                    self
                } else {
                    other
                }
            }
            fn greatest(self, other: Self) -> Self {
                if self == other && self.is_sign_positive() || other.is_nan() {
                    self
                } else if self > other {
                    self
                } else {
                    other
                }
            }
            fn least_or_nan(self, other: Self) -> Self {
                if self.is_nan() || other.is_nan() { Self::NAN } else { self.least(other) }
            }
            fn greatest_or_nan(self, other: Self) -> Self {
                if self.is_nan() || other.is_nan() { Self::NAN } else { self.greatest(other) }
            }
        }
    };
}
ordered!(f32);
ordered!(f64);

/// The function of an arithmetic opcode without its modifiers, if it exists for the type.
pub(super) fn compute(opcode: &str, kind: Type) -> Option<Compute> {
    if kind.is_float() { float(opcode, kind) } else { integer(opcode, kind).or_else(|| wide(opcode, kind)) }
}

fn float(opcode: &str, kind: Type) -> Option<Compute> {
    match opcode {
        "add" => floats!(kind, |a, b, _| a + b),
        "sub" => floats!(kind, |a, b, _| a - b),
        "mul" => floats!(kind, |a, b, _| a * b),
        "fma" | "mad" => floats!(kind, |a, b, c| a.mul_add(b, c)),
        "div" => floats!(kind, |a, b, _| a / b),
        "min" => floats!(kind, |a, b, _| a.least(b)),
        "max" => floats!(kind, |a, b, _| a.greatest(b)),
        "min.NaN" => floats!(kind, |a, b, _| a.least_or_nan(b)),
        "max.NaN" => floats!(kind, |a, b, _| a.greatest_or_nan(b)),
        "neg" => sign(kind, true),
        "abs" => sign(kind, false),
        "rcp" => floats!(kind, |a, _, _| 1.0 / a),
        "sqrt" => floats!(kind, |a, _, _| a.sqrt()),
        "rsqrt" => floats!(kind, |a, _, _| 1.0 / a.sqrt()),
        "ex2" => floats!(kind, |a, _, _| a.exp2()),
        "lg2" => floats!(kind, |a, _, _| a.log2()),
        "sin" => floats!(kind, |a, _, _| a.sin()),
        "cos" => floats!(kind, |a, _, _| a.cos()),
        "tanh" => floats!(kind, |a, _, _| a.tanh()),
        "copysign" => match kind {
            // The sign of the first operand on the size of the second.
            Type::F32 => Some(lanes!(|a, b, _| a & 0x8000_0000 | b & 0x7fff_ffff)),
            Type::F64 => Some(lanes!(|a, b, _| a & (1 << 63) | b & !(1 << 63))),
            _ => None,
        },
        _ => None,
    }
}

/// Changes of the sign bit alone: they keep the rest of what is no number, too.
fn sign(kind: Type, negate: bool) -> Option<Compute> {
    Some(match (kind, negate) {
        (Type::F32, true) => lanes!(|a, _, _| a ^ 0x8000_0000),
        (Type::F32, false) => lanes!(|a, _, _| a & 0x7fff_ffff),
        (Type::F64, true) => lanes!(|a, _, _| a ^ (1 << 63)),
        (Type::F64, false) => lanes!(|a, _, _| a & !(1 << 63)),
        (Type::F16 | Type::Bf16, true) => lanes!(|a, _, _| a ^ 0x8000),
        (Type::F16 | Type::Bf16, false) => lanes!(|a, _, _| a & 0x7fff),
        (Type::F16x2 | Type::Bf16x2, true) => lanes!(|a, _, _| a ^ 0x8000_8000),
        (Type::F16x2 | Type::Bf16x2, false) => lanes!(|a, _, _| a & 0x7fff_7fff),
        _ => return None,
    })
}

#[expect(clippy::unnecessary_cast, reason = "each expression stands for all integer types")]
fn integer(opcode: &str, kind: Type) -> Option<Compute> {
    match opcode {
        "add" => integers!(kind, |a, b, _| a.wrapping_add(b)),
        "sub" => integers!(kind, |a, b, _| a.wrapping_sub(b)),
        "mul.lo" => integers!(kind, |a, b, _| a.wrapping_mul(b)),
        "mad.lo" => integers!(kind, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        "mul.hi" => integers!(kind, |a, b, _| ((i128::from(a) * i128::from(b)) >> T::BITS) as T),
        "mad.hi" => {
            integers!(kind, |a, b, c| (((i128::from(a) * i128::from(b)) >> T::BITS) as T).wrapping_add(c))
        }
        // A division by zero has no stated result; all ones is what hardware gives.
        "div" => integers!(kind, |a, b, _| if b == 0 { !0 } else { a.wrapping_div(b) }),
        "rem" => integers!(kind, |a, b, _| if b == 0 { a } else { a.wrapping_rem(b) }),
        "min" => integers!(kind, |a, b, _| a.min(b)),
        "max" => integers!(kind, |a, b, _| a.max(b)),
        "neg" => integers!(kind, |a, _, _| (0 as T).wrapping_sub(a)),
        "abs" => integers!(kind, |a, _, _| if (a as i64) < 0 && T::MIN != 0 {
            (0 as T).wrapping_sub(a)
        } else {
            a
        }),
        "and" => logic(kind, lanes!(|a, b, _| a & b)),
        "or" => logic(kind, lanes!(|a, b, _| a | b)),
        "xor" => logic(kind, lanes!(|a, b, _| a ^ b)),
        "not" if kind == Type::Pred => Some(lanes!(|a, _, _| a ^ 1)),
        "not" => integers!(kind, |a, _, _| !a),
        "cnot" => integers!(kind, |a, _, _| T::from(a == 0)),
        "shl" => lanes_shift_left(kind),
        "shr" => lanes_shift_right(kind),
        "popc" => integers!(kind, |a, _, _| a.count_ones() as T),
        "clz" => integers!(kind, |a, _, _| a.leading_zeros() as T),
        "brev" => integers!(kind, |a, _, _| a.reverse_bits()),
        "bfind" | "bfind.shiftamt" => find(opcode, kind),
        "bfe" => integers!(kind, |a, b, c| {
            let (position, length) = (b as u32 & 255, c as u32 & 255);
            let mut value = if position >= T::BITS {
                if T::MIN == 0 { 0 } else { a >> (T::BITS - 1) }
            } else {
                a >> position
            };
            if length == 0 {
                value = 0;
            } else if length < T::BITS {
                value = (value << (T::BITS - length)) >> (T::BITS - length);
            }
            value
        }),
        "selp" => Some(lanes!(|a, b, c| if c & 1 != 0 { a } else { b })),
        _ => None,
    }
}

fn lanes_shift_left(kind: Type) -> Option<Compute> {
    Some(match kind.bytes() {
        2 => lanes!(|a, b, _| if b as u32 >= 16 { 0 } else { u64::from((a as u16) << (b as u32)) }),
        4 => lanes!(|a, b, _| if b as u32 >= 32 { 0 } else { u64::from((a as u32) << (b as u32)) }),
        8 => lanes!(|a, b, _| if b as u32 >= 64 { 0 } else { a << (b as u32) }),
        _ => return None,
    })
}

fn lanes_shift_right(kind: Type) -> Option<Compute> {
    Some(match (kind.bytes(), kind.is_signed()) {
        (2, false) => lanes!(|a, b, _| if b as u32 >= 16 { 0 } else { u64::from(a as u16 >> (b as u32)) }),
        (4, false) => lanes!(|a, b, _| if b as u32 >= 32 { 0 } else { u64::from(a as u32 >> (b as u32)) }),
        (8, false) => lanes!(|a, b, _| if b as u32 >= 64 { 0 } else { a >> (b as u32) }),
        (2, true) => lanes!(|a, b, _| (a as i16 >> (b as u32).min(15)) as u64),
        (4, true) => lanes!(|a, b, _| (a as i32 >> (b as u32).min(31)) as u64),
        (8, true) => lanes!(|a, b, _| (a as i64 >> (b as u32).min(63)) as u64),
        _ => return None,
    })
}

/// The place of the highest bit that isn't the sign; all ones if there is none.
fn find(opcode: &str, kind: Type) -> Option<Compute> {
    let shift = opcode == "bfind.shiftamt";
    Some(match (kind, shift) {
        (Type::U32, false) => lanes!(|a, _, _| u64::from(31u32.wrapping_sub((a as u32).leading_zeros()))),
        (Type::U32, true) => {
            lanes!(|a, _, _| if a as u32 == 0 { 0xffff_ffff } else { (a as u32).leading_zeros().into() })
        }
        (Type::S32, false) => lanes!(|a, _, _| {
            let bits = if (a as i32) < 0 { !(a as u32) } else { a as u32 };
            u64::from(31u32.wrapping_sub(bits.leading_zeros()))
        }),
        (Type::U64, false) => lanes!(|a, _, _| u64::from(63u32.wrapping_sub(a.leading_zeros()))),
        _ => return None,
    })
}

fn logic(kind: Type, run: Compute) -> Option<Compute> {
    (kind == Type::Pred || matches!(kind, Type::B16 | Type::B32 | Type::B64)).then_some(run)
}

/// Products twice as wide as their factors, and what works on 32 bits alone.
fn wide(opcode: &str, kind: Type) -> Option<Compute> {
    Some(match (opcode, kind) {
        ("mul.wide", Type::U16) => lanes!(|a, b, _| u64::from(a as u16) * u64::from(b as u16)),
        ("mul.wide", Type::S16) => lanes!(|a, b, _| (i64::from(a as i16) * i64::from(b as i16)) as u64),
        ("mul.wide", Type::U32) => lanes!(|a, b, _| u64::from(a as u32) * u64::from(b as u32)),
        ("mul.wide", Type::S32) => lanes!(|a, b, _| (i64::from(a as i32) * i64::from(b as i32)) as u64),
        ("mad.wide", Type::U16) => {
            lanes!(|a, b, c| (u64::from(a as u16) * u64::from(b as u16)).wrapping_add(c))
        }
        ("mad.wide", Type::S16) => {
            lanes!(|a, b, c| ((i64::from(a as i16) * i64::from(b as i16)) as u64).wrapping_add(c))
        }
        ("mad.wide", Type::U32) => {
            lanes!(|a, b, c| (u64::from(a as u32) * u64::from(b as u32)).wrapping_add(c))
        }
        ("mad.wide", Type::S32) => {
            lanes!(|a, b, c| ((i64::from(a as i32) * i64::from(b as i32)) as u64).wrapping_add(c))
        }
        ("mul24.lo", Type::U32) => {
            lanes!(|a, b, _| u64::from((a as u32 & 0xff_ffff).wrapping_mul(b as u32 & 0xff_ffff)))
        }
        ("sad", Type::U32) => {
            lanes!(|a, b, c| u64::from((a as u32).abs_diff(b as u32).wrapping_add(c as u32)))
        }
        ("sad", Type::S32) => {
            lanes!(|a, b, c| u64::from((a as i32).abs_diff(b as i32).wrapping_add(c as u32)))
        }
        ("shf.l.wrap", Type::B32) => lanes!(|a, b, c| funnel(a, b) << (c as u32 & 31) >> 32),
        ("shf.l.clamp", Type::B32) => lanes!(|a, b, c| funnel(a, b) << (c as u32).min(32) >> 32),
        ("shf.r.wrap", Type::B32) => lanes!(|a, b, c| funnel(a, b) >> (c as u32 & 31) & 0xffff_ffff),
        ("shf.r.clamp", Type::B32) => lanes!(|a, b, c| funnel(a, b) >> (c as u32).min(32) & 0xffff_ffff),
        ("prmt", Type::B32) => lanes!(|a, b, c| permute(a, b, c)),
        _ => return None,
    })
}

fn funnel(low: u64, high: u64) -> u64 {
    u64::from(low as u32) | high << 32
}

fn permute(a: u64, b: u64, selectors: u64) -> u64 {
    let bytes = funnel(a, b).to_le_bytes();
    let mut out = [0u8; 8];
    for (place, to) in out.iter_mut().take(4).enumerate() {
        let selector = (selectors >> (4 * place)) & 15;
        let byte = bytes[(selector & 7) as usize];
        *to = if selector & 8 != 0 { ((byte as i8) >> 7) as u8 } else { byte };
    }
    u64::from_le_bytes(out)
}

/// `lop3` of the table `table`: each of the eight rows that it has contributes where all three operands match.
pub(super) fn logic_of_three(a: u64, b: u64, c: u64, table: u64) -> u64 {
    let mut out = 0;
    for row in 0..8 {
        if table >> row & 1 != 0 {
            let pick = |bits: u64, bit: u32| if row >> bit & 1 != 0 { bits } else { !bits };
            out |= pick(a, 2) & pick(b, 1) & pick(c, 0);
        }
    }
    out & 0xffff_ffff
}

/// Sum of four products of bytes; `high` tells the signs of a and b.
pub(super) fn dot_product(a_signed: bool, b_signed: bool) -> Compute {
    macro_rules! dot {
        ($a:ty, $b:ty) => {
            lanes!(|a, b, c| {
                let mut sum = c as i32;
                for byte in 0..4 {
                    let (x, y) = ((a >> (8 * byte)) as $a, (b >> (8 * byte)) as $b);
                    sum = sum.wrapping_add(i32::from(x) * i32::from(y));
                }
                u64::from(sum as u32)
            })
        };
    }
    match (a_signed, b_signed) {
        (true, true) => dot!(i8, i8),
        (true, false) => dot!(i8, u8),
        (false, true) => dot!(u8, i8),
        (false, false) => dot!(u8, u8),
    }
}

/// Bits of b from `position` on, as many as `length`, replaced by the lowest of a: (a, b, position | length << 8).
pub(super) fn insert_bits(bits: u32) -> Compute {
    fn insert(a: u64, b: u64, place: u64, bits: u64) -> u64 {
        let (position, length) = (place & 255, place >> 8 & 255);
        if position >= bits || length == 0 {
            return b;
        }
        let mask = if length >= 64 { !0 } else { (1u64 << length) - 1 } << position;
        b & !mask | (a << position) & mask
    }
    if bits == 32 {
        lanes!(|a, b, c| insert(a, b, c, 32) & 0xffff_ffff)
    } else {
        lanes!(|a, b, c| insert(a, b, c, 64))
    }
}
