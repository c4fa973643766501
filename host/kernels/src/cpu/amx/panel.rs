//! Weights as bf16, the right operand of tile products.

use std::arch::x86_64::*;

use super::{PAIR, PANEL_STEPS, ROWS, STEP, TILE};

/// Some steps of columns of some groups of 16 weight rows, in one or two planes.
///
/// Pairs of groups follow each other, in a pair the steps, in a step the two groups' tiles. Row r of a tile has columns 2r
/// and 2r + 1 of all 16 weight rows.
pub(in crate::cpu) struct Panel<'a> {
    halves: &'a mut [u16],
    plane: usize,
}

impl<'a> Panel<'a> {
    /// bf16 values of a panel of `rows` weight rows.
    pub(in crate::cpu) fn length(rows: usize, wide: bool) -> usize {
        rows.next_multiple_of(PAIR) * PANEL_STEPS * STEP * if wide { 2 } else { 1 }
    }

    /// A panel in `halves`, which has [`Panel::length`] of them.
    pub(in crate::cpu) fn new(halves: &'a mut [u16], wide: bool) -> Self {
        let plane = halves.len() / if wide { 2 } else { 1 };
        Self { halves, plane }
    }

    /// Where the tile of a group and a step lies.
    fn offset(group: usize, step: usize) -> usize {
        ((group / 2 * PANEL_STEPS + step) * 2 + group % 2) * TILE
    }

    /// The tile of a group and a step, and, if there are two planes, its rest.
    pub(in crate::cpu) fn tile(
        &mut self,
        group: usize,
        step: usize,
    ) -> (&mut [u16; TILE], Option<&mut [u16; TILE]>) {
        let offset = Self::offset(group, step);
        let (high, low) = self.halves.split_at_mut(self.plane);
        let high = &mut high.as_chunks_mut::<TILE>().0[offset / TILE];
        (high, low.as_chunks_mut::<TILE>().0.get_mut(offset / TILE))
    }

    /// The tiles of a pair of groups, from the first step on, in a plane.
    pub(super) fn pair(&self, plane: usize, pair: usize) -> &[u16] {
        let start = plane * self.plane + Self::offset(pair * 2, 0);
        &self.halves[start..start + PANEL_STEPS * 2 * TILE]
    }
}

/// Writes the tile of 16 rows of 32 values, and what rounding left. Rows that are missing are zeros.
pub(in crate::cpu) fn transpose<'v>(
    row: impl Fn(usize) -> Option<&'v [f32; STEP]>,
    high: &mut [u16; TILE],
    low: Option<&mut [u16; TILE]>,
) {
    let row = |index| row(index).unwrap_or(&[0.0; STEP]);
    let rows: [&[f32; STEP]; ROWS] = std::array::from_fn(row);
    // SAFETY: tiles are only made where AMX was detected, and with it what the functions need.
    unsafe { transpose_rows(&rows, high, low) };
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn transpose_rows(rows: &[&[f32; STEP]; ROWS], high: &mut [u16; TILE], low: Option<&mut [u16; TILE]>) {
    // SAFETY: the same features are enabled here.
    unsafe {
        let mut rounded = [_mm512_setzero_si512(); ROWS];
        for (rounded, row) in rounded.iter_mut().zip(rows) {
            *rounded = round(row);
        }
        store(&rounded, high);
        if let Some(low) = low {
            for (rounded, row) in rounded.iter_mut().zip(rows) {
                *rounded = round(&rest(row, *rounded));
            }
            store(&rounded, low);
        }
    }
}

/// 32 values as bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn round(values: &[f32; STEP]) -> __m512i {
    // SAFETY: both halves of the array are read; the types have the same bits.
    unsafe {
        let (first, second) = (_mm512_loadu_ps(values.as_ptr()), _mm512_loadu_ps(values.as_ptr().add(16)));
        std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first))
    }
}

/// The values less those that they were rounded to.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn rest(values: &[f32; STEP], rounded: __m512i) -> [f32; STEP] {
    let mut halves = [0u16; STEP];
    // SAFETY: the array has the register's size.
    unsafe { _mm512_storeu_si512(halves.as_mut_ptr().cast(), rounded) };
    std::array::from_fn(|index| values[index] - f32::from_bits(u32::from(halves[index]) << 16))
}

/// Stores the transpose of 16 rows of 16 pairs.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(rows: &[__m512i; ROWS], tile: &mut [u16; TILE]) {
    // four[4q + e]: rows 4q…4q+3, elements e, e + 4, e + 8 and e + 12, a quarter of the register each.
    let mut four = [_mm512_setzero_si512(); ROWS];
    for (four, rows) in four.as_chunks_mut::<4>().0.iter_mut().zip(rows.as_chunks::<4>().0) {
        let (low, high) = (_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[0], rows[1]));
        let (next_low, next_high) =
            (_mm512_unpacklo_epi32(rows[2], rows[3]), _mm512_unpackhi_epi32(rows[2], rows[3]));
        four[0] = _mm512_unpacklo_epi64(low, next_low);
        four[1] = _mm512_unpackhi_epi64(low, next_low);
        four[2] = _mm512_unpacklo_epi64(high, next_high);
        four[3] = _mm512_unpackhi_epi64(high, next_high);
    }
    for element in 0..4 {
        let (a, b, c, d) = (four[element], four[4 + element], four[8 + element], four[12 + element]);
        let (ab_low, ab_high) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
        let (cd_low, cd_high) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
        let transposed = [
            _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low),
            _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low),
            _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
            _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high),
        ];
        for (quarter, row) in transposed.into_iter().enumerate() {
            // SAFETY: row `4 · quarter + element` of the tile is 32 values long.
            unsafe {
                let place = tile.as_mut_ptr().add((quarter * 4 + element) * STEP);
                _mm512_storeu_si512(place.cast(), row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_has_pairs_of_columns_of_all_rows() {
        if !super::super::supported() {
            return;
        }
        let values: Vec<f32> = (0..15 * 40).map(|i| i as f32 * 1.001).collect();
        let mut halves = vec![9; Panel::length(64, true)];
        let mut panel = Panel::new(&mut halves, true);
        let (high, low) = panel.tile(3, 5);
        let low = low.unwrap();
        transpose(|row| values.get(row * 40..).and_then(<[f32]>::first_chunk), high, Some(&mut *low));
        for row in 0..ROWS {
            for column in 0..STEP {
                let value = if row < 15 { values[row * 40 + column] } else { 0.0 };
                let place = column / 2 * STEP + row * 2 + column % 2;
                let rounded = half::bf16::from_f32(value);
                assert_eq!(high[place], rounded.to_bits());
                assert_eq!(low[place], half::bf16::from_f32(value - rounded.to_f32()).to_bits());
            }
        }
        let tile = (*high, *low);
        assert_eq!(panel.pair(0, 1)[(5 * 2 + 1) * TILE..][..TILE], tile.0);
        assert_eq!(panel.pair(1, 1)[(5 * 2 + 1) * TILE..][..TILE], tile.1);
    }
}
