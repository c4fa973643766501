//! Blocks of weights to f32, by the best code for the instruction set.

#[cfg(target_arch = "x86_64")]
#[path = "decode_avx2.rs"]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[path = "decode_avx512.rs"]
pub(super) mod avx512;

use super::InstructionSet;
use super::instruction_set::versions;
use crate::WeightFormat;
use crate::dequantize::decode_portable;

versions! {
    fn decode_compiled(format: WeightFormat, bytes: &[u8], out: &mut [f32]) = decode_portable;
}

/// Writes the values of `bytes` to `out`, both whole blocks of `format`; of unequal lengths the shorter decides.
pub(crate) fn decode_blocks(set: InstructionSet, format: WeightFormat, bytes: &[u8], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if (set >= InstructionSet::Avx512 && avx512::decode(format, bytes, out))
        || (set == InstructionSet::Avx2 && avx2::decode(format, bytes, out))
    {
        return;
    }
    decode_compiled(set, format, bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_decodes_the_same_bits() {
        let mut state = 1u32;
        for format in WeightFormat::ALL {
            let values = 5 * format.block_values().max(17);
            let values = values.next_multiple_of(format.block_values());
            let mut bytes: Vec<u8> = (0..format.row_bytes(values).unwrap())
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            // Random halves are sometimes not numbers, which compare unequal to themselves.
            for pair in bytes.chunks_exact_mut(2) {
                pair[1] &= 0xbb;
                pair[0] &= 0xbb;
            }
            let mut expected = vec![0.0; values];
            decode_portable(format, &bytes, &mut expected);
            for set in [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512] {
                let set = set.min(InstructionSet::detect());
                let mut found = vec![f32::NAN; values];
                decode_blocks(set, format, &bytes, &mut found);
                assert_eq!(found, expected, "{format} {set}");
            }
        }
    }
}
