//! Number formats of the key-value store, and how values are written in them.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use crate::KernelError;

/// How keys and values are stored. The default is what serving uses; scoring and evaluation ask for [`Self::F32`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheFormat {
    /// As computed.
    F32,
    /// IEEE half precision, half the memory. Writing rounds to nearest, ties to even; what lies beyond ±65504, the
    /// infinities included, becomes ±65504, so that one outlier does not turn a whole row of attention into NaN.
    #[default]
    F16,
}

impl CacheFormat {
    /// Bytes that one value takes.
    pub const fn value_bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F16 => size_of::<Half>(),
        }
    }
}

impl std::fmt::Display for CacheFormat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        })
    }
}

/// The little-endian bytes of a half.
pub(crate) type Half = [u8; 2];

/// Values that are halved at once.
const CHUNK: usize = 64;

/// The stored keys or values of a layer.
pub(crate) enum CacheElements {
    F32(Vec<f32>),
    F16(Vec<Half>),
}

/// A run of stored values.
#[derive(Copy, Clone)]
pub(crate) enum CacheRun<'a> {
    F32(&'a [f32]),
    F16(&'a [Half]),
}

impl<'a> CacheRun<'a> {
    /// The values of a store in [`CacheFormat::F32`]; none of another.
    #[inline(always)]
    pub(crate) fn singles(self) -> &'a [f32] {
        match self {
            Self::F32(values) => values,
            Self::F16(_) => &[],
        }
    }

    /// The values of a store in [`CacheFormat::F16`]; none of another.
    #[inline(always)]
    pub(crate) fn halves(self) -> &'a [Half] {
        match self {
            Self::F16(values) => values,
            Self::F32(_) => &[],
        }
    }
}

impl CacheElements {
    /// Zeros for the product of `dimensions`. Pages that are never written stay unbacked.
    pub(crate) fn zeros(format: CacheFormat, dimensions: &[usize]) -> Result<Self, KernelError> {
        Ok(match format {
            CacheFormat::F32 => Self::F32(zeros(0.0, dimensions)?),
            CacheFormat::F16 => Self::F16(zeros([0; 2], dimensions)?),
        })
    }

    /// Bytes that the values take.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(values.as_slice()),
            Self::F16(values) => size_of_val(values.as_slice()),
        }
    }

    /// Writes `values` to the places `start`, `start + stride`, `start + 2 · stride` and so on.
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
        }
    }

    /// Copies part `from` over part `to`, where parts of `length` values follow each other.
    pub(crate) fn copy_part(&mut self, length: usize, from: usize, to: usize) {
        let range = from * length..(from + 1) * length;
        match self {
            Self::F32(values) => values.copy_within(range, to * length),
            Self::F16(values) => values.copy_within(range, to * length),
        }
    }

    /// The values from place `start` on.
    #[inline]
    pub(crate) fn run(&self, start: usize, length: usize) -> CacheRun<'_> {
        match self {
            Self::F32(values) => CacheRun::F32(&values[start..start + length]),
            Self::F16(values) => CacheRun::F16(&values[start..start + length]),
        }
    }

    /// The value at `place`.
    pub(crate) fn value(&self, place: usize) -> f32 {
        match self {
            Self::F32(values) => values[place],
            Self::F16(values) => f16::from_le_bytes(values[place]).to_f32(),
        }
    }
}

/// The largest half of the same sign in place of an infinity.
fn saturated(half: f16) -> f16 {
    if half.is_infinite() { f16::MAX.copysign(half) } else { half }
}

fn zeros<T: Copy>(zero: T, dimensions: &[usize]) -> Result<Vec<T>, KernelError> {
    let count = dimensions.iter().try_fold(1usize, |product, dimension| product.checked_mul(*dimension));
    let bytes = count
        .and_then(|count| count.checked_mul(size_of::<T>()))
        .filter(|bytes| *bytes <= isize::MAX as usize);
    match (count, bytes) {
        (Some(count), Some(bytes)) => {
            // Reserving first turns an impossible size into an error instead of an abort.
            let mut probe: Vec<u8> = Vec::new();
            probe
                .try_reserve_exact(bytes)
                .map_err(|_| KernelError::Memory { what: "the key-value store", bytes })?;
            drop(probe);
            Ok(vec![zero; count])
        }
        _ => Err(KernelError::Shape {
            what: "key-value store",
            reason: format!("{dimensions:?} values overflow the address space"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(value: f32) -> f32 {
        let mut elements = CacheElements::zeros(CacheFormat::F16, &[1]).unwrap();
        elements.write(0, 1, &[value]);
        elements.value(0)
    }

    #[test]
    fn halves_are_the_nearest_and_ties_go_to_even() {
        assert_eq!(stored(1.0 + 1.0 / 2048.0), 1.0);
        assert_eq!(stored(1.0 + 3.0 / 2048.0), 1.0 + 2.0 / 1024.0);
        assert_eq!(stored(-0.1), -0.099_975_586);
        assert_eq!(stored(3.0e-8), 5.960_464_5e-8);
        assert_eq!(stored(2.9e-8), 0.0);
    }

    #[test]
    fn values_beyond_the_range_of_halves_saturate() {
        assert_eq!(stored(65_519.0), 65_504.0);
        assert_eq!(stored(65_520.0), 65_504.0);
        assert_eq!(stored(-1e30), -65_504.0);
        assert_eq!(stored(f32::INFINITY), 65_504.0);
        assert_eq!(stored(f32::NEG_INFINITY), -65_504.0);
        assert!(stored(f32::NAN).is_nan());
    }

    #[test]
    fn values_are_written_at_strides() {
        let values: Vec<f32> = (0..150).map(|value| value as f32).collect();
        for format in [CacheFormat::F32, CacheFormat::F16] {
            let mut elements = CacheElements::zeros(format, &[150, 16]).unwrap();
            elements.write(5, 16, &values);
            for (index, value) in values.iter().enumerate() {
                assert_eq!((elements.value(index * 16 + 5), elements.value(index * 16 + 6)), (*value, 0.0));
            }
            assert_eq!(elements.bytes(), 150 * 16 * format.value_bytes());
        }
    }
}
