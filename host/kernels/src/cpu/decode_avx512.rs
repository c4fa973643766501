//! Decoding with AVX-512: 16 values per register.
//!
//! Four-bit formats build, per block, a register of the 16 values that a code can have, and look codes up in it with
//! `vpermps`, which reads just the low four bits of each index: no masking and no conversion of integers. Scales are
//! converted for many blocks at once and broadcast from memory, because shuffles are what this code runs out of.

use std::arch::x86_64::*;

use crate::WeightFormat;
use crate::dequantize::{MXFP4_DOUBLED, group_scale_and_minimum, half_at};

/// Decodes if there is a kernel for `format` here. The caller has detected AVX-512.
pub(super) fn decode(format: WeightFormat, bytes: &[u8], out: &mut [f32]) -> bool {
    // SAFETY (all arms): the caller is on the AVX-512 path, so the features of the kernels are there.
    match format {
        // SAFETY: as above.
        WeightFormat::F16 => unsafe { f16(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Q4_0 => unsafe { blocks::<18, formats::Q4_0>(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Q4_1 => unsafe { blocks::<20, formats::Q4_1>(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Q5_0 => unsafe { blocks::<22, formats::Q5_0>(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Q5_1 => unsafe { blocks::<24, formats::Q5_1>(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Q8_0 => unsafe { blocks::<34, formats::Q8_0>(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Mxfp4 => unsafe { blocks::<17, formats::Mxfp4>(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Q4K => unsafe { super_blocks::<144, formats::Q4K>(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Q5K => unsafe { super_blocks::<176, formats::Q5K>(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Q6K => unsafe { super_blocks::<210, formats::Q6K>(bytes, out) },
        _ => return false,
    }
    true
}

/// Blocks whose scales are converted together.
pub(in crate::cpu) const SCALES: usize = 16;

/// For each of up to 16 blocks the scale d and, if it has one, the minimum m.
pub(in crate::cpu) struct Factors {
    pub(in crate::cpu) d: [f32; SCALES],
    pub(in crate::cpu) m: [f32; SCALES],
}

/// A format of blocks of 32, as a type: a call through a pointer for each block would cost as much as the block.
pub(in crate::cpu) trait Blocks<const BYTES: usize> {
    /// Whether blocks have scales.
    const SCALED: bool = true;

    /// The scales and minima of 16 blocks, from the first four bytes of each.
    ///
    /// # Safety
    /// The processor has AVX-512.
    unsafe fn factors(words: __m512i) -> Factors;

    /// The first and the last 16 values of a block.
    ///
    /// # Safety
    /// The processor has AVX-512.
    unsafe fn values(block: &[u8; BYTES], d: f32, m: f32) -> (__m512, __m512);
}

/// A format of blocks of 256, as a type.
trait SuperBlocks<const BYTES: usize> {
    /// The values of a block.
    ///
    /// # Safety
    /// The processor has AVX-512.
    unsafe fn decode(block: &[u8; BYTES], out: &mut [f32; 256]);
}

macro_rules! formats {
    ($($format:ident: $bytes:literal, $factors:ident, $decode:ident;)*) => {
        $(impl Blocks<$bytes> for formats::$format {
            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
            unsafe fn factors(words: __m512i) -> Factors {
                // SAFETY: the same features are enabled here.
                unsafe { $factors(words) }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
            unsafe fn values(block: &[u8; $bytes], d: f32, m: f32) -> (__m512, __m512) {
                // SAFETY: the same features are enabled here.
                unsafe { $decode(block, d, m) }
            }
        })*
    };
    ($($format:ident: $bytes:literal, $decode:ident;)*) => {
        $(impl SuperBlocks<$bytes> for formats::$format {
            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
            unsafe fn decode(block: &[u8; $bytes], out: &mut [f32; 256]) {
                // SAFETY: the same features are enabled here.
                unsafe { $decode(block, out) }
            }
        })*
    };
}

formats! {
    Q4_0: 18, halves, q4_0;
    Q4_1: 20, halves, q4_1;
    Q5_0: 22, halves, q5_0;
    Q5_1: 24, halves, q5_1;
    Q8_0: 34, halves, q8_0;
    Mxfp4: 17, exponents, mxfp4;
}

formats! {
    Q4K: 144, q4_k;
    Q5K: 176, q5_k;
    Q6K: 210, q6_k;
}

/// Formats as types.
pub(in crate::cpu) mod formats {
    pub(in crate::cpu) struct Q4_0;
    pub(in crate::cpu) struct Q4_1;
    pub(in crate::cpu) struct Q5_0;
    pub(in crate::cpu) struct Q5_1;
    pub(in crate::cpu) struct Q8_0;
    pub(in crate::cpu) struct Mxfp4;
    pub(super) struct Q4K;
    pub(super) struct Q5K;
    pub(super) struct Q6K;
}

/// The first four bytes of each of up to 16 blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(in crate::cpu) unsafe fn first_words<const BYTES: usize>(blocks: &[[u8; BYTES]]) -> __m512i {
    let mask = ((1u32 << blocks.len().min(SCALES)) - 1) as __mmask16;
    // SAFETY: the lanes of the mask are blocks that exist, of at least four bytes each.
    unsafe {
        let places = _mm512_mullo_epi32(counting_whole(), _mm512_set1_epi32(BYTES as i32));
        _mm512_mask_i32gather_epi32::<1>(_mm512_setzero_si512(), mask, places, blocks.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn blocks<const BYTES: usize, F: Blocks<BYTES>>(bytes: &[u8], out: &mut [f32]) {
    let blocks = bytes.as_chunks::<BYTES>().0.chunks(SCALES);
    for (blocks, values) in blocks.zip(out.as_chunks_mut::<32>().0.chunks_mut(SCALES)) {
        // SAFETY: the lanes of the mask are blocks that exist, of at least four bytes each; the features are enabled.
        unsafe {
            let mask = ((1u32 << blocks.len()) - 1) as __mmask16;
            let places = _mm512_mullo_epi32(counting_whole(), _mm512_set1_epi32(BYTES as i32));
            let words = _mm512_mask_i32gather_epi32::<1>(
                _mm512_setzero_si512(),
                mask,
                places,
                blocks.as_ptr().cast(),
            );
            let Factors { d, m } = F::factors(words);
            for (index, (block, values)) in blocks.iter().zip(values).enumerate() {
                let (low, high) = F::values(block, d[index % SCALES], m[index % SCALES]);
                store(values, 0, low, high);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn super_blocks<const BYTES: usize, F: SuperBlocks<BYTES>>(bytes: &[u8], out: &mut [f32]) {
    for (block, values) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<256>().0) {
        // SAFETY: the same features are enabled here.
        unsafe { F::decode(block, values) };
    }
}

/// The first two halves of each block, from its first four bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn halves(words: __m512i) -> Factors {
    let low = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
    let high = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(words)));
    Factors { d: to_array(low), m: to_array(high) }
}

/// The halved E8M0 scale of each block, from its first byte: `2^(e − 128)`, subnormal for e < 2.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn exponents(words: __m512i) -> Factors {
    let exponents = _mm512_and_si512(words, _mm512_set1_epi32(255));
    let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponents, _mm512_set1_epi32(1)));
    let subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), exponents);
    let small = _mm512_cmplt_epu32_mask(exponents, _mm512_set1_epi32(2));
    let scale = _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, small, subnormal));
    Factors { d: to_array(scale), m: [0.0; SCALES] }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn to_array(values: __m512) -> [f32; SCALES] {
    let mut array = [0.0; SCALES];
    // SAFETY: the array has the size of a register.
    unsafe { _mm512_storeu_ps(array.as_mut_ptr(), values) };
    array
}

/// 16 bytes from `offset` on, each widened to 32 bits.
#[inline(always)]
unsafe fn widen<const BYTES: usize>(block: &[u8; BYTES], offset: usize) -> __m512i {
    debug_assert!(offset + 16 <= BYTES);
    // SAFETY: every caller passes an offset at which 16 bytes of the block remain.
    unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(block.as_ptr().add(offset).cast())) }
}

/// Stores two registers to values `offset..offset + 32`.
#[inline(always)]
unsafe fn store<const VALUES: usize>(out: &mut [f32; VALUES], offset: usize, first: __m512, second: __m512) {
    debug_assert!(offset + 32 <= VALUES);
    // SAFETY: every caller passes an offset at which 32 values remain.
    unsafe {
        _mm512_storeu_ps(out.as_mut_ptr().add(offset), first);
        _mm512_storeu_ps(out.as_mut_ptr().add(offset + 16), second);
    }
}

/// 0, 1, …, 15.
#[inline(always)]
unsafe fn counting() -> __m512 {
    // SAFETY: plain register arithmetic.
    unsafe { _mm512_cvtepi32_ps(counting_whole()) }
}

/// 0, 1, …, 15.
#[inline(always)]
unsafe fn counting_whole() -> __m512i {
    // SAFETY: plain register arithmetic.
    unsafe { _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) }
}

/// Looks up the low and the high nibbles of the 16 bytes at `offset`.
#[inline(always)]
unsafe fn look_up<const BYTES: usize>(block: &[u8; BYTES], offset: usize, table: __m512) -> (__m512, __m512) {
    // SAFETY: the caller's offset leaves 16 bytes; the rest is register arithmetic.
    unsafe {
        let codes = widen(block, offset);
        (_mm512_permutexvar_ps(codes, table), _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(codes), table))
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn f16(bytes: &[u8], out: &mut [f32]) {
    let (halves, rest) = bytes.as_chunks::<32>();
    let (values, values_rest) = out.as_chunks_mut::<16>();
    for (halves, values) in halves.iter().zip(values) {
        // SAFETY: 32 bytes are read and 16 values written, the sizes of the two arrays.
        unsafe {
            _mm512_storeu_ps(values.as_mut_ptr(), _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast())))
        };
    }
    for (half, value) in rest.as_chunks::<2>().0.iter().zip(values_rest) {
        *value = crate::dequantize::half_to_f32(u16::from_le_bytes(*half));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn q4_0(block: &[u8; 18], d: f32, _: f32) -> (__m512, __m512) {
    // SAFETY: 16 bytes follow offset 2.
    unsafe {
        let table = _mm512_mul_ps(_mm512_set1_ps(d), _mm512_sub_ps(counting(), _mm512_set1_ps(8.0)));
        look_up(block, 2, table)
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn q4_1(block: &[u8; 20], d: f32, m: f32) -> (__m512, __m512) {
    // SAFETY: 16 bytes follow offset 4.
    unsafe {
        let table = _mm512_fmadd_ps(_mm512_set1_ps(d), counting(), _mm512_set1_ps(m));
        look_up(block, 4, table)
    }
}

/// Codes of five bits: nibbles at `offset`, fifth bits at `high`.
#[inline(always)]
unsafe fn five_bits<const BYTES: usize>(block: &[u8; BYTES], high: usize, offset: usize) -> (__m512, __m512) {
    let bits = u32::from_le_bytes([block[high], block[high + 1], block[high + 2], block[high + 3]]);
    // SAFETY: the caller's offset leaves 16 bytes; the rest is register arithmetic.
    unsafe {
        let (codes, sixteen) = (widen(block, offset), _mm512_set1_epi32(16));
        let low = _mm512_and_si512(codes, _mm512_set1_epi32(15));
        let upper = _mm512_srli_epi32::<4>(codes);
        (
            _mm512_cvtepi32_ps(_mm512_mask_add_epi32(low, bits as u16, low, sixteen)),
            _mm512_cvtepi32_ps(_mm512_mask_add_epi32(upper, (bits >> 16) as u16, upper, sixteen)),
        )
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn q5_0(block: &[u8; 22], d: f32, _: f32) -> (__m512, __m512) {
    // SAFETY: 16 bytes follow offset 6.
    unsafe {
        let (d, centre) = (_mm512_set1_ps(d), _mm512_set1_ps(16.0));
        let (low, high) = five_bits(block, 2, 6);
        let value = |code| _mm512_mul_ps(d, _mm512_sub_ps(code, centre));
        (value(low), value(high))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn q5_1(block: &[u8; 24], d: f32, m: f32) -> (__m512, __m512) {
    // SAFETY: 16 bytes follow offset 8.
    unsafe {
        let (d, m) = (_mm512_set1_ps(d), _mm512_set1_ps(m));
        let (low, high) = five_bits(block, 4, 8);
        (_mm512_fmadd_ps(d, low, m), _mm512_fmadd_ps(d, high, m))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn q8_0(block: &[u8; 34], d: f32, _: f32) -> (__m512, __m512) {
    // SAFETY: 32 bytes follow offset 2.
    unsafe {
        let value = |offset: usize| {
            let codes = _mm512_cvtepi8_epi32(_mm_loadu_si128(block.as_ptr().add(offset).cast()));
            _mm512_mul_ps(_mm512_set1_ps(d), _mm512_cvtepi32_ps(codes))
        };
        (value(2), value(18))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn mxfp4(block: &[u8; 17], d: f32, _: f32) -> (__m512, __m512) {
    // SAFETY: 16 bytes follow offset 1.
    unsafe {
        let codes = _mm512_cvtepi8_epi32(_mm_loadu_si128(MXFP4_DOUBLED.as_ptr().cast()));
        let table = _mm512_mul_ps(_mm512_set1_ps(d), _mm512_cvtepi32_ps(codes));
        look_up(block, 1, table)
    }
}

/// `d·scale` and `dmin·minimum` of the groups of a Q4_K or Q5_K block.
#[inline(always)]
fn group_factors<const BYTES: usize>(block: &[u8; BYTES]) -> [(f32, f32); 8] {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let packed: [u8; 12] = std::array::from_fn(|i| block[4 + i]);
    std::array::from_fn(|group| {
        let (scale, minimum) = group_scale_and_minimum(&packed, group);
        (d * f32::from(scale), dmin * f32::from(minimum))
    })
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let factors = group_factors(block);
    for (pair, factors) in factors.as_chunks::<2>().0.iter().enumerate() {
        // SAFETY: 32 bytes follow offset 16 + 32·pair for pair < 4.
        unsafe {
            let [even, odd] =
                factors.map(|(d, m)| _mm512_fmsub_ps(_mm512_set1_ps(d), counting(), _mm512_set1_ps(m)));
            let first = widen(block, 16 + 32 * pair);
            let second = widen(block, 32 + 32 * pair);
            store(out, 64 * pair, _mm512_permutexvar_ps(first, even), _mm512_permutexvar_ps(second, even));
            let (first, second) = (_mm512_srli_epi32::<4>(first), _mm512_srli_epi32::<4>(second));
            store(out, 64 * pair + 32, _mm512_permutexvar_ps(first, odd), _mm512_permutexvar_ps(second, odd));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    for (group, (d, m)) in group_factors(block).into_iter().enumerate() {
        // SAFETY: 32 bytes follow offset 48 + 32·(group/2) for group < 8, and offset 16.
        unsafe {
            let (d, m) = (_mm512_set1_ps(d), _mm512_set1_ps(m));
            let fifth = _mm512_set1_epi32(1 << group);
            let value = |half: usize| {
                let codes = widen(block, 48 + group / 2 * 32 + half * 16);
                let codes = if group % 2 == 0 { codes } else { _mm512_srli_epi32::<4>(codes) };
                let codes = _mm512_and_si512(codes, _mm512_set1_epi32(15));
                let mask = _mm512_test_epi32_mask(widen(block, 16 + half * 16), fifth);
                let codes = _mm512_mask_add_epi32(codes, mask, codes, _mm512_set1_epi32(16));
                _mm512_fmsub_ps(d, _mm512_cvtepi32_ps(codes), m)
            };
            store(out, group * 32, value(0), value(1));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(block, 208);
    for part in 0..16 {
        let (half_block, j, side) = (part / 8, part / 2 % 4, part % 2);
        // SAFETY: the low nibbles lie in bytes 0–127, the high pairs in 128–191, and 16 bytes remain from each offset.
        unsafe {
            let scale = _mm512_set1_ps(d * f32::from(block[192 + part] as i8));
            let low = widen(block, half_block * 64 + j % 2 * 32 + side * 16);
            let low = if j < 2 { low } else { _mm512_srli_epi32::<4>(low) };
            let low = _mm512_and_si512(low, _mm512_set1_epi32(15));
            let high = widen(block, 128 + half_block * 32 + side * 16);
            let high = _mm512_and_si512(high, _mm512_set1_epi32(3 << (2 * j)));
            let high = match j {
                0 => _mm512_slli_epi32::<4>(high),
                1 => _mm512_slli_epi32::<2>(high),
                2 => high,
                _ => _mm512_srli_epi32::<2>(high),
            };
            let code = _mm512_sub_epi32(_mm512_or_si512(low, high), _mm512_set1_epi32(32));
            _mm512_storeu_ps(out.as_mut_ptr().add(part * 16), _mm512_mul_ps(scale, _mm512_cvtepi32_ps(code)));
        }
    }
}
