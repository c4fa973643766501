//! Kernels against independent references.

#![expect(clippy::unwrap_used, reason = "tests")]

mod attention;
mod cuda;
mod formats;
mod matmul;

/// Deterministic values in [−1, 1).
fn noise(length: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// Where a block has half-precision scales and minima.
fn half_offsets(format: espalier_kernels::WeightFormat) -> &'static [usize] {
    use espalier_kernels::WeightFormat as F;
    match format {
        F::Q4_0 | F::Q5_0 | F::Q8_0 => &[0],
        F::Q4_1 | F::Q5_1 | F::Q4K | F::Q5K => &[0, 2],
        F::Q6K => &[208],
        _ => &[],
    }
}

/// Random blocks of a format with scales of a sensible size.
fn random_blocks(format: espalier_kernels::WeightFormat, values: usize, seed: u64) -> Vec<u8> {
    use espalier_kernels::WeightFormat as F;
    let length = format.row_bytes(values).unwrap();
    match format {
        F::F32 | F::F16 | F::Bf16 => {
            let mut bytes = Vec::new();
            espalier_kernels::quantize(format, &noise(values, seed), &mut bytes).unwrap();
            return bytes;
        }
        _ => {}
    }
    let mut bytes: Vec<u8> = noise(length, seed).iter().map(|value| (value * 128.0) as i8 as u8).collect();
    let halves = half_offsets(format);
    for (index, block) in bytes.chunks_exact_mut(format.block_bytes()).enumerate() {
        for offset in halves {
            // Between 2^-8 and 2^-5 with varying mantissa and sign.
            let scale = (0x1c00u16 + ((index as u16 * 397) & 0x0bff)) | ((index as u16 & 1) << 15);
            block[*offset..offset + 2].copy_from_slice(&scale.to_le_bytes());
        }
        if format == F::Mxfp4 {
            block[0] = 118 + (index % 6) as u8;
        }
    }
    bytes
}
