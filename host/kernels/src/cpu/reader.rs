//! Stored keys and values as lanes of f32. Widening a half is exact, so every instruction set gives the same bits.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

#[cfg(target_arch = "x86_64")]
use super::lanes::LANES;
use super::lanes::Lanes;
use super::{InstructionSet, instruction_set::versions};
use crate::cache_format::Half;
use crate::dequantize::half_to_f32;

/// How stored values become f32, as a type: a choice made for each register would cost as much as the reading.
pub(super) trait Reader {
    /// A stored value.
    type Stored: Copy + Default;

    /// Sixteen values. Those of an instruction set may only be read in code that is compiled for it.
    fn lanes(stored: &[Self::Stored; 16]) -> Lanes;

    /// One value.
    fn one(stored: Self::Stored) -> f32;
}

/// Values that are stored as f32.
pub(super) struct Plain;

impl Reader for Plain {
    type Stored = f32;

    #[inline(always)]
    fn lanes(stored: &Lanes) -> Lanes {
        *stored
    }

    #[inline(always)]
    fn one(stored: f32) -> f32 {
        stored
    }
}

/// Halves, on any machine.
pub(super) struct PortableHalves;

/// Halves, with F16C.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx2Halves;

/// Halves, with AVX-512.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx512Halves;

impl Reader for PortableHalves {
    type Stored = Half;

    #[inline(always)]
    fn lanes(stored: &[Half; 16]) -> Lanes {
        stored.map(Self::one)
    }

    #[inline(always)]
    fn one(stored: Half) -> f32 {
        half_to_f32(u16::from_le_bytes(stored))
    }
}

#[cfg(target_arch = "x86_64")]
impl Reader for Avx2Halves {
    type Stored = Half;

    #[inline(always)]
    fn lanes(stored: &[Half; 16]) -> Lanes {
        let mut lanes = [0.0; LANES];
        for (half, lanes) in stored.as_chunks::<8>().0.iter().zip(lanes.as_chunks_mut::<8>().0) {
            // SAFETY: 16 bytes are read and 8 values written, the sizes of the two arrays; the caller has F16C.
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(half.as_ptr().cast())));
            }
        }
        lanes
    }

    #[inline(always)]
    fn one(stored: Half) -> f32 {
        PortableHalves::one(stored)
    }
}

#[cfg(target_arch = "x86_64")]
impl Reader for Avx512Halves {
    type Stored = Half;

    #[inline(always)]
    fn lanes(stored: &[Half; 16]) -> Lanes {
        let mut lanes = [0.0; LANES];
        // SAFETY: 32 bytes are read and 16 values written, the sizes of the two arrays; the caller has AVX-512.
        unsafe {
            _mm512_storeu_ps(lanes.as_mut_ptr(), _mm512_cvtph_ps(_mm256_loadu_si256(stored.as_ptr().cast())));
        }
        lanes
    }

    #[inline(always)]
    fn one(stored: Half) -> f32 {
        PortableHalves::one(stored)
    }
}

versions! {
    fn widen_all(halves: &[Half], out: &mut [f32])
        = widen_with::<PortableHalves>, widen_with::<Avx2Halves>, widen_with::<Avx512Halves>;
}

/// Writes the values of `halves` to the beginning of `out`, which is at least as long, and returns them.
pub(super) fn widen<'a>(set: InstructionSet, halves: &[Half], out: &'a mut [f32]) -> &'a [f32] {
    let out = &mut out[..halves.len()];
    widen_all(set, halves, out);
    out
}

#[inline(always)]
fn widen_with<R: Reader<Stored = Half>>(halves: &[Half], out: &mut [f32]) {
    let ((halves, halves_rest), (out, out_rest)) = (halves.as_chunks::<16>(), out.as_chunks_mut::<16>());
    for (halves, out) in halves.iter().zip(out) {
        *out = R::lanes(halves);
    }
    for (half, out) in halves_rest.iter().zip(out_rest) {
        *out = R::one(*half);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_the_same_number_on_every_instruction_set() {
        let halves: Vec<Half> = (0..=u16::MAX).map(u16::to_le_bytes).collect();
        for set in [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512] {
            let set = set.min(InstructionSet::detect());
            for halves in [&halves[..], &halves[..37], &halves[..5]] {
                let mut space = vec![f32::NAN; halves.len() + 9];
                for (half, found) in halves.iter().zip(widen(set, halves, &mut space)) {
                    let expected = half::f16::from_le_bytes(*half).to_f32();
                    assert!(*found == expected || (found.is_nan() && expected.is_nan()), "{half:?} on {set}");
                }
            }
        }
    }
}
