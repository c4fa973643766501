//! f32 to blocks, for the formats that checkpoints are written in.
//!
//! Q4_0, Q4_1 and Q8_0 give the bytes of ggml's reference quantiser (which rounds halves away from zero or up); plain
//! halves and MXFP4 codes round to nearest, ties to even.

use half::{bf16, f16};

use crate::dequantize::{MXFP4_DOUBLED, half_scale};
use crate::{KernelError, WeightFormat};

/// Appends the blocks of `values` to `out`.
///
/// # Errors
/// When `values` does not divide into blocks, or the format has no quantiser (Q5_0, Q5_1, Q4_K, Q5_K, Q6_K).
pub fn quantize(format: WeightFormat, values: &[f32], out: &mut Vec<u8>) -> Result<(), KernelError> {
    out.reserve(format.row_bytes(values.len())?);
    match format {
        WeightFormat::F32 => values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
        WeightFormat::F16 => {
            values.iter().for_each(|value| out.extend_from_slice(&f16::from_f32(*value).to_le_bytes()));
        }
        WeightFormat::Bf16 => {
            values.iter().for_each(|value| out.extend_from_slice(&bf16::from_f32(*value).to_le_bytes()));
        }
        WeightFormat::Q8_0 => values.as_chunks().0.iter().for_each(|block| q8_0(block, out)),
        WeightFormat::Q4_0 => values.as_chunks().0.iter().for_each(|block| q4_0(block, out)),
        WeightFormat::Q4_1 => values.as_chunks().0.iter().for_each(|block| q4_1(block, out)),
        WeightFormat::Mxfp4 => values.as_chunks().0.iter().for_each(|block| mxfp4(block, out)),
        WeightFormat::Q5_0
        | WeightFormat::Q5_1
        | WeightFormat::Q4K
        | WeightFormat::Q5K
        | WeightFormat::Q6K => {
            return Err(KernelError::Unsupported { operation: "quantisation", format });
        }
    }
    Ok(())
}

fn reciprocal_or_zero(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

fn q8_0(block: &[f32; 32], out: &mut Vec<u8>) {
    let largest = block.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let d = largest / 127.0;
    let inverse = reciprocal_or_zero(d);
    out.extend_from_slice(&f16::from_f32(d).to_le_bytes());
    out.extend(block.iter().map(|value| (value * inverse).round() as i8 as u8));
}

fn q4_0(block: &[f32; 32], out: &mut Vec<u8>) {
    // The value of largest magnitude, with its sign, is mapped to the code −8: it is represented exactly.
    let extreme = block
        .iter()
        .fold(0.0f32, |extreme, value| if value.abs() > extreme.abs() { *value } else { extreme });
    let d = extreme / -8.0;
    let inverse = reciprocal_or_zero(d);
    let code = |value: f32| (value * inverse + 8.5).clamp(0.0, 15.0) as u8;
    out.extend_from_slice(&f16::from_f32(d).to_le_bytes());
    nibbles(block, code, out);
}

fn q4_1(block: &[f32; 32], out: &mut Vec<u8>) {
    let (minimum, maximum) = block
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)));
    let d = (maximum - minimum) / 15.0;
    let inverse = reciprocal_or_zero(d);
    let code = |value: f32| ((value - minimum) * inverse + 0.5).clamp(0.0, 15.0) as u8;
    out.extend_from_slice(&f16::from_f32(d).to_le_bytes());
    out.extend_from_slice(&f16::from_f32(minimum).to_le_bytes());
    nibbles(block, code, out);
}

/// Scale `2^(floor(log2 max|v|) − 2)`: the largest code (6) is reached, and blocks that come from MXFP4 come back unchanged.
fn mxfp4(block: &[f32; 32], out: &mut Vec<u8>) {
    let largest = block.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let exponent = if largest.is_normal() || largest.is_infinite() {
        // The biased exponent of an f32 is that of E8M0, less the two binades that the code itself covers.
        ((largest.to_bits() >> 23) as u8).saturating_sub(2)
    } else {
        0
    };
    let doubled = half_scale(exponent);
    out.push(exponent);
    nibbles(block, |value| e2m1(value / doubled), out);
}

/// The code whose doubled value is nearest to `doubled`; a tie goes to the code with an even mantissa, 0 has no sign.
fn e2m1(doubled: f32) -> u8 {
    let magnitude = doubled.abs();
    let mut best = 0usize;
    for (code, then) in MXFP4_DOUBLED.iter().enumerate().take(8).skip(1) {
        let middle = (f32::from(MXFP4_DOUBLED[best]) + f32::from(*then)) / 2.0;
        if magnitude > middle || (magnitude == middle && code % 2 == 0) {
            best = code;
        }
    }
    let sign = if doubled < 0.0 && best != 0 { 8 } else { 0 };
    best as u8 | sign
}

/// Values i and i+16 share byte i.
fn nibbles(block: &[f32; 32], code: impl Fn(f32) -> u8, out: &mut Vec<u8>) {
    out.extend((0..16).map(|i| code(block[i]) | code(block[i + 16]) << 4));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dequantize;

    fn round_trip(format: WeightFormat, values: &[f32]) -> Vec<f32> {
        let mut bytes = Vec::new();
        quantize(format, values, &mut bytes).unwrap();
        let mut back = vec![0.0; values.len()];
        dequantize(format, &bytes, &mut back).unwrap();
        back
    }

    #[test]
    fn errors_stay_within_half_a_step() {
        let values: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 - 31.0) / 17.0).collect();
        for (format, step) in [
            (WeightFormat::F32, 0.0),
            (WeightFormat::F16, 0.001),
            (WeightFormat::Bf16, 0.008),
            (WeightFormat::Q8_0, 1.9 / 127.0),
            (WeightFormat::Q4_0, 1.9 / 8.0),
            (WeightFormat::Q4_1, 3.8 / 15.0),
            (WeightFormat::Mxfp4, 1.0),
        ] {
            // Q4_0 has no code for the extreme of the other sign, so it may be off by a whole step.
            for (value, back) in values.iter().zip(round_trip(format, &values)) {
                assert!((value - back).abs() <= step * 1.01, "{format}: {value} became {back}");
            }
        }
    }

    #[test]
    fn zeros_stay_zero() {
        for format in [WeightFormat::Q8_0, WeightFormat::Q4_0, WeightFormat::Q4_1, WeightFormat::Mxfp4] {
            assert_eq!(round_trip(format, &[0.0; 32]), [0.0; 32]);
        }
    }

    #[test]
    fn mxfp4_reproduces_its_own_values() {
        let values: Vec<f32> =
            (0..32).map(|i| f32::from(MXFP4_DOUBLED[if i == 0 { 7 } else { i % 16 }]) * 0.03125).collect();
        assert_eq!(round_trip(WeightFormat::Mxfp4, &values), values);
    }

    #[test]
    fn ties_of_mxfp4_go_to_even_codes() {
        // In units of the doubled value: 0|0.5→0, 1.5→2 (code 2), 5→4 (code 4), 7→8 (code 6), 10→8.
        assert_eq!([0.5, 1.5, 2.5, 5.0, 7.0, 10.0, 99.0].map(e2m1), [0, 2, 2, 4, 6, 6, 7]);
        assert_eq!([-0.5, -1.5, -12.0].map(e2m1), [0, 10, 15]);
    }

    #[test]
    fn formats_without_a_quantiser_say_so() {
        let error = quantize(WeightFormat::Q6K, &[0.0; 256], &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "quantisation is not implemented for the format q6_k");
        assert!(quantize(WeightFormat::Q8_0, &[0.0; 31], &mut Vec::new()).is_err());
    }
}
