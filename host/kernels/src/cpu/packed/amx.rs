//! Packed weights to tiles of bf16.

use std::arch::x86_64::*;
use std::ops::Range;

use super::avx512::{scale_pair, unpack};
use super::layout::{Packed, Scales, formats};
use super::{BLOCK, GROUP, PackedMatrix};
use crate::WeightFormat;
use crate::cpu::amx::{Panel, STEP, TILE};

const _: () = assert!(BLOCK == STEP && GROUP * BLOCK == TILE, "a cell is a tile");

impl PackedMatrix {
    /// Writes blocks of columns of a group of 16 rows to the tiles of `place` in a panel.
    pub(in crate::cpu) fn expand(&self, group: usize, blocks: Range<usize>, panel: &mut Panel, place: usize) {
        let all = self.columns / BLOCK;
        let size = self.layout.group_bytes(all);
        let bytes = &self.bytes.as_slice()[group * size..(group + 1) * size];
        assert!(blocks.end <= all);
        let (scales, codes) = bytes.split_at(self.layout.codes_start(all));
        // SAFETY: panels are only made where AMX was detected, and with it all that is older; the blocks exist.
        unsafe {
            match self.format {
                WeightFormat::Q4_0 => expand::<formats::Q4_0>(scales, codes, blocks, panel, place),
                WeightFormat::Q4_1 => expand::<formats::Q4_1>(scales, codes, blocks, panel, place),
                WeightFormat::Q5_0 => expand::<formats::Q5_0>(scales, codes, blocks, panel, place),
                WeightFormat::Q5_1 => expand::<formats::Q5_1>(scales, codes, blocks, panel, place),
                WeightFormat::Q8_0 => expand::<formats::Q8_0>(scales, codes, blocks, panel, place),
                WeightFormat::Mxfp4 => expand::<formats::Mxfp4>(scales, codes, blocks, panel, place),
                WeightFormat::Q4K => expand::<formats::Q4K>(scales, codes, blocks, panel, place),
                WeightFormat::Q5K => expand::<formats::Q5K>(scales, codes, blocks, panel, place),
                WeightFormat::Q6K => expand::<formats::Q6K>(scales, codes, blocks, panel, place),
                WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16 => {}
            }
        }
    }
}

/// Which bytes of a register, as dwords, are columns `first` and `first + 1` of eight of its rows, from `row` on.
const fn pick(row: usize, first: usize) -> [u8; 64] {
    let mut bytes = [0; 64];
    let mut lane = 0;
    while lane < 16 {
        bytes[lane * 4] = ((row + lane / 2) * 4 + first + lane % 2) as u8;
        lane += 1;
    }
    bytes
}

/// By the first column, the lower and the upper eight rows.
static PICKS: [[[u8; 64]; 2]; 2] = [[pick(0, 0), pick(8, 0)], [pick(0, 2), pick(8, 2)]];
/// Each lane of the lower, and of the upper half twice.
static TWICE: [[i32; 16]; 2] = [
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7],
    [8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15],
];

/// # Safety
/// The processor has the features; the group has the scales and codes of `blocks`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512bf16,f16c")]
unsafe fn expand<F: Packed>(
    scales: &[u8],
    codes: &[u8],
    blocks: Range<usize>,
    panel: &mut Panel,
    place: usize,
) {
    // SAFETY: the constants have a register's size; the blocks' codes and scales are there; tiles have 16 rows of a
    // register's size; the features are enabled.
    unsafe {
        let picks = [[pick_at(0, 0), pick_at(0, 1)], [pick_at(1, 0), pick_at(1, 1)]];
        for (step, block) in blocks.enumerate() {
            let registers = unpack::<F>(codes.as_ptr().add(block * F::LAYOUT.code_bytes()));
            let (first, second) = scale_pair::<F>(scales.as_ptr(), block);
            // The last 16 columns have a scale of their own in some formats.
            let last = if matches!(F::LAYOUT.scales, Scales::SuperSigned) { second } else { first };
            let factors = [factors::<F>(first, second), factors::<F>(last, second)];
            let (high, mut low) = panel.tile(place, step);
            for row in 0..GROUP {
                let (codes, picks, factors) = (registers[row / 2], picks[row % 2], &factors[row / 8]);
                let values = [value(codes, picks[0], factors[0]), value(codes, picks[1], factors[1])];
                let rounded = round(values);
                _mm512_storeu_si512(high.as_mut_ptr().add(row * STEP).cast(), rounded);
                if let Some(low) = low.as_deref_mut() {
                    let back = [
                        _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(rounded))),
                        _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(
                            rounded,
                        ))),
                    ];
                    let rest = [
                        _mm512_sub_ps(values[0], _mm512_castsi512_ps(back[0])),
                        _mm512_sub_ps(values[1], _mm512_castsi512_ps(back[1])),
                    ];
                    _mm512_storeu_si512(low.as_mut_ptr().add(row * STEP).cast(), round(rest));
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn pick_at(columns: usize, half: usize) -> __m512i {
    // SAFETY: the array has the register's size.
    unsafe { _mm512_loadu_si512(PICKS[columns][half].as_ptr().cast()) }
}

/// Scales and minima of the lower and of the upper eight rows, each twice.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn factors<F: Packed>(scale: __m512, second: __m512) -> [(__m512, __m512); 2] {
    let minimum = match F::LAYOUT.offset_bits() {
        Some(bits) => _mm512_mul_ps(scale, _mm512_set1_ps(-((1 << bits) as f32))),
        None => second,
    };
    // SAFETY: the arrays have the register's size.
    let (lower, upper) = unsafe {
        (_mm512_loadu_si512(TWICE[0].as_ptr().cast()), _mm512_loadu_si512(TWICE[1].as_ptr().cast()))
    };
    [
        (_mm512_permutexvar_ps(lower, scale), _mm512_permutexvar_ps(lower, minimum)),
        (_mm512_permutexvar_ps(upper, scale), _mm512_permutexvar_ps(upper, minimum)),
    ]
}

/// The values of the codes that `pick` takes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn value(codes: __m512i, pick: __m512i, (scale, minimum): (__m512, __m512)) -> __m512 {
    let codes = _mm512_maskz_permutexvar_epi8(0x1111_1111_1111_1111, pick, codes);
    _mm512_fmadd_ps(_mm512_cvtepi32_ps(codes), scale, minimum)
}

/// 32 values as bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn round([first, second]: [__m512; 2]) -> __m512i {
    // SAFETY: the types have the same bits.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) }
}
