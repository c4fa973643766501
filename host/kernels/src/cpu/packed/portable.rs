//! The reference of the packed product.

use super::layout::Scales;
use super::{BLOCK, Cells, GROUP};

pub(super) fn multiply(cells: &Cells, out: &mut [[f32; GROUP]]) {
    let layout = cells.layout;
    for (n, out) in out.iter_mut().enumerate() {
        *out = [0.0; GROUP];
        let activations = cells.activations.row(cells.first + n);
        for (block, codes) in activations.codes.as_chunks::<BLOCK>().0.iter().enumerate() {
            let cell = &cells.codes[block * layout.code_bytes()..(block + 1) * layout.code_bytes()];
            let activation_scale = activations.scales[block];
            for (row, out) in out.iter_mut().enumerate() {
                let sum = |range: std::ops::Range<usize>| {
                    range.map(|index| layout.code(cell, row, index) * i32::from(codes[index])).sum::<i32>()
                        as f32
                };
                let (first, second) = layout.scale_pair(cells.scales, block, row);
                if layout.scales == Scales::SuperSigned {
                    *out = sum(0..BLOCK / 2).mul_add(first * activation_scale, *out);
                    *out = sum(BLOCK / 2..BLOCK).mul_add(second * activation_scale, *out);
                    continue;
                }
                *out = sum(0..BLOCK).mul_add(first * activation_scale, *out);
                if layout.offset_bits().is_none() {
                    *out = second.mul_add(activations.scaled_sums[block], *out);
                }
            }
        }
    }
}
