//! Blocks of weights to f32, by the best code for the instruction set.

#[cfg(target_arch = "x86_64")]
#[path = "decode_avx512.rs"]
mod avx512;

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
    if set >= InstructionSet::Avx512 && avx512::decode(format, bytes, out) {
        return;
    }
    decode_compiled(set, format, bytes, out);
}
