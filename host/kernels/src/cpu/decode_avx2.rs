//! Decoding with AVX2, for the formats that the compiler does not vectorise well by itself.

use std::arch::x86_64::*;

use crate::WeightFormat;
use crate::dequantize::half_scale;

/// Decodes if there is a kernel for `format` here. The caller has detected AVX2, FMA and F16C.
pub(super) fn decode(format: WeightFormat, bytes: &[u8], out: &mut [f32]) -> bool {
    match format {
        // SAFETY: the caller is on the AVX2 path, so the features of the kernels are there.
        WeightFormat::F16 => unsafe { f16(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Q4_0 => unsafe { blocks::<18, formats::Q4_0>(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Q4_1 => unsafe { blocks::<20, formats::Q4_1>(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Q8_0 => unsafe { blocks::<34, formats::Q8_0>(bytes, out) },
        // SAFETY: as above.
        WeightFormat::Mxfp4 => unsafe { blocks::<17, formats::Mxfp4>(bytes, out) },
        _ => return false,
    }
    true
}

/// A format of blocks of 32, as a type: a call through a pointer for each block would cost as much as the block.
trait Blocks<const BYTES: usize> {
    /// The values of a block.
    ///
    /// # Safety
    /// The processor has AVX2, FMA and F16C.
    unsafe fn decode(block: &[u8; BYTES], out: &mut [f32; 32]);
}

macro_rules! formats {
    ($($format:ident: $bytes:literal, $decode:ident;)*) => {
        /// Formats as types.
        mod formats {
            $(pub(super) struct $format;)*
        }
        $(impl Blocks<$bytes> for formats::$format {
            #[inline]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn decode(block: &[u8; $bytes], out: &mut [f32; 32]) {
                // SAFETY: the same features are enabled here.
                unsafe { $decode(block, out) }
            }
        })*
    };
}

formats! {
    Q4_0: 18, q4_0;
    Q4_1: 20, q4_1;
    Q8_0: 34, q8_0;
    Mxfp4: 17, mxfp4;
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn blocks<const BYTES: usize, F: Blocks<BYTES>>(bytes: &[u8], out: &mut [f32]) {
    for (block, values) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        // SAFETY: the same features are enabled here.
        unsafe { F::decode(block, values) };
    }
}

/// The half at byte `offset` of a block in all lanes.
#[inline(always)]
unsafe fn half<const BYTES: usize>(block: &[u8; BYTES], offset: usize) -> __m256 {
    let bits = i32::from(u16::from_le_bytes([block[offset], block[offset + 1]]));
    // SAFETY: plain register arithmetic.
    unsafe { _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits))) }
}

/// The 32 nibbles of the 16 bytes at `offset`, in order, widened to 32 bits.
#[inline(always)]
unsafe fn nibbles<const BYTES: usize>(block: &[u8; BYTES], offset: usize) -> [__m256i; 4] {
    debug_assert!(offset + 16 <= BYTES);
    // SAFETY: every caller passes an offset at which 16 bytes of the block remain.
    unsafe {
        let load = |index: usize| {
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(block.as_ptr().add(offset + index * 8).cast()))
        };
        let (first, second, mask) = (load(0), load(1), _mm256_set1_epi32(15));
        [
            _mm256_and_si256(first, mask),
            _mm256_and_si256(second, mask),
            _mm256_srli_epi32::<4>(first),
            _mm256_srli_epi32::<4>(second),
        ]
    }
}

#[inline(always)]
unsafe fn store(out: &mut [f32; 32], values: [__m256; 4]) {
    for (out, value) in out.as_chunks_mut::<8>().0.iter_mut().zip(values) {
        // SAFETY: eight values fit the array.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), value) };
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn f16(bytes: &[u8], out: &mut [f32]) {
    let (halves, rest) = bytes.as_chunks::<16>();
    let (values, values_rest) = out.as_chunks_mut::<8>();
    for (halves, values) in halves.iter().zip(values) {
        // SAFETY: 16 bytes are read and 8 values written, the sizes of the two arrays.
        unsafe {
            _mm256_storeu_ps(values.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast())))
        };
    }
    for (half, value) in rest.as_chunks::<2>().0.iter().zip(values_rest) {
        *value = crate::dequantize::half_to_f32(u16::from_le_bytes(*half));
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    // SAFETY: 16 bytes follow offset 2.
    unsafe {
        let (d, eight) = (half(block, 0), _mm256_set1_epi32(8));
        let codes = nibbles(block, 2);
        store(out, codes.map(|codes| _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_sub_epi32(codes, eight)))));
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    // SAFETY: 16 bytes follow offset 4.
    unsafe {
        let (d, m) = (half(block, 0), half(block, 2));
        store(out, nibbles(block, 4).map(|codes| _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(codes), m)));
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    // SAFETY: 32 bytes follow offset 2, eight for each index.
    unsafe {
        let d = half(block, 0);
        let value = |index: usize| {
            let codes = _mm256_cvtepi8_epi32(_mm_loadl_epi64(block.as_ptr().add(2 + index * 8).cast()));
            _mm256_mul_ps(d, _mm256_cvtepi32_ps(codes))
        };
        store(out, [value(0), value(1), value(2), value(3)]);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    // SAFETY: 16 bytes follow offset 1.
    unsafe {
        // The look-up reads the low three bits of a code, the magnitude; bit 3 becomes the sign.
        let magnitudes = _mm256_setr_ps(0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0);
        let table = _mm256_mul_ps(_mm256_set1_ps(half_scale(block[0])), magnitudes);
        store(
            out,
            nibbles(block, 1).map(|codes| {
                let sign = _mm256_slli_epi32::<28>(_mm256_and_si256(codes, _mm256_set1_epi32(8)));
                _mm256_xor_ps(_mm256_permutevar8x32_ps(table, codes), _mm256_castsi256_ps(sign))
            }),
        );
    }
}
