//! The inner kernel: a panel of the left side times one of the right, added up in registers.

use crate::cpu::InstructionSet;

/// Rows of a panel of the left side.
pub(super) const LEFT: usize = 8;
/// Columns of a panel of the right side: two vector registers.
pub(super) const RIGHT: usize = 32;

/// One tile of the output.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    /// `pairs × LEFT` words of two bf16 each.
    pub(super) left: &'a [u32],
    /// `pairs × RIGHT` words.
    pub(super) right: &'a [u32],
    /// Rows and columns that the output has, at most `LEFT` and `RIGHT`.
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Values from one row of the output to the next.
    pub(super) stride: usize,
    /// Whether the output is added to.
    pub(super) adds: bool,
}

/// Whether the processor has products of bf16 pairs.
pub(super) fn supported(set: InstructionSet) -> bool {
    #[cfg(target_arch = "x86_64")]
    return set >= InstructionSet::Avx512 && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = set;
        false
    }
}

/// Computes the tile into `output`, which begins with its first value.
pub(super) fn run(set: InstructionSet, tile: Tile<'_>, output: &mut [f32]) {
    assert!(output.len() >= (tile.rows - 1) * tile.stride + tile.columns);
    assert!(tile.rows <= LEFT && tile.columns <= RIGHT && tile.left.len() / LEFT == tile.right.len() / RIGHT);
    #[cfg(target_arch = "x86_64")]
    if supported(set) {
        // SAFETY: the processor has the instructions, the lengths were checked.
        return unsafe { run_avx512(tile, output) };
    }
    let _ = set;
    run_portable(tile, output);
}

fn run_portable(tile: Tile<'_>, output: &mut [f32]) {
    let halves = |word: u32| (f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000));
    for row in 0..tile.rows {
        for (column, out) in output[row * tile.stride..][..tile.columns].iter_mut().enumerate() {
            let mut sum = if tile.adds { *out } else { 0.0 };
            let pairs = tile.left.chunks_exact(LEFT).zip(tile.right.chunks_exact(RIGHT));
            for (left, right) in pairs {
                let ((a, b), (c, d)) = (halves(left[row]), halves(right[column]));
                sum += a * c + b * d;
            }
            *out = sum;
        }
    }
}

/// # Safety
/// The processor has the features, and the tile's slices the lengths that [`run`] checks.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn run_avx512(tile: Tile<'_>, output: &mut [f32]) {
    use std::arch::x86_64::*;

    /// Values of a register.
    const LANES: usize = 16;
    let masks: [__mmask16; 2] = [0, 1].map(|half| {
        let columns = tile.columns.saturating_sub(half * LANES).min(LANES);
        ((1_u32 << columns) - 1) as __mmask16
    });
    let pairs = tile.left.len() / LEFT;
    let (left, right) = (tile.left.as_ptr(), tile.right.as_ptr());
    // SAFETY: words up to `pairs` panels' are read, and the output's rows within its columns by the masks; a masked-out
    // place is never read or written, so `wrapping_add` may point beyond the end.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; LEFT];
        for pair in 0..pairs {
            let right = [0, 1].map(|half| {
                let word = right.add(pair * RIGHT + half * LANES);
                std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(word.cast()))
            });
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = _mm512_set1_epi32((*left.add(pair * LEFT + row)).cast_signed());
                let left = std::mem::transmute::<__m512i, __m512bh>(left);
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = _mm512_dpbf16_ps(*sum, left, right);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate().take(tile.rows) {
            for ((half, sum), mask) in sums.into_iter().enumerate().zip(masks) {
                let place = output.as_mut_ptr().wrapping_add(row * tile.stride + half * LANES);
                let before = match tile.adds {
                    true => _mm512_maskz_loadu_ps(mask, place),
                    false => _mm512_setzero_ps(),
                };
                _mm512_mask_storeu_ps(place, mask, _mm512_add_ps(before, sum));
            }
        }
    }
}
