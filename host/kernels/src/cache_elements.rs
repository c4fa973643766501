//! The numbers of a key-value store: how they are rounded for storage, where they lie and how they come back.
//!
//! Numbers are written at a stride: 1 where the components of a head follow each other (values), 16 where those of 16
//! tokens are interleaved (keys). `q8_0` keeps codes at the very places where the other formats have numbers, and the
//! scales in a slice of their own, interleaved in the same way: the scale of 32 components lies at a 32nd of the place of
//! the first (keys: `[tile][group][16]`, values: `[token][group]`).

use std::ops::{Deref, DerefMut, Range};

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use crate::cache_format::SCALED;
use crate::{CacheFormat, KernelError};

/// The little-endian bytes of a half.
pub(crate) type Half = [u8; 2];

const CACHE_LINE: usize = 64;

/// Values that are halved at once.
const CHUNK: usize = 64;

/// The stored keys or values of a layer.
pub(crate) enum CacheElements {
    F32(Zeros<f32>),
    F16(Zeros<Half>),
    Q8_0 { codes: Zeros<i8>, scales: Zeros<Half> },
}

/// Values that begin as zeros on a cache-line border: vector loads that straddle two lines cost double. Pages that are
/// never written stay unbacked.
pub(crate) struct Zeros<T> {
    /// With room to move the first value to a border.
    values: Vec<T>,
    range: Range<usize>,
}

/// A run of stored numbers.
#[derive(Copy, Clone)]
pub(crate) enum CacheRun<'a> {
    F32(&'a [f32]),
    F16(&'a [Half]),
    Q8_0 { codes: &'a [i8], scales: &'a [Half] },
}

impl CacheElements {
    /// Zeros for the product of `dimensions`.
    pub(crate) fn zeros(format: CacheFormat, dimensions: &[usize]) -> Result<Self, KernelError> {
        let count = dimensions.iter().try_fold(1usize, |product, dimension| product.checked_mul(*dimension));
        let count = count.ok_or_else(|| KernelError::Shape {
            what: "key-value store",
            reason: format!("{dimensions:?} values overflow the address space"),
        })?;
        Ok(match format {
            CacheFormat::F32 => Self::F32(Zeros::new(0.0, count)?),
            CacheFormat::F16 => Self::F16(Zeros::new([0; 2], count)?),
            CacheFormat::Q8_0 => {
                Self::Q8_0 { codes: Zeros::new(0, count)?, scales: Zeros::new([0; 2], count / SCALED)? }
            }
        })
    }

    /// Bytes that the values take.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val::<[f32]>(values),
            Self::F16(values) => size_of_val::<[Half]>(values),
            Self::Q8_0 { codes, scales } => codes.len() + size_of_val::<[Half]>(scales),
        }
    }

    /// Writes the components of a head to the places `start`, `start + stride`, `start + 2 · stride` and so on.
    pub(crate) fn write(&mut self, start: usize, stride: usize, values: &[f32]) {
        match self {
            Self::F32(stored) if stride == 1 => {
                stored[start..start + values.len()].copy_from_slice(values);
            }
            Self::F32(stored) => {
                for (index, value) in values.iter().enumerate() {
                    stored[start + index * stride] = *value;
                }
            }
            Self::F16(stored) => {
                let mut halves = [f16::ZERO; CHUNK];
                for (chunk, values) in values.chunks(CHUNK).enumerate() {
                    let halves = &mut halves[..values.len()];
                    halves.convert_from_f32_slice(values);
                    for (index, half) in halves.iter().enumerate() {
                        stored[start + (chunk * CHUNK + index) * stride] = saturated(*half).to_le_bytes();
                    }
                }
            }
            Self::Q8_0 { codes, scales } => {
                for (group, values) in values.as_chunks::<SCALED>().0.iter().enumerate() {
                    let first = start + group * SCALED * stride;
                    let (scale, rounded) = encode(values);
                    scales[scale_place(first, stride)] = scale;
                    for (index, code) in rounded.into_iter().enumerate() {
                        codes[first + index * stride] = code;
                    }
                }
            }
        }
    }

    /// Copies part `from` over part `to`, where parts of `length` values follow each other.
    pub(crate) fn copy_part(&mut self, length: usize, from: usize, to: usize) {
        fn copy<T: Copy>(values: &mut [T], length: usize, from: usize, to: usize) {
            values.copy_within(from * length..(from + 1) * length, to * length);
        }
        match self {
            Self::F32(values) => copy(values, length, from, to),
            Self::F16(values) => copy(values, length, from, to),
            Self::Q8_0 { codes, scales } => {
                copy(codes, length, from, to);
                copy(scales, length / SCALED, from, to);
            }
        }
    }

    /// The numbers of whole heads or tiles from place `start` on.
    #[inline]
    pub(crate) fn run(&self, start: usize, length: usize) -> CacheRun<'_> {
        let range = start..start + length;
        match self {
            Self::F32(values) => CacheRun::F32(&values[range]),
            Self::F16(values) => CacheRun::F16(&values[range]),
            Self::Q8_0 { codes, scales } => CacheRun::Q8_0 {
                codes: &codes[range],
                scales: &scales[start / SCALED..(start + length) / SCALED],
            },
        }
    }

    /// The value at `place`, which was written at `stride`.
    pub(crate) fn value(&self, place: usize, stride: usize) -> f32 {
        match self {
            Self::F32(values) => values[place],
            Self::F16(values) => f16::from_le_bytes(values[place]).to_f32(),
            Self::Q8_0 { codes, scales } => {
                let scale = f16::from_le_bytes(scales[scale_place(place, stride)]).to_f32();
                scale * f32::from(codes[place])
            }
        }
    }
}

/// Where the scale of the value at `place` lies: 32 groups of `stride` places share `stride` scales.
const fn scale_place(place: usize, stride: usize) -> usize {
    place / (SCALED * stride) * stride + place % stride
}

/// The scale of 32 values and their codes. One NaN makes all of them NaN; infinities get the largest code.
fn encode(values: &[f32; SCALED]) -> (Half, [i8; SCALED]) {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it leaves the rounded integer in the low bits
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let scale = saturated(f16::from_f32(largest / 127.0));
    let inverse = if scale == f16::ZERO { 0.0 } else { scale.to_f32().recip() };
    let code = |value: f32| {
        let scaled = (value * inverse).clamp(-127.0, 127.0);
        (scaled + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i8
    };
    let scale = if values.iter().any(|value| value.is_nan()) { f16::NAN } else { scale };
    (scale.to_le_bytes(), values.map(code))
}

/// The largest half of the same sign in place of an infinity.
fn saturated(half: f16) -> f16 {
    if half.is_infinite() { f16::MAX.copysign(half) } else { half }
}

impl<T: Copy> Zeros<T> {
    /// `count` times `zero`.
    fn new(zero: T, count: usize) -> Result<Self, KernelError> {
        let padded = count.checked_add(CACHE_LINE / size_of::<T>());
        let bytes = padded.and_then(|padded| padded.checked_mul(size_of::<T>()));
        let (Some(padded), Some(bytes)) = (padded, bytes.filter(|bytes| *bytes <= isize::MAX as usize))
        else {
            let reason = format!("{count} values overflow the address space");
            return Err(KernelError::Shape { what: "key-value store", reason });
        };
        // Reserving first turns an impossible size into an error instead of an abort.
        let mut probe: Vec<u8> = Vec::new();
        probe
            .try_reserve_exact(bytes)
            .map_err(|_| KernelError::Memory { what: "the key-value store", bytes })?;
        drop(probe);
        let values = vec![zero; padded];
        let first = values.as_ptr().align_offset(CACHE_LINE).min(padded - count);
        Ok(Self { values, range: first..first + count })
    }
}

impl<T> Deref for Zeros<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.values[self.range.clone()]
    }
}

impl<T> DerefMut for Zeros<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes back of `values`, written at `stride`.
    fn stored(format: CacheFormat, stride: usize, values: &[f32]) -> Vec<f32> {
        let mut elements = CacheElements::zeros(format, &[values.len(), stride]).unwrap();
        elements.write(stride / 2, stride, values);
        (0..values.len()).map(|index| elements.value(stride / 2 + index * stride, stride)).collect()
    }

    fn half(value: f32) -> f32 {
        stored(CacheFormat::F16, 1, &[value])[0]
    }

    #[test]
    fn halves_are_the_nearest_and_ties_go_to_even() {
        assert_eq!(half(1.0 + 1.0 / 2048.0), 1.0);
        assert_eq!(half(1.0 + 3.0 / 2048.0), 1.0 + 2.0 / 1024.0);
        assert_eq!(half(-0.1), -0.099_975_586);
        assert_eq!(half(3.0e-8), 5.960_464_5e-8);
        assert_eq!(half(2.9e-8), 0.0);
    }

    #[test]
    fn values_beyond_the_range_of_halves_saturate() {
        assert_eq!(half(65_519.0), 65_504.0);
        assert_eq!(half(65_520.0), 65_504.0);
        assert_eq!(half(-1e30), -65_504.0);
        assert_eq!(half(f32::INFINITY), 65_504.0);
        assert_eq!(half(f32::NEG_INFINITY), -65_504.0);
        assert!(half(f32::NAN).is_nan());
    }

    #[test]
    fn codes_are_within_half_a_scale() {
        for magnitude in [1e-7f32, 1e-4, 0.3, 77.0, 1e6] {
            let values: Vec<f32> =
                (0..96).map(|i| ((i * 37 % 96) as f32 - 47.0) / 48.0 * magnitude).collect();
            for stride in [1, 16] {
                for (values, found) in
                    values.chunks(SCALED).zip(stored(CacheFormat::Q8_0, stride, &values).chunks(SCALED))
                {
                    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                    // Scales below the smallest half round to it or to zero.
                    let bound = largest / 127.0 * 0.5 + largest / 2048.0 + 127.0 * 3e-8;
                    for (value, found) in values.iter().zip(found) {
                        assert!((value - found).abs() <= bound, "{found} instead of {value}");
                    }
                }
            }
        }
    }

    #[test]
    fn codes_keep_what_is_no_number_in_sight() {
        let mut values = [1.0; 64];
        values[3] = f32::NEG_INFINITY;
        values[40] = f32::NAN;
        let found = stored(CacheFormat::Q8_0, 16, &values);
        assert_eq!((found[3], found[2]), (-127.0 * 65_504.0, 0.0));
        assert!(found[32..].iter().all(|value| value.is_nan()));
        assert_eq!(stored(CacheFormat::Q8_0, 1, &[0.0; 32]), [0.0; 32]);
    }

    #[test]
    fn values_are_written_at_strides() {
        // Each group's largest value is 127, so its codes are the values themselves.
        let values: Vec<f32> = (0..160).map(|value| (value % 32 * 4 + 3) as f32).collect();
        for format in CacheFormat::ALL {
            let mut elements = CacheElements::zeros(format, &[160, 16]).unwrap();
            elements.write(5, 16, &values);
            for (index, value) in values.iter().enumerate() {
                let found = [5, 6].map(|lane| elements.value(index * 16 + lane, 16));
                assert_eq!(found, [*value, 0.0]);
            }
            assert_eq!(elements.bytes(), format.bytes(160 * 16));
        }
    }
}
