//! MXFP4: E2M1 codes with one E8M0 scale per 32 values (OCP Microscaling Formats 1.0), in GGUF's byte order.

/// Twice the value of each E2M1 code: whole numbers, so that tables of bytes can hold them.
pub(crate) const MXFP4_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of the E8M0 scale: `2^(exponent − 128)`, the factor that belongs to doubled codes. Subnormal below 2.
#[inline(always)]
pub(crate) fn half_scale(exponent: u8) -> f32 {
    f32::from_bits(if exponent < 2 { 0x0020_0000 << exponent } else { u32::from(exponent - 1) << 23 })
}

/// Scale byte, then 16 bytes of codes: low nibbles are values 0–15, high nibbles 16–31.
#[inline(always)]
pub(super) fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let scale = half_scale(block[0]);
    for i in 0..16 {
        let byte = usize::from(block[1 + i]);
        out[i] = scale * f32::from(MXFP4_DOUBLED[byte & 15]);
        out[i + 16] = scale * f32::from(MXFP4_DOUBLED[byte >> 4]);
    }
}
