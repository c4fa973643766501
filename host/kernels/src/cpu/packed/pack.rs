//! Rearranging a matrix into groups of 16 interleaved rows.

use super::layout::{Codes, Layout, SUPER_BYTES, SUPER_SIGNED_BYTES};
use super::{BLOCK, GROUP, PackedMatrix};
use crate::cpu::Cpu;
use crate::cpu::scatter::Scatter;
use crate::dequantize::group_scale_and_minimum;
use crate::{Matrix, WeightFormat};

/// The packed form of `matrix`, if its format has one and its rows are whole blocks of activations.
pub(crate) fn pack(cpu: &Cpu, matrix: &Matrix) -> Option<PackedMatrix> {
    let (format, rows, columns) = (matrix.format(), matrix.rows(), matrix.columns());
    let layout = Layout::of(format)?;
    let blocks = columns / BLOCK;
    if rows == 0 || blocks == 0 || !columns.is_multiple_of(BLOCK) {
        return None;
    }
    let (size, groups) = (layout.group_bytes(blocks), rows.div_ceil(GROUP));
    let bytes = cpu.arena().bytes(groups * size, |bytes| {
        let parts = Scatter::new(bytes);
        cpu.parallel(groups, &|group| {
            // SAFETY: each group writes its own bytes.
            place_group(matrix, layout, group, unsafe { parts.part(group * size, size) });
        });
    });
    // Fast products read the packed copy only, so the original need not stay resident beside it.
    matrix.release();
    Some(PackedMatrix { format, layout, columns, bytes })
}

/// Places the rows of one group.
fn place_group(matrix: &Matrix, layout: Layout, group: usize, out: &mut [u8]) {
    let (format, columns) = (matrix.format(), matrix.columns());
    let (scales, codes) = out.split_at_mut(layout.codes_start(columns / BLOCK));
    let (count, mut joined) = (GROUP.min(matrix.rows() - group * GROUP), Vec::new());
    let source = matrix.row_blocks(group * GROUP, count, 0..columns, &mut joined);
    for row in 0..count {
        let source = source.row(row).chunks_exact(format.block_bytes());
        if format.block_values() == BLOCK {
            let cells = codes.chunks_exact_mut(layout.code_bytes());
            for (index, (block, cell)) in source.zip(cells).enumerate() {
                place_block(format, layout, block, row, scales, index, cell);
            }
        } else {
            let cells = codes.chunks_exact_mut(layout.code_bytes() * 8);
            for (index, (block, cells)) in source.zip(cells).enumerate() {
                place_super_block(format, layout, block, row, scales, index, cells);
            }
        }
    }
}

/// Places a block of 32 values into lane `row` of its cell and of the scales of block `index`.
fn place_block(
    format: WeightFormat,
    layout: Layout,
    block: &[u8],
    row: usize,
    scales: &mut [u8],
    index: usize,
    cell: &mut [u8],
) {
    // Scales, fifth bits and codes follow each other; nibbles already lie as a cell wants them.
    let (scale_bytes, fifth_bytes) = match format {
        WeightFormat::Q4_0 | WeightFormat::Q8_0 => (2, 0),
        WeightFormat::Q4_1 => (4, 0),
        WeightFormat::Q5_0 => (2, 4),
        WeightFormat::Q5_1 => (4, 4),
        _ => (1, 0),
    };
    let (codes, fifths) =
        (&block[scale_bytes + fifth_bytes..], &block[scale_bytes..scale_bytes + fifth_bytes]);
    // Signed bytes become unsigned ones with an offset of 128.
    let flip = if layout.codes == Codes::Eight { 0x80 } else { 0 };
    for (codes, register) in codes.chunks_exact(4).zip(cell.chunks_exact_mut(64)) {
        for (to, code) in register[row * 4..row * 4 + 4].iter_mut().zip(codes) {
            *to = code ^ flip;
        }
    }
    for (value, fifth) in fifths.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1)).enumerate() {
        layout.set_code(cell, row, value, fifth << 4);
    }
    if scale_bytes == 1 {
        scales[index * GROUP + row] = block[0];
        return;
    }
    for (kind, half) in block[..scale_bytes].chunks_exact(2).enumerate() {
        let start = (index * scale_bytes / 2 + kind) * 2 * GROUP + row * 2;
        scales[start..start + 2].copy_from_slice(half);
    }
}

/// Places a block of 256 values into lane `row` of its eight cells and of the scales of super-block `index`.
fn place_super_block(
    format: WeightFormat,
    layout: Layout,
    block: &[u8],
    row: usize,
    scales: &mut [u8],
    index: usize,
    cells: &mut [u8],
) {
    let cells = cells.chunks_exact_mut(layout.code_bytes()).enumerate();
    if format == WeightFormat::Q6K {
        let scales = &mut scales[index * SUPER_SIGNED_BYTES..(index + 1) * SUPER_SIGNED_BYTES];
        scales[row * 2..row * 2 + 2].copy_from_slice(&block[208..210]);
        for (group, cell) in cells {
            let (half, j) = (group / 4, group % 4);
            scales[32 + group * 32 + row] = block[192 + group * 2];
            scales[48 + group * 32 + row] = block[193 + group * 2];
            for value in 0..BLOCK {
                let low = block[half * 64 + j % 2 * 32 + value] >> (j / 2 * 4) & 15;
                let high = block[128 + half * 32 + value] >> (2 * j) & 3;
                layout.set_code(cell, row, value, low | high << 4);
            }
        }
        return;
    }
    let scales = &mut scales[index * SUPER_BYTES..(index + 1) * SUPER_BYTES];
    scales[row * 2..row * 2 + 2].copy_from_slice(&block[..2]);
    scales[32 + row * 2..34 + row * 2].copy_from_slice(&block[2..4]);
    let packed: [u8; 12] = std::array::from_fn(|i| block[4 + i]);
    let nibbles = if format == WeightFormat::Q5K { 48 } else { 16 };
    for (group, cell) in cells {
        let (factor, minimum) = group_scale_and_minimum(&packed, group);
        scales[64 + group * 32 + row] = factor;
        scales[80 + group * 32 + row] = minimum;
        for value in 0..BLOCK {
            let low = block[nibbles + group / 2 * 32 + value] >> (group % 2 * 4) & 15;
            let fifth = if format == WeightFormat::Q5K { (block[16 + value] >> group & 1) << 4 } else { 0 };
            layout.set_code(cell, row, value, low | fifth);
        }
    }
}
