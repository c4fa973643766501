//! The reference of the packed product.

use super::{BLOCK, Cells, GROUP, Layout, scale_and_minimum};
use crate::dequantize::MXFP4_DOUBLED;

pub(super) fn multiply(cells: &Cells, out: &mut [[f32; GROUP]]) {
    let layout = cells.layout;
    for (n, out) in out.iter_mut().enumerate() {
        *out = [0.0; GROUP];
        let activations = cells.activations.row(cells.first + n);
        for (block, codes) in activations.codes.as_chunks::<BLOCK>().0.iter().enumerate() {
            let cell = &cells.codes[block * layout.code_bytes()..(block + 1) * layout.code_bytes()];
            for (row, out) in out.iter_mut().enumerate() {
                let total: i32 = (0..BLOCK).map(|i| code(layout, cell, row, i) * i32::from(codes[i])).sum();
                let (scale, minimum) = scale_and_minimum(layout, cells.scales, block, row);
                *out = (total as f32).mul_add(scale * activations.scales[block], *out);
                if layout.offset_bits().is_none() {
                    *out = minimum.mul_add(activations.scaled_sums[block], *out);
                }
            }
        }
    }
}

/// The code of value `index` of a row, less its offset.
fn code(layout: Layout, cell: &[u8], row: usize, index: usize) -> i32 {
    let byte = |index: usize| cell[index / 4 * 64 + row * 4 + index % 4];
    let nibble = || if index < 16 { byte(index) & 15 } else { byte(index - 16) >> 4 };
    match layout {
        Layout::Octets => i32::from(byte(index)) - 128,
        Layout::Microscaling => i32::from(MXFP4_DOUBLED[usize::from(nibble())]),
        Layout::Nibbles => i32::from(nibble()) - 8,
        Layout::NibblesMinimum | Layout::NibblesSuper => i32::from(nibble()),
    }
}
