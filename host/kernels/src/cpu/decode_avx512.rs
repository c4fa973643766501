//! Decoding with AVX-512: 16 values per register.
//!
//! Four-bit formats build, per block, a register of the 16 values that a code can have, and look codes up in it with
//! `vpermps`, which reads just the low four bits of each index: no masking and no conversion of integers.

use std::arch::x86_64::*;

use crate::WeightFormat;
use crate::dequantize::{MXFP4_DOUBLED, group_scale_and_minimum, half_scale};

/// Decodes if there is a kernel for `format` here. The caller has detected AVX-512.
pub(super) fn decode(format: WeightFormat, bytes: &[u8], out: &mut [f32]) -> bool {
    // SAFETY (all arms): the caller is on the AVX-512 path, so the features of the kernels are there.
    match format {
        // SAFETY: as above.
        WeightFormat::F16 => unsafe { f16(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Q4_0 => unsafe { blocks(bytes, out, q4_0) },
        // SAFETY: as above.
        WeightFormat::Q4_1 => unsafe { blocks(bytes, out, q4_1) },
        // SAFETY: as above.
        WeightFormat::Q5_0 => unsafe { blocks(bytes, out, q5_0) },
        // SAFETY: as above.
        WeightFormat::Q5_1 => unsafe { blocks(bytes, out, q5_1) },
        // SAFETY: as above.
        WeightFormat::Q8_0 => unsafe { blocks(bytes, out, q8_0) },
        // SAFETY: as above.
        WeightFormat::Mxfp4 => unsafe { blocks(bytes, out, mxfp4) },
        // SAFETY: as above.
        WeightFormat::Q4K => unsafe { blocks(bytes, out, q4_k) },
        // SAFETY: as above.
        WeightFormat::Q5K => unsafe { blocks(bytes, out, q5_k) },
        // SAFETY: as above.
        WeightFormat::Q6K => unsafe { blocks(bytes, out, q6_k) },
        _ => return false,
    }
    true
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn blocks<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: unsafe fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    for (block, values) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<VALUES>().0) {
        // SAFETY: the same features are enabled here.
        unsafe { decode(block, values) };
    }
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

/// The half at byte `offset` of a block in all lanes.
#[inline(always)]
unsafe fn half<const BYTES: usize>(block: &[u8; BYTES], offset: usize) -> __m512 {
    let bits = i32::from(u16::from_le_bytes([block[offset], block[offset + 1]]));
    // SAFETY: plain register arithmetic.
    unsafe { _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits))) }
}

/// 0, 1, …, 15.
#[inline(always)]
unsafe fn counting() -> __m512 {
    // SAFETY: plain register arithmetic.
    unsafe { _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.) }
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
unsafe fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    // SAFETY: 16 bytes follow offset 2.
    unsafe {
        let table = _mm512_mul_ps(half(block, 0), _mm512_sub_ps(counting(), _mm512_set1_ps(8.0)));
        let (low, high) = look_up(block, 2, table);
        store(out, 0, low, high);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    // SAFETY: 16 bytes follow offset 4.
    unsafe {
        let table = _mm512_fmadd_ps(half(block, 0), counting(), half(block, 2));
        let (low, high) = look_up(block, 4, table);
        store(out, 0, low, high);
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
unsafe fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    // SAFETY: 16 bytes follow offset 6.
    unsafe {
        let (d, centre) = (half(block, 0), _mm512_set1_ps(16.0));
        let (low, high) = five_bits(block, 2, 6);
        let value = |code| _mm512_mul_ps(d, _mm512_sub_ps(code, centre));
        store(out, 0, value(low), value(high));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    // SAFETY: 16 bytes follow offset 8.
    unsafe {
        let (d, m) = (half(block, 0), half(block, 2));
        let (low, high) = five_bits(block, 4, 8);
        store(out, 0, _mm512_fmadd_ps(d, low, m), _mm512_fmadd_ps(d, high, m));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    // SAFETY: 32 bytes follow offset 2.
    unsafe {
        let d = half(block, 0);
        let value = |offset: usize| {
            let codes = _mm512_cvtepi8_epi32(_mm_loadu_si128(block.as_ptr().add(offset).cast()));
            _mm512_mul_ps(d, _mm512_cvtepi32_ps(codes))
        };
        store(out, 0, value(2), value(18));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    // SAFETY: 16 bytes follow offset 1.
    unsafe {
        let codes = _mm512_cvtepi8_epi32(_mm_loadu_si128(MXFP4_DOUBLED.as_ptr().cast()));
        let table = _mm512_mul_ps(_mm512_set1_ps(half_scale(block[0])), _mm512_cvtepi32_ps(codes));
        let (low, high) = look_up(block, 1, table);
        store(out, 0, low, high);
    }
}

/// `d·scale` and `dmin·minimum` of a group of a Q4_K or Q5_K block, in all lanes.
#[inline(always)]
unsafe fn group_factors<const BYTES: usize>(
    block: &[u8; BYTES],
    packed: &[u8; 12],
    group: usize,
) -> (__m512, __m512) {
    let (scale, minimum) = group_scale_and_minimum(packed, group);
    // SAFETY: plain register arithmetic.
    unsafe {
        (
            _mm512_mul_ps(half(block, 0), _mm512_set1_ps(f32::from(scale))),
            _mm512_mul_ps(half(block, 2), _mm512_set1_ps(f32::from(minimum))),
        )
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let packed: [u8; 12] = std::array::from_fn(|i| block[4 + i]);
    for pair in 0..4 {
        // SAFETY: 32 bytes follow offset 16 + 32·pair for pair < 4.
        unsafe {
            let (d, m) = group_factors(block, &packed, 2 * pair);
            let even = _mm512_fmsub_ps(d, counting(), m);
            let (d, m) = group_factors(block, &packed, 2 * pair + 1);
            let odd = _mm512_fmsub_ps(d, counting(), m);
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
    let packed: [u8; 12] = std::array::from_fn(|i| block[4 + i]);
    for group in 0..8 {
        // SAFETY: 32 bytes follow offset 48 + 32·(group/2) for group < 8, and offset 16.
        unsafe {
            let (d, m) = group_factors(block, &packed, group);
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
    for part in 0..16 {
        let (half_block, j, side) = (part / 8, part / 2 % 4, part % 2);
        // SAFETY: the low nibbles lie in bytes 0–127, the high pairs in 128–191, and 16 bytes remain from each offset.
        unsafe {
            let d = _mm512_mul_ps(half(block, 208), _mm512_set1_ps(f32::from(block[192 + part] as i8)));
            let low = widen(block, half_block * 64 + j % 2 * 32 + side * 16);
            let low = if j < 2 { low } else { _mm512_srli_epi32::<4>(low) };
            let low = _mm512_and_si512(low, _mm512_set1_epi32(15));
            let high = _mm512_srlv_epi32(
                widen(block, 128 + half_block * 32 + side * 16),
                _mm512_set1_epi32(2 * j as i32),
            );
            let high = _mm512_slli_epi32::<4>(_mm512_and_si512(high, _mm512_set1_epi32(3)));
            let code = _mm512_sub_epi32(_mm512_or_si512(low, high), _mm512_set1_epi32(32));
            _mm512_storeu_ps(out.as_mut_ptr().add(part * 16), _mm512_mul_ps(d, _mm512_cvtepi32_ps(code)));
        }
    }
}
