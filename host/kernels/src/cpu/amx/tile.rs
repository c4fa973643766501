//! The tile product itself. The compiler knows no tiles, so it is written in assembly.

use std::arch::asm;

use super::{PAIR, Panel, ROWS, STEP, TILE, TileRows};

/// What `ldtilecfg` reads: all eight tiles have 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// This thread's tiles, from their configuration to their release: while they are in use, every switch to another
/// thread saves eight KiB more.
pub(in crate::cpu) struct Tiles(std::marker::PhantomData<*const ()>);

impl Tiles {
    /// Configures the tiles. The caller has found them supported.
    pub(in crate::cpu) fn configure() -> Self {
        // SAFETY: the processor has tiles and the process the permission; the configuration is a valid one.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, readonly)) };
        Self(std::marker::PhantomData)
    }

    /// Adds to `sums`, `sums_stride` values a row, the products of `count` activation rows from `row` on with the pairs of
    /// groups of a panel, over `steps` steps of columns from `column` on.
    ///
    /// `sums` has as many rows as there are, rounded up to 32, and 32 columns for every pair.
    #[expect(clippy::too_many_arguments, reason = "a kernel's operands")]
    pub(in crate::cpu) fn accumulate(
        &self,
        rows: &TileRows,
        row: usize,
        count: usize,
        column: usize,
        panel: &Panel,
        steps: usize,
        sums: &mut [f32],
        sums_stride: usize,
    ) {
        // High by high, then each rest by the other's high.
        let terms: &[(usize, usize)] = if rows.wide() { &[(0, 0), (1, 0), (0, 1)] } else { &[(0, 0)] };
        let stride = rows.stride();
        for start in (0..count).step_by(PAIR) {
            for pair in 0..sums_stride / PAIR {
                for (left, right) in terms {
                    let (input, weights) = (rows.from(*left, row + start, column), panel.pair(*right, pair));
                    let sums = &mut sums[start * sums_stride + pair * PAIR..];
                    let operands = Operands { input, stride, weights, steps, sums, sums_stride };
                    if count - start > ROWS { self.two_by_two(operands) } else { self.one_by_two(operands) }
                }
            }
        }
    }

    /// 32 activation rows by 32 weight rows.
    fn two_by_two(&self, operands: Operands) {
        operands.check(PAIR);
        let Operands { input, stride, weights, steps, sums, sums_stride } = operands;
        // SAFETY: tiles are configured; all rows of all tiles lie inside the slices, as was checked.
        unsafe {
            asm!(
                "tileloadd tmm0, [{sums} + {sums_stride}]",
                "tileloadd tmm1, [{sums} + {sums_stride} + 64]",
                "tileloadd tmm2, [{more_sums} + {sums_stride}]",
                "tileloadd tmm3, [{more_sums} + {sums_stride} + 64]",
                "2:",
                "tileloadd tmm4, [{input} + {stride}]",
                "tileloadd tmm6, [{weights} + {line}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{weights} + {line} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{more_input} + {stride}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {input}, 64",
                "add {more_input}, 64",
                "add {weights}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{sums} + {sums_stride}], tmm0",
                "tilestored [{sums} + {sums_stride} + 64], tmm1",
                "tilestored [{more_sums} + {sums_stride}], tmm2",
                "tilestored [{more_sums} + {sums_stride} + 64], tmm3",
                sums = in(reg) sums.as_mut_ptr(),
                more_sums = in(reg) sums.as_mut_ptr().add(ROWS * sums_stride),
                sums_stride = in(reg) sums_stride * size_of::<f32>(),
                input = inout(reg) input.as_ptr() => _,
                more_input = inout(reg) input.as_ptr().add(ROWS * stride) => _,
                stride = in(reg) stride * size_of::<u16>(),
                weights = inout(reg) weights.as_ptr() => _,
                line = in(reg) STEP * size_of::<u16>(),
                steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    /// 16 activation rows by 32 weight rows.
    fn one_by_two(&self, operands: Operands) {
        operands.check(ROWS);
        let Operands { input, stride, weights, steps, sums, sums_stride } = operands;
        // SAFETY: tiles are configured; all rows of all tiles lie inside the slices, as was checked.
        unsafe {
            asm!(
                "tileloadd tmm0, [{sums} + {sums_stride}]",
                "tileloadd tmm1, [{sums} + {sums_stride} + 64]",
                "2:",
                "tileloadd tmm4, [{input} + {stride}]",
                "tileloadd tmm6, [{weights} + {line}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{weights} + {line} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {input}, 64",
                "add {weights}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{sums} + {sums_stride}], tmm0",
                "tilestored [{sums} + {sums_stride} + 64], tmm1",
                sums = in(reg) sums.as_mut_ptr(),
                sums_stride = in(reg) sums_stride * size_of::<f32>(),
                input = inout(reg) input.as_ptr() => _,
                stride = in(reg) stride * size_of::<u16>(),
                weights = inout(reg) weights.as_ptr() => _,
                line = in(reg) STEP * size_of::<u16>(),
                steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// What one product of tiles reads and adds to: activations and sums by rows of so many values, weights as tiles.
struct Operands<'a> {
    input: &'a [u16],
    stride: usize,
    weights: &'a [u16],
    steps: usize,
    sums: &'a mut [f32],
    sums_stride: usize,
}

impl Operands<'_> {
    /// Holds the slices to the tiles of so many activation rows and 32 weight rows.
    fn check(&self, rows: usize) {
        assert!(self.steps > 0 && self.weights.len() >= self.steps * 2 * TILE);
        assert!(self.input.len() >= (rows - 1) * self.stride + self.steps * STEP);
        assert!(self.sums.len() >= (rows - 1) * self.sums_stride + PAIR);
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the processor has tiles; nothing in them is needed any more.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// f32 operations of one round of [`peak_rounds`].
pub(in crate::cpu) const PEAK_OPERATIONS: usize = 4 * 2 * ROWS * ROWS * STEP;

/// Four products of tiles a round, without their loads: what the processor can do.
pub(in crate::cpu) fn peak_rounds(rounds: usize) {
    let _tiles = Tiles::configure();
    for _ in 0..rounds {
        // SAFETY: tiles are configured, and start as zeros.
        unsafe {
            asm!(
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, nomem),
            );
        }
    }
}
