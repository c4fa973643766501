//! The formats with one scale per 32 values: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.

use super::half_at;

/// f16 d, 16 bytes of nibbles (low nibbles are values 0–15): `d·(q−8)`.
#[inline(always)]
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for i in 0..16 {
        let byte = block[2 + i];
        out[i] = d * (f32::from(byte & 15) - 8.0);
        out[i + 16] = d * (f32::from(byte >> 4) - 8.0);
    }
}

/// f16 d, f16 m, 16 bytes of nibbles: `d·q + m`.
#[inline(always)]
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for i in 0..16 {
        let byte = block[4 + i];
        out[i] = d * f32::from(byte & 15) + m;
        out[i + 16] = d * f32::from(byte >> 4) + m;
    }
}

/// f16 d, u32 of fifth bits (bit i belongs to value i), 16 bytes of nibbles: `d·(q−16)`.
#[inline(always)]
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for i in 0..16 {
        let byte = block[6 + i];
        out[i] = d * (f32::from(byte & 15 | fifth_bit(high, i)) - 16.0);
        out[i + 16] = d * (f32::from(byte >> 4 | fifth_bit(high, i + 16)) - 16.0);
    }
}

/// f16 d, f16 m, u32 of fifth bits, 16 bytes of nibbles: `d·q + m`.
#[inline(always)]
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for i in 0..16 {
        let byte = block[8 + i];
        out[i] = d * f32::from(byte & 15 | fifth_bit(high, i)) + m;
        out[i + 16] = d * f32::from(byte >> 4 | fifth_bit(high, i + 16)) + m;
    }
}

/// f16 d, 32 signed bytes: `d·q`.
#[inline(always)]
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for i in 0..32 {
        out[i] = d * f32::from(block[2 + i] as i8);
    }
}

/// Bit `index` of `high`, moved to the value of a fifth bit (16).
#[inline(always)]
fn fifth_bit(high: u32, index: usize) -> u8 {
    ((high >> index & 1) << 4) as u8
}
