//! Products of activations with weight matrices: `output = input · weightsᵀ`.
//!
//! Weight rows are decoded to f32 into a buffer that stays in the cache, then multiplied by one kernel for all formats
//! (see [`super::tile`]). With few activation rows a piece takes eight weight rows a stretch of columns at a time, so
//! that decoded weights never leave the first-level cache; with many it decodes a panel of whole rows once for all.
//! (AVX-512 does without the buffer where there are few, see [`super::fused`].) Fast products read packed weights instead (see [`super::packed`]).

use std::cell::RefCell;
use std::ops::Range;

use super::activations::{Activations, Quantized};
use super::buffer::Buffer;
use super::decode::decode_blocks;
#[cfg(target_arch = "x86_64")]
use super::fused;
use super::lanes::{LANES, Lanes};
use super::packed::{GROUP, MAX_ROWS, PackedMatrix, pack};
use super::scatter::Scatter;
use super::tile::{Rows, accumulate, reduce};
use super::{Cpu, InstructionSet};
use crate::error::check_length;
use crate::{KernelError, Matrix, WeightFormat};

/// Activation rows up to which weights are decoded stretch by stretch.
const FEW_ROWS: usize = 4;
/// Weight rows that are decoded together with few activation rows.
const FEW_WEIGHTS: usize = 8;
/// Columns of a stretch: a multiple of every block size; 8 rows of it take 16 KiB.
const STRETCH: usize = 512;
/// Values of a decoded panel: 256 KiB, well inside a second-level cache.
const PANEL_VALUES: usize = 65_536;
/// Multiply-adds of one piece of work, some microseconds.
const PIECE_WORK: usize = 131_072;
/// Bytes of packed weights in one piece of work.
const PACKED_PIECE: usize = 49_152;
/// Activation rows whose sums are kept at a time.
const TILE_ACTIVATIONS: usize = 4;

/// One product of a dispatch: `output = input[rows] · weightsᵀ`.
pub struct Product<'a> {
    /// `outputs × columns`.
    pub weights: &'a Matrix,
    /// Rows of `columns` values.
    pub input: &'a Activations<'a>,
    /// Which of the rows take part.
    pub rows: Range<usize>,
    /// `rows.len() × outputs` values.
    pub output: &'a mut [f32],
}

/// A thread's buffers.
#[derive(Default)]
struct Scratch {
    weights: Buffer,
    sums: Vec<Lanes>,
    outputs: Vec<f32>,
    joined: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One product, ready to be computed piece by piece.
struct Task<'a> {
    set: InstructionSet,
    weights: &'a Matrix,
    input: &'a Activations<'a>,
    /// First activation row, and how many.
    start: usize,
    rows: usize,
    /// Packed weights and 8-bit activations, when the product is a fast one.
    packed: Option<(&'a PackedMatrix, &'a Quantized)>,
    output: Scatter<'a, f32>,
}

/// Some rows of one product's weights.
struct Piece {
    task: usize,
    first: usize,
    count: usize,
}

impl Cpu {
    /// `output = input · weightsᵀ`: `n × weights.rows()` values from `n × weights.columns()`.
    ///
    /// # Errors
    /// When the shapes do not agree.
    pub fn matmul(
        &self,
        weights: &Matrix,
        input: &Activations,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        self.multiply(&mut [Product { weights, input, rows: 0..input.rows, output }])
    }

    /// Several products (query, key and value; gate and up; all experts of a layer) in one dispatch of the pool.
    ///
    /// # Errors
    /// When the shapes do not agree; nothing is written then.
    pub fn multiply(&self, products: &mut [Product]) -> Result<(), KernelError> {
        for Product { weights, input, rows, output } in &*products {
            check_length("the columns of a weight matrix", weights.columns(), input.columns)?;
            if rows.end > input.rows {
                let (found, limit) = (rows.end, input.rows + 1);
                return Err(KernelError::OutOfRange { what: "the rows of a product", found, limit });
            }
            check_length("the output of a product", output.len(), rows.len() * weights.rows())?;
        }
        let set = self.instruction_set();
        let tasks: Vec<Task> = products
            .iter_mut()
            .map(|Product { weights, input, rows, output }| {
                let quantized = input.quantized.as_ref();
                let packed = quantized.and_then(|_| weights.packed(|weights| pack(self, weights)));
                Task {
                    set,
                    weights,
                    input,
                    start: rows.start,
                    rows: rows.len(),
                    packed: packed.zip(quantized),
                    output: Scatter::new(output),
                }
            })
            .collect();
        let mut pieces = Vec::new();
        for (index, task) in tasks.iter().enumerate() {
            let (step, rows) = (task.piece_rows(self.threads()), task.weights.rows());
            pieces.extend((0..rows).step_by(step).map(|first| {
                let count = step.min(rows - first);
                Piece { task: index, first, count }
            }));
        }
        self.parallel(pieces.len(), &|index| {
            let Some(piece) = pieces.get(index) else { return };
            let Some(task) = tasks.get(piece.task) else { return };
            SCRATCH.with_borrow_mut(|scratch| task.compute(piece, scratch));
        });
        Ok(())
    }
}

impl Task<'_> {
    /// Weight rows in a piece: enough work to be worth taking, few enough to share evenly.
    fn piece_rows(&self, threads: usize) -> usize {
        let rows = self.weights.rows();
        if let Some((packed, _)) = self.packed {
            // Some 48 KiB of packed weights, less when they meet many activation rows.
            let share = packed.groups().div_ceil(threads * 3);
            let passes = self.rows.div_ceil(MAX_ROWS).max(1);
            return (PACKED_PIECE / (packed.group_bytes() * passes)).clamp(1, share) * GROUP;
        }
        if self.rows > FEW_ROWS {
            let panel = (PANEL_VALUES / self.input.columns).clamp(4, 64);
            return panel.min(rows.div_ceil(threads * 4)).next_multiple_of(4);
        }
        let work = PIECE_WORK.div_ceil(self.input.columns * self.rows.max(1));
        work.min(rows.div_ceil(threads * 3)).next_multiple_of(FEW_WEIGHTS)
    }

    fn compute(&self, piece: &Piece, scratch: &mut Scratch) {
        if let Some((packed, activations)) = self.packed {
            return self.fast(piece, packed, activations);
        }
        if self.rows > FEW_ROWS {
            return self.many(piece, scratch);
        }
        #[cfg(target_arch = "x86_64")]
        if self.set >= InstructionSet::Avx512 && fused::supports(self.weights.format(), self.input.columns) {
            return self.fused(piece, scratch);
        }
        self.few(piece, scratch);
    }

    /// The activation rows of the product, of which `columns` are used from `start` on.
    fn activations(&self, columns: Range<usize>) -> Rows<'_> {
        let width = self.input.columns;
        Rows::new(&self.input.values[self.start * width + columns.start..], width, self.rows, columns.len())
    }

    /// Packed weights, one group of rows at a time against as many activation rows as registers hold.
    fn fast(&self, piece: &Piece, packed: &PackedMatrix, activations: &Quantized) {
        let (rows, width) = (self.rows, self.weights.rows());
        let mut sums = [[0.0; GROUP]; MAX_ROWS];
        for first in (piece.first..piece.first + piece.count).step_by(GROUP) {
            let count = GROUP.min(piece.first + piece.count - first);
            for start in (0..rows).step_by(MAX_ROWS) {
                let sums = &mut sums[..MAX_ROWS.min(rows - start)];
                packed.multiply(self.set, first / GROUP, activations, self.start + start, sums);
                for (row, sums) in sums.iter().enumerate() {
                    // SAFETY: an output element belongs to one weight row, and a weight row to exactly one piece.
                    let out = unsafe { self.output.part((start + row) * width + first, count) };
                    out.copy_from_slice(&sums[..count]);
                }
            }
        }
    }

    /// Few activation rows: eight weight rows at a time, decoded a stretch of columns at a time.
    fn few(&self, piece: &Piece, scratch: &mut Scratch) {
        let (columns, rows) = (self.input.columns, self.rows);
        let buffer = scratch.weights.take(FEW_WEIGHTS * STRETCH);
        scratch.outputs.resize(FEW_WEIGHTS * FEW_ROWS, 0.0);
        for first in (piece.first..piece.first + piece.count).step_by(FEW_WEIGHTS) {
            let count = FEW_WEIGHTS.min(piece.first + piece.count - first);
            scratch.sums.clear();
            scratch.sums.resize(count * rows, [0.0; LANES]);
            for start in (0..columns).step_by(STRETCH) {
                let length = STRETCH.min(columns - start);
                let stretch = start..start + length;
                let weights =
                    self.decode(first, count, stretch.clone(), buffer, STRETCH, &mut scratch.joined);
                let activations = self.activations(stretch);
                accumulate(self.set, weights, activations, &mut scratch.sums);
            }
            self.store(first, count, 0, rows, &scratch.sums, &mut scratch.outputs);
        }
    }

    /// Few activation rows, where decoding and multiplying are one kernel.
    #[cfg(target_arch = "x86_64")]
    fn fused(&self, piece: &Piece, scratch: &mut Scratch) {
        let (rows, columns) = (self.rows, self.input.columns);
        let activations = self.activations(0..columns);
        scratch.outputs.resize(fused::WEIGHTS * fused::ACTIVATIONS, 0.0);
        for first in (piece.first..piece.first + piece.count).step_by(fused::WEIGHTS) {
            let count = fused::WEIGHTS.min(piece.first + piece.count - first);
            let blocks = self.weights.row_blocks(first, count, 0..columns, &mut scratch.joined);
            // At the end the last row stands in for those that are missing, and is not stored.
            let weights = std::array::from_fn(|row| blocks.row(row.min(count - 1)));
            scratch.sums.clear();
            scratch.sums.resize(fused::WEIGHTS * rows, [0.0; LANES]);
            fused::accumulate(self.weights.format(), weights, activations, &mut scratch.sums);
            self.store(first, count, 0, rows, &scratch.sums[..count * rows], &mut scratch.outputs);
        }
    }

    /// Many activation rows: a panel of decoded weight rows against four of them at a time.
    fn many(&self, piece: &Piece, scratch: &mut Scratch) {
        let (columns, rows) = (self.input.columns, self.rows);
        // Each row starts on a cache line.
        let stride = columns.next_multiple_of(LANES);
        let panel = scratch.weights.take(piece.count * stride);
        scratch.outputs.resize(piece.count * TILE_ACTIVATIONS, 0.0);
        let weights = self.decode(piece.first, piece.count, 0..columns, panel, stride, &mut scratch.joined);
        let activations = self.activations(0..columns);
        for start in (0..rows).step_by(TILE_ACTIVATIONS) {
            let part = activations.part(start, TILE_ACTIVATIONS);
            scratch.sums.clear();
            scratch.sums.resize(piece.count * part.count(), [0.0; LANES]);
            accumulate(self.set, weights, part, &mut scratch.sums);
            self.store(piece.first, piece.count, start, part.count(), &scratch.sums, &mut scratch.outputs);
        }
    }

    /// Decodes columns of some weight rows into `buffer`; plain f32 weights are used where they lie.
    fn decode<'b>(
        &'b self,
        first: usize,
        count: usize,
        columns: Range<usize>,
        buffer: &'b mut [f32],
        stride: usize,
        joined: &'b mut Vec<u8>,
    ) -> Rows<'b> {
        let (format, length) = (self.weights.format(), columns.len());
        let blocks = self.weights.row_blocks(first, count, columns, joined);
        if format == WeightFormat::F32
            && let Some(values) = as_f32(blocks.bytes())
        {
            return Rows::new(values, self.input.columns, count, length);
        }
        for (row, out) in buffer.chunks_mut(stride).take(count).enumerate() {
            decode_blocks(self.set, format, blocks.row(row), &mut out[..length]);
        }
        Rows::new(buffer, stride, count, length)
    }

    /// Reduces the sums of weight rows `first..` by activation rows `start..` and writes them to their places.
    fn store(
        &self,
        first: usize,
        count: usize,
        start: usize,
        rows: usize,
        sums: &[Lanes],
        outputs: &mut [f32],
    ) {
        reduce(self.set, sums, &mut outputs[..count * rows]);
        for row in 0..rows {
            // SAFETY: an output element belongs to one weight row, and a weight row to exactly one piece.
            let out = unsafe { self.output.part((start + row) * self.weights.rows() + first, count) };
            for (out, value) in out.iter_mut().zip(outputs[row..].iter().step_by(rows)) {
                *out = *value;
            }
        }
    }
}

/// The bytes as f32 where they lie, if this machine stores them that way and they are aligned.
fn as_f32(bytes: &[u8]) -> Option<&[f32]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: every bit pattern is a valid f32, and `align_to` cuts at aligned borders only.
    let (head, values, _) = unsafe { bytes.align_to::<f32>() };
    head.is_empty().then_some(values)
}
