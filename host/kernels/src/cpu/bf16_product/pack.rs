//! Rounding a factor into panels: `WIDTH` of its rows side by side, two neighbouring columns to a word.
//!
//! Word `(panel · pairs + pair) · WIDTH + lane` holds columns `2 · pair` (low half) and `2 · pair + 1` of row
//! `panel · WIDTH + lane`; rows and columns that the matrix does not have are zero.

use super::Dense;
use crate::cpu::instruction_set::versions;
use crate::cpu::scatter::Scatter;
use crate::cpu::{Cpu, InstructionSet};

/// Pairs that are turned from rows to panels at a time.
const TURN: usize = 16;

versions! {
    fn pack_left_rows(source: Source<'_>, panel: &mut [u32]) = pack_rows::<{ super::LEFT }>;
}
versions! {
    fn pack_left_columns(source: Source<'_>, panel: &mut [u32]) = pack_columns::<{ super::LEFT }>;
}
versions! {
    fn pack_right_rows(source: Source<'_>, panel: &mut [u32]) = pack_rows::<{ super::RIGHT }>;
}
versions! {
    fn pack_right_columns(source: Source<'_>, panel: &mut [u32]) = pack_columns::<{ super::RIGHT }>;
}

/// The part of a matrix that a panel is made of.
#[derive(Clone, Copy)]
struct Source<'a> {
    values: &'a [f32],
    /// Values from one row of the memory to the next.
    stride: usize,
    /// First row of the panel, and how many there are.
    first: usize,
    rows: usize,
    columns: usize,
}

/// Packs `matrix`, whose columns are summed over, into `panels`.
pub(super) fn pack<const WIDTH: usize>(cpu: &Cpu, matrix: Dense<'_>, panels: &mut Vec<u32>) {
    let Dense { values, rows, columns, transposed } = matrix;
    let (pairs, count) = (columns.div_ceil(2), rows.div_ceil(WIDTH));
    panels.resize(count * pairs * WIDTH, 0);
    let set = cpu.instruction_set();
    let length = pairs * WIDTH;
    let panels = Scatter::new(panels.as_mut_slice());
    cpu.parallel(count, &|index| {
        let first = index * WIDTH;
        let stride = if transposed { rows } else { columns };
        let source = Source { values, stride, first, rows: WIDTH.min(rows - first), columns };
        // SAFETY: every panel is written by one call.
        let panel = unsafe { panels.part(index * length, length) };
        let pack: fn(InstructionSet, Source<'_>, &mut [u32]) = match (WIDTH == super::LEFT, transposed) {
            (true, false) => pack_left_rows,
            (true, true) => pack_left_columns,
            (false, false) => pack_right_rows,
            (false, true) => pack_right_columns,
        };
        pack(set, source, panel);
    });
}

/// To bf16, to nearest and even; what is no number stays none.
#[inline(always)]
fn round(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16;
    if value.is_nan() { (bits >> 16) | 0x40 } else { rounded }
}

#[inline(always)]
fn pair(low: f32, high: f32) -> u32 {
    round(low) | (round(high) << 16)
}

/// From memory in which a row of the panel lies together.
#[inline(always)]
fn pack_rows<const WIDTH: usize>(source: Source<'_>, panel: &mut [u32]) {
    let pairs = source.columns.div_ceil(2);
    let mut turned = [[0_u32; TURN]; WIDTH];
    for begin in (0..pairs).step_by(TURN) {
        let count = TURN.min(pairs - begin);
        for (lane, turned) in turned.iter_mut().enumerate().take(source.rows) {
            let start = (source.first + lane) * source.stride;
            let row = &source.values[start..start + source.columns];
            let row = &row[2 * begin..(2 * (begin + count)).min(source.columns)];
            let (whole, rest) = row.as_chunks::<2>();
            for (word, [low, high]) in turned.iter_mut().zip(whole) {
                *word = pair(*low, *high);
            }
            if let (Some(word), [low]) = (turned.get_mut(whole.len()), rest) {
                *word = pair(*low, 0.0);
            }
        }
        let words = panel[begin * WIDTH..].as_chunks_mut::<WIDTH>().0;
        for (index, words) in words.iter_mut().take(count).enumerate() {
            for (word, turned) in words.iter_mut().zip(&turned) {
                *word = turned[index];
            }
        }
    }
}

/// From memory in which a column of the panel lies together.
#[inline(always)]
fn pack_columns<const WIDTH: usize>(source: Source<'_>, panel: &mut [u32]) {
    let column = |index: usize| {
        let start = index * source.stride + source.first;
        source.values.get(start..start + source.rows).filter(|_| index < source.columns)
    };
    for (index, words) in panel.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        let (low, high) = (column(2 * index).unwrap_or_default(), column(2 * index + 1));
        match (low.as_array::<WIDTH>(), high.and_then(<[f32]>::as_array::<WIDTH>)) {
            (Some(low), Some(high)) => {
                for ((word, low), high) in words.iter_mut().zip(low).zip(high) {
                    *word = pair(*low, *high);
                }
            }
            _ => {
                words.fill(0);
                for (lane, (word, low)) in words.iter_mut().zip(low).enumerate() {
                    let high = high.and_then(|high| high.get(lane)).copied().unwrap_or(0.0);
                    *word = pair(*low, high);
                }
            }
        }
    }
}
