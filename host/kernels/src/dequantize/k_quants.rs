//! The formats with 256 values per block and quantised group scales: Q4_K, Q5_K, Q6_K.

use super::half_at;

/// The 6-bit scale and minimum of group `group` (0–7) from the 12 packed bytes of a Q4_K or Q5_K block.
///
/// Groups 0–3 lie in the low six bits of bytes 0–3 and 4–7. Groups 4–7 take their low four bits from the nibbles of
/// bytes 8–11 and their high two from the top bits of bytes 0–3 and 4–7.
#[inline(always)]
pub(crate) fn group_scale_and_minimum(packed: &[u8; 12], group: usize) -> (u8, u8) {
    if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        (
            packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
            packed[group + 4] >> 4 | packed[group] >> 6 << 4,
        )
    }
}

/// The 12 bytes of scales and minima, after the two halves.
#[inline(always)]
fn packed_scales<const BYTES: usize>(block: &[u8; BYTES]) -> [u8; 12] {
    std::array::from_fn(|i| block[4 + i])
}

/// f16 d, f16 dmin, 12 bytes of scales, 128 bytes of nibbles: bytes 32p…32p+31 hold groups 2p (low) and 2p+1 (high).
#[inline(always)]
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let packed = packed_scales(block);
    for group in 0..8 {
        let (scale, minimum) = group_scale_and_minimum(&packed, group);
        let (d, m) = (d * f32::from(scale), dmin * f32::from(minimum));
        for i in 0..32 {
            let byte = block[16 + group / 2 * 32 + i];
            let code = if group % 2 == 0 { byte & 15 } else { byte >> 4 };
            out[group * 32 + i] = d * f32::from(code) - m;
        }
    }
}

/// As Q4_K, with 32 bytes of fifth bits (bit `group` of byte i belongs to value i of that group) before the nibbles.
#[inline(always)]
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let packed = packed_scales(block);
    for group in 0..8 {
        let (scale, minimum) = group_scale_and_minimum(&packed, group);
        let (d, m) = (d * f32::from(scale), dmin * f32::from(minimum));
        for i in 0..32 {
            let byte = block[48 + group / 2 * 32 + i];
            let code = if group % 2 == 0 { byte & 15 } else { byte >> 4 };
            let fifth = block[16 + i] >> group & 1;
            out[group * 32 + i] = d * f32::from(code | fifth << 4) - m;
        }
    }
}

/// 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed group scales, f16 d: `d·s·(q−32)`.
///
/// Each half of the block (128 values) takes 64 low bytes and 32 high bytes: value 32·j + i of the half has its low
/// nibble in byte i + 32·(j mod 2) (upper nibble for j ≥ 2) and its high pair in bits 2j of high byte i.
#[inline(always)]
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(block, 208);
    for half in 0..2 {
        for j in 0..4 {
            for i in 0..32 {
                let byte = block[half * 64 + j % 2 * 32 + i];
                let low = if j < 2 { byte & 15 } else { byte >> 4 };
                let high = block[128 + half * 32 + i] >> (2 * j) & 3;
                let scale = block[192 + half * 8 + j * 2 + i / 16] as i8;
                let code = f32::from(low | high << 4) - 32.0;
                out[half * 128 + j * 32 + i] = d * f32::from(scale) * code;
            }
        }
    }
}
