//! How each format is laid out once packed: the kind of its codes and the kind of its scales.

use super::{BLOCK, GROUP};
use crate::WeightFormat;
use crate::dequantize::{MXFP4_DOUBLED, half_scale, half_to_f32};

/// Codes of a cell (16 rows by 32 columns). Register j of 64 bytes has, per row, values 4j…4j+3; codes of four bits and
/// more have the low nibbles of registers j and j + 4 in one register.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Codes {
    /// 4 registers of nibbles.
    Four,
    /// 4 registers of nibbles that stand for doubled E2M1 values.
    E2m1,
    /// 4 registers of nibbles, then one in whose bytes bit j is the fifth bit of a code of register j.
    Five,
    /// 4 registers of nibbles, then two of bit pairs: bits 2j of the first for register j, of the second for j + 4.
    Six,
    /// 8 registers of bytes.
    Eight,
}

/// Scales of a block of 16 rows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Scales {
    /// 16 halves.
    Halves,
    /// 16 half scales and 16 half minima.
    HalvesMinimum,
    /// 16 E8M0 exponents, to be halved.
    Exponents,
    /// Per 8 blocks 16 half scales and 16 half minima; per block 16 + 16 bytes that multiply them, minima subtracted.
    Super,
    /// Per 8 blocks 16 half scales; per block 16 signed bytes for values 0–15 and 16 for values 16–31.
    SuperSigned,
}

/// A packed layout.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) codes: Codes,
    pub(super) scales: Scales,
}

/// A layout known to the compiler, so that each format has a kernel of its own.
pub(super) trait Packed {
    const LAYOUT: Layout;
}

macro_rules! layouts {
    ($($format:ident: $codes:ident, $scales:ident;)*) => {
        /// Layouts as types, by the format they hold.
        pub(super) mod formats {
            $(pub(in crate::cpu::packed) struct $format;)*
        }
        $(impl Packed for formats::$format {
            const LAYOUT: Layout = Layout { codes: Codes::$codes, scales: Scales::$scales };
        })*
        impl Layout {
            /// The layout of a format, if it has one.
            pub(super) fn of(format: WeightFormat) -> Option<Self> {
                match format {
                    $(WeightFormat::$format => Some(formats::$format::LAYOUT),)*
                    _ => None,
                }
            }
        }
    };
}
layouts! {
    Q4_0: Four, Halves;
    Q4_1: Four, HalvesMinimum;
    Q5_0: Five, Halves;
    Q5_1: Five, HalvesMinimum;
    Q8_0: Eight, Halves;
    Mxfp4: E2m1, Exponents;
    Q4K: Four, Super;
    Q5K: Five, Super;
    Q6K: Six, SuperSigned;
}

impl Layout {
    /// Bytes of codes in a cell.
    pub(super) const fn code_bytes(self) -> usize {
        match self.codes {
            Codes::Four | Codes::E2m1 => 256,
            Codes::Five => 320,
            Codes::Six => 384,
            Codes::Eight => 512,
        }
    }

    /// The power of two, as a shift, that is subtracted from the codes; none where a minimum takes its place.
    pub(super) const fn offset_bits(self) -> Option<u32> {
        match (self.codes, self.scales) {
            (_, Scales::HalvesMinimum | Scales::Super) => None,
            (Codes::Four, _) => Some(3),
            (Codes::E2m1 | Codes::Five, _) => Some(4),
            (Codes::Six, _) => Some(5),
            (Codes::Eight, _) => Some(7),
        }
    }

    /// Bytes of scales of a group of `blocks` blocks, without padding.
    const fn scale_bytes(self, blocks: usize) -> usize {
        match self.scales {
            Scales::Halves => blocks * 32,
            Scales::HalvesMinimum => blocks * 64,
            Scales::Exponents => blocks * 16,
            Scales::Super => blocks.div_ceil(8) * SUPER_BYTES,
            Scales::SuperSigned => blocks.div_ceil(8) * SUPER_SIGNED_BYTES,
        }
    }

    /// Where the codes of a group begin.
    pub(super) const fn codes_start(self, blocks: usize) -> usize {
        self.scale_bytes(blocks).next_multiple_of(64)
    }

    /// Bytes of a group.
    pub(super) const fn group_bytes(self, blocks: usize) -> usize {
        self.codes_start(blocks) + blocks * self.code_bytes()
    }

    /// The scale of a row in a block and its minimum, or, for [`Scales::SuperSigned`], the scales of its two halves.
    pub(super) fn scale_pair(self, scales: &[u8], block: usize, row: usize) -> (f32, f32) {
        let half = |offset: usize| half_to_f32(u16::from_le_bytes([scales[offset], scales[offset + 1]]));
        match self.scales {
            Scales::Halves => (half(block * 32 + row * 2), 0.0),
            Scales::HalvesMinimum => (half(block * 64 + row * 2), half(block * 64 + 32 + row * 2)),
            Scales::Exponents => (half_scale(scales[block * 16 + row]), 0.0),
            Scales::Super => {
                let start = block / 8 * SUPER_BYTES;
                let factors = start + 64 + block % 8 * 32 + row;
                let d = half(start + row * 2) * f32::from(scales[factors]);
                (d, -(half(start + 32 + row * 2) * f32::from(scales[factors + 16])))
            }
            Scales::SuperSigned => {
                let start = block / 8 * SUPER_SIGNED_BYTES;
                let factors = start + 32 + block % 8 * 32 + row;
                let d = half(start + row * 2);
                (d * f32::from(scales[factors] as i8), d * f32::from(scales[factors + 16] as i8))
            }
        }
    }

    /// The code of value `index` of a row of a cell, less its offset.
    pub(super) fn code(self, cell: &[u8], row: usize, index: usize) -> i32 {
        let (register, byte) = (index / 4, row * 4 + index % 4);
        let nibble = || cell[register % 4 * 64 + byte] >> (register / 4 * 4) & 15;
        let code = match self.codes {
            Codes::Four => nibble(),
            Codes::E2m1 => return i32::from(MXFP4_DOUBLED[usize::from(nibble())]),
            Codes::Five => nibble() | (cell[256 + byte] >> register & 1) << 4,
            Codes::Six => nibble() | (cell[256 + register / 4 * 64 + byte] >> (register % 4 * 2) & 3) << 4,
            Codes::Eight => cell[register * 64 + byte],
        };
        i32::from(code) - self.offset_bits().map_or(0, |bits| 1 << bits)
    }

    /// Adds bits to the code of value `index` of a row, which are zero so far in its cell.
    pub(super) fn set_code(self, cell: &mut [u8], row: usize, index: usize, code: u8) {
        let (register, byte) = (index / 4, row * 4 + index % 4);
        if self.codes == Codes::Eight {
            cell[register * 64 + byte] = code;
            return;
        }
        cell[register % 4 * 64 + byte] |= (code & 15) << (register / 4 * 4);
        match self.codes {
            Codes::Five => cell[256 + byte] |= (code >> 4) << register,
            Codes::Six => cell[256 + register / 4 * 64 + byte] |= (code >> 4) << (register % 4 * 2),
            Codes::Four | Codes::E2m1 | Codes::Eight => {}
        }
    }
}

/// Scales of 8 blocks: 32 bytes of d, 32 of dmin, then 8 × (16 scales, 16 minima).
pub(super) const SUPER_BYTES: usize = 64 + 8 * 2 * GROUP;

/// Scales of 8 blocks: 32 bytes of d, then 8 × (16 scales of the first half, 16 of the second).
pub(super) const SUPER_SIGNED_BYTES: usize = 32 + 8 * 2 * GROUP;

const _: () = assert!(GROUP == 16 && BLOCK == 32, "the layouts are made for 16 rows and blocks of 32");
