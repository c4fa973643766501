//! Rearranging a matrix into groups of 16 interleaved rows.

use super::{BLOCK, GROUP, Layout, PackedMatrix, SUPER_SCALE_BYTES};
use crate::cpu::Cpu;
use crate::cpu::scatter::Scatter;
use crate::dequantize::group_scale_and_minimum;
use crate::{Bytes, Matrix};

/// The packed form of `matrix`, if its format has one and its rows are whole blocks of activations.
pub(crate) fn pack(cpu: &Cpu, matrix: &Matrix) -> Option<PackedMatrix> {
    let layout = Layout::of(matrix.format())?;
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let blocks = columns / BLOCK;
    if rows == 0 || blocks == 0 || !columns.is_multiple_of(BLOCK) {
        return None;
    }
    let (size, groups) = (layout.group_bytes(blocks), rows.div_ceil(GROUP));
    let mut bytes = vec![0u8; groups * size];
    let parts = Scatter::new(&mut bytes);
    cpu.parallel(groups, &|group| {
        // SAFETY: each group writes its own bytes.
        let out = unsafe { parts.part(group * size, size) };
        for row in 0..GROUP.min(rows - group * GROUP) {
            if let Ok(source) = matrix.row(group * GROUP + row) {
                pack_row(layout, source, row, blocks, out);
            }
        }
    });
    Some(PackedMatrix { layout, columns, bytes: Bytes::from_vec(bytes) })
}

/// Places the blocks of one row into lane `row` of its group.
fn pack_row(layout: Layout, source: &[u8], row: usize, blocks: usize, out: &mut [u8]) {
    let (scales, codes) = out.split_at_mut(layout.codes_start(blocks));
    let cells = codes.chunks_exact_mut(layout.code_bytes());
    let pair = |source: &[u8], out: &mut [u8]| out[row * 2..row * 2 + 2].copy_from_slice(source);
    match layout {
        Layout::Nibbles => {
            for ((block, scale), cell) in source.chunks_exact(18).zip(scales.chunks_exact_mut(32)).zip(cells)
            {
                pair(&block[..2], scale);
                interleave(&block[2..], row, cell);
            }
        }
        Layout::NibblesMinimum => {
            for ((block, scale), cell) in source.chunks_exact(20).zip(scales.chunks_exact_mut(64)).zip(cells)
            {
                pair(&block[..2], &mut scale[..32]);
                pair(&block[2..4], &mut scale[32..]);
                interleave(&block[4..], row, cell);
            }
        }
        Layout::Octets => {
            for ((block, scale), cell) in source.chunks_exact(34).zip(scales.chunks_exact_mut(32)).zip(cells)
            {
                pair(&block[..2], scale);
                // Signed codes become unsigned ones with an offset of 128.
                let unsigned: [u8; 32] = std::array::from_fn(|i| block[2 + i] ^ 0x80);
                interleave(&unsigned, row, cell);
            }
        }
        Layout::Microscaling => {
            for ((block, scale), cell) in source.chunks_exact(17).zip(scales.chunks_exact_mut(16)).zip(cells)
            {
                scale[row] = block[0];
                interleave(&block[1..], row, cell);
            }
        }
        Layout::NibblesSuper => {
            let cells: Vec<&mut [u8]> = cells.collect();
            let mut cells = cells.into_iter();
            for (block, scale) in
                source.as_chunks::<144>().0.iter().zip(scales.chunks_exact_mut(SUPER_SCALE_BYTES))
            {
                pair(&block[..2], &mut scale[..32]);
                pair(&block[2..4], &mut scale[32..64]);
                let packed: [u8; 12] = std::array::from_fn(|i| block[4 + i]);
                for group in 0..8 {
                    let (factor, minimum) = group_scale_and_minimum(&packed, group);
                    scale[64 + group * 32 + row] = factor;
                    scale[64 + group * 32 + 16 + row] = minimum;
                    // Q4_K spreads a group's 32 nibbles over 32 bytes; gather them as values i and i + 16 of one byte.
                    let nibble = |i: usize| block[16 + group / 2 * 32 + i] >> (group % 2 * 4) & 15;
                    let nibbles: [u8; 16] = std::array::from_fn(|i| nibble(i) | nibble(i + 16) << 4);
                    if let Some(cell) = cells.next() {
                        interleave(&nibbles, row, cell);
                    }
                }
            }
        }
    }
}

/// Writes each four bytes of a row's codes to lane `row` of the next register of the cell.
fn interleave(codes: &[u8], row: usize, cell: &mut [u8]) {
    for (codes, register) in codes.chunks_exact(4).zip(cell.chunks_exact_mut(64)) {
        register[row * 4..row * 4 + 4].copy_from_slice(codes);
    }
}
