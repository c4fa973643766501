//! Stored keys and values as lanes of f32. Widening is exact (a half's 11 bits times a code's 7 fit an f32), so every
//! instruction set and every way of reading gives the same bits.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::instruction_set::{InstructionSet, versions};
use super::lanes::{self, LANES, Lanes};
use crate::cache_elements::{CacheRun, Half};
use crate::cache_format::SCALED;
use crate::dequantize::half_to_f32;
use crate::kv::KEY_TILE;

/// Keys or values of a tile as a reader takes them.
#[derive(Copy, Clone, Default)]
pub(super) struct Run<'a, S> {
    pub(super) stored: &'a [S],
    /// The factors of the stored numbers where they have any, in the order of [`crate::KeyValueStore`].
    pub(super) scales: &'a [f32],
}

/// How stored numbers become f32, as a type: a choice made for each register would cost as much as the reading.
pub(super) trait Reader {
    /// A stored number.
    type Stored: Copy + Default;

    /// Whether 32 components share a scale.
    const HAS_SCALES: bool = false;

    /// The keys of a tile; what has to be converted first goes to `space`, which has a value for every number.
    fn keys<'a>(set: InstructionSet, run: CacheRun<'a>, space: &'a mut [f32]) -> Run<'a, Self::Stored>;

    /// The values of a tile, likewise.
    fn values<'a>(set: InstructionSet, run: CacheRun<'a>, space: &'a mut [f32]) -> Run<'a, Self::Stored>;

    /// Sixteen numbers, without their scale. Those of an instruction set may only be read in code that is compiled for it.
    fn lanes(stored: &[Self::Stored; LANES]) -> Lanes;

    /// One number, without its scale.
    fn one(stored: Self::Stored) -> f32;
}

/// Every format as f32, which takes a copy for all but one: for tiles that many rows share.
pub(super) struct Plain;

impl Reader for Plain {
    type Stored = f32;

    #[inline(always)]
    fn keys<'a>(set: InstructionSet, run: CacheRun<'a>, space: &'a mut [f32]) -> Run<'a, f32> {
        let stored = match run {
            CacheRun::F32(stored) => stored,
            CacheRun::F16(halves) => widen(set, halves, space),
            CacheRun::Q8_0 { codes, scales } => {
                let space = &mut space[..codes.len()];
                decode_keys(set, codes, scales, space);
                space
            }
        };
        Run { stored, scales: &[] }
    }

    #[inline(always)]
    fn values<'a>(set: InstructionSet, run: CacheRun<'a>, space: &'a mut [f32]) -> Run<'a, f32> {
        let stored = match run {
            CacheRun::F32(stored) => stored,
            CacheRun::F16(halves) => widen(set, halves, space),
            CacheRun::Q8_0 { codes, scales } => {
                let space = &mut space[..codes.len()];
                decode_values(set, codes, scales, space);
                space
            }
        };
        Run { stored, scales: &[] }
    }

    #[inline(always)]
    fn lanes(stored: &Lanes) -> Lanes {
        *stored
    }

    #[inline(always)]
    fn one(stored: f32) -> f32 {
        stored
    }
}

/// Codes of `q8_0` where they lie; their scales are widened tile by tile.
pub(super) struct Codes;

impl Reader for Codes {
    type Stored = i8;

    const HAS_SCALES: bool = true;

    #[inline(always)]
    fn keys<'a>(set: InstructionSet, run: CacheRun<'a>, space: &'a mut [f32]) -> Run<'a, i8> {
        match run {
            CacheRun::Q8_0 { codes, scales } => Run { stored: codes, scales: widen(set, scales, space) },
            CacheRun::F32(_) | CacheRun::F16(_) => Run::default(),
        }
    }

    #[inline(always)]
    fn values<'a>(set: InstructionSet, run: CacheRun<'a>, space: &'a mut [f32]) -> Run<'a, i8> {
        Self::keys(set, run, space)
    }

    #[inline(always)]
    fn lanes(stored: &[i8; LANES]) -> Lanes {
        stored.map(f32::from)
    }

    #[inline(always)]
    fn one(stored: i8) -> f32 {
        f32::from(stored)
    }
}

/// Halves where they lie, by the instructions of one set.
macro_rules! halves {
    ($($(#[$attribute:meta])* $name:ident: $lanes:expr;)*) => {
        $($(#[$attribute])*
        pub(super) struct $name;

        $(#[$attribute])*
        impl Reader for $name {
            type Stored = Half;

            #[inline(always)]
            fn keys<'a>(_: InstructionSet, run: CacheRun<'a>, _: &'a mut [f32]) -> Run<'a, Half> {
                match run {
                    CacheRun::F16(stored) => Run { stored, scales: &[] },
                    CacheRun::F32(_) | CacheRun::Q8_0 { .. } => Run::default(),
                }
            }

            #[inline(always)]
            fn values<'a>(set: InstructionSet, run: CacheRun<'a>, space: &'a mut [f32]) -> Run<'a, Half> {
                Self::keys(set, run, space)
            }

            #[inline(always)]
            fn lanes(stored: &[Half; LANES]) -> Lanes {
                $lanes(stored)
            }

            #[inline(always)]
            fn one(stored: Half) -> f32 {
                half_to_f32(u16::from_le_bytes(stored))
            }
        })*
    };
}
halves! {
    PortableHalves: |stored: &[Half; LANES]| stored.map(Self::one);
    #[cfg(target_arch = "x86_64")]
    Avx2Halves: |stored: &[Half; LANES]| {
        let mut lanes = [0.0; LANES];
        for (half, lanes) in stored.as_chunks::<8>().0.iter().zip(lanes.as_chunks_mut::<8>().0) {
            // SAFETY: 16 bytes are read and 8 values written, the sizes of the two arrays; the caller has F16C.
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(half.as_ptr().cast())));
            }
        }
        lanes
    };
    #[cfg(target_arch = "x86_64")]
    Avx512Halves: |stored: &[Half; LANES]| {
        let mut lanes = [0.0; LANES];
        // SAFETY: 32 bytes are read and 16 values written, the sizes of the two arrays; the caller has AVX-512.
        unsafe {
            _mm512_storeu_ps(lanes.as_mut_ptr(), _mm512_cvtph_ps(_mm256_loadu_si256(stored.as_ptr().cast())));
        }
        lanes
    };
}

versions! {
    fn widen_all(halves: &[Half], out: &mut [f32])
        = widen_with::<PortableHalves>, widen_with::<Avx2Halves>, widen_with::<Avx512Halves>;
}
versions! {
    fn decode_keys(codes: &[i8], scales: &[Half], out: &mut [f32])
        = keys_with::<PortableHalves>, keys_with::<Avx2Halves>, keys_with::<Avx512Halves>;
}
versions! {
    fn decode_values(codes: &[i8], scales: &[Half], out: &mut [f32])
        = values_with::<PortableHalves>, values_with::<Avx2Halves>, values_with::<Avx512Halves>;
}

/// Writes the values of `halves` to the beginning of `out`, which is at least as long, and returns them.
pub(super) fn widen<'a>(set: InstructionSet, halves: &[Half], out: &'a mut [f32]) -> &'a [f32] {
    let out = &mut out[..halves.len()];
    widen_all(set, halves, out);
    out
}

#[inline(always)]
fn widen_with<R: Reader<Stored = Half>>(halves: &[Half], out: &mut [f32]) {
    let ((halves, halves_rest), (out, out_rest)) = (halves.as_chunks(), out.as_chunks_mut());
    for (halves, out) in halves.iter().zip(out) {
        *out = R::lanes(halves);
    }
    for (half, out) in halves_rest.iter().zip(out_rest) {
        *out = R::one(*half);
    }
}

/// Codes `[group][32][16]` with scales `[group][16]`.
#[inline(always)]
fn keys_with<R: Reader<Stored = Half>>(codes: &[i8], scales: &[Half], out: &mut [f32]) {
    const GROUP: usize = SCALED * KEY_TILE;
    let groups = codes.as_chunks::<GROUP>().0.iter().zip(out.as_chunks_mut::<GROUP>().0);
    for ((codes, out), scales) in groups.zip(scales.as_chunks().0) {
        let scales = R::lanes(scales);
        for (codes, out) in codes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
            *out = lanes::multiply(&Codes::lanes(codes), &scales);
        }
    }
}

/// Codes `[group][32]` with one scale each.
#[inline(always)]
fn values_with<R: Reader<Stored = Half>>(codes: &[i8], scales: &[Half], out: &mut [f32]) {
    let groups = codes.as_chunks::<SCALED>().0.iter().zip(out.as_chunks_mut::<SCALED>().0);
    for ((codes, out), scale) in groups.zip(scales) {
        let scale = [R::one(*scale); LANES];
        for (codes, out) in codes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
            *out = lanes::multiply(&Codes::lanes(codes), &scale);
        }
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
