//! Products of activations with weight matrices: `output = input · weightsᵀ`.
//!
//! Weight rows are decoded to f32 into a buffer that stays in the cache, then multiplied by one kernel for all formats
//! (see [`super::tile`]). With few activation rows a piece takes eight weight rows a stretch of columns at a time, so
//! that decoded weights never leave the first-level cache; with many it decodes a panel of whole rows once for all.
//! (AVX-512 does without the buffer where there are few, see [`super::fused`].) Products that may round read packed
//! weights instead (see [`super::packed`]), or expand them to bf16 for rows of long texts (see [`super::amx`]).

use std::cell::RefCell;
use std::ops::Range;

use super::activations::Activations;
#[cfg(target_arch = "x86_64")]
use super::amx::{self, Panel, TileRows, Tiles};
use super::buffer::Buffer;
use super::decode::decode_blocks;
#[cfg(target_arch = "x86_64")]
use super::fused;
use super::lanes::{LANES, Lanes};
use super::packed::{GROUP, MAX_ROWS, PackedMatrix, pack};
use super::quantized::Quantized;
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
const PACKED_PIECE: usize = 131_072;
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
    /// How many of them, the first, are computed each by itself, in arithmetic for few rows. The others are rows of long
    /// texts, for which there may be faster arithmetic (AMX) with other roundings. No result depends on how many rows of
    /// either kind there are.
    pub alone: usize,
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
    #[cfg(target_arch = "x86_64")]
    panel: Buffer,
    #[cfg(target_arch = "x86_64")]
    tile_sums: Buffer,
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
    form: Form<'a>,
    output: Scatter<'a, f32>,
}

/// What a product reads.
enum Form<'a> {
    /// Weights in their format, decoded to f32, and activations as they are.
    Exact,
    /// Packed weights and activations of whole numbers.
    Packed(&'a PackedMatrix, &'a Quantized),
    /// Weights, packed if their format can be, expanded to bf16, and activations of bf16.
    #[cfg(target_arch = "x86_64")]
    Tiles(Option<&'a PackedMatrix>, &'a TileRows),
}

/// Some rows of one product's weights.
struct Piece {
    task: usize,
    first: usize,
    count: usize,
}

impl Cpu {
    /// `output = input · weightsᵀ`: `n × weights.rows()` values from `n × weights.columns()`, each row by itself.
    ///
    /// # Errors
    /// When the shapes do not agree.
    pub fn matmul(
        &self,
        weights: &Matrix,
        input: &Activations,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        let rows = 0..input.rows;
        self.multiply(&mut [Product { weights, input, rows, alone: input.rows, output }])
    }

    /// Several products (query, key and value; gate and up; all experts of a layer) in one dispatch of the pool.
    ///
    /// # Errors
    /// When the shapes do not agree; nothing is written then.
    pub fn multiply(&self, products: &mut [Product]) -> Result<(), KernelError> {
        for Product { weights, input, rows, output, .. } in &*products {
            check_length("the columns of a weight matrix", weights.columns(), input.columns)?;
            if rows.end > input.rows {
                let (found, limit) = (rows.end, input.rows + 1);
                return Err(KernelError::OutOfRange { what: "the rows of a product", found, limit });
            }
            check_length("the output of a product", output.len(), rows.len() * weights.rows())?;
        }
        let set = self.instruction_set();
        let mut tasks = Vec::with_capacity(products.len());
        for Product { weights, input, rows, alone, output } in products {
            // Where there is one arithmetic for both kinds of rows, all of them share the weights that are read.
            let alone = if self.has_tiles_for(input) { (*alone).min(rows.len()) } else { rows.len() };
            let (first, second) = output.split_at_mut(alone * weights.rows());
            let border = rows.start + alone;
            for (rows, output, has_tiles) in
                [(rows.start..border, first, false), (border..rows.end, second, true)]
            {
                if !rows.is_empty() {
                    let form = self.form(weights, input, has_tiles);
                    let (start, rows, output) = (rows.start, rows.len(), Scatter::new(output));
                    tasks.push(Task { set, weights, input, start, rows, form, output });
                }
            }
        }
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

    /// Whether rows of long texts have arithmetic of their own.
    fn has_tiles_for(&self, input: &Activations) -> bool {
        input.rounded() && self.instruction_set() >= InstructionSet::Amx
    }

    /// What the product of some rows, which have that arithmetic or not, with `weights` reads.
    fn form<'a>(&self, weights: &'a Matrix, input: &'a Activations<'a>, has_tiles: bool) -> Form<'a> {
        if !input.rounded() {
            return Form::Exact;
        }
        let packed = weights.packed(|weights| pack(self, weights));
        #[cfg(target_arch = "x86_64")]
        if has_tiles {
            return Form::Tiles(packed, input.tiles(self));
        }
        let _ = has_tiles;
        packed.map_or(Form::Exact, |packed| Form::Packed(packed, input.quantized(self)))
    }
}

impl Task<'_> {
    /// Weight rows in a piece: enough work to be worth taking, few enough to share evenly.
    fn piece_rows(&self, threads: usize) -> usize {
        let rows = self.weights.rows();
        match self.form {
            Form::Packed(packed, activations) => {
                // A fixed number of bytes of packed weights, less when they meet many activation rows.
                let share = packed.groups().div_ceil(threads * 3);
                let passes = (self.rows * activations.parts).div_ceil(MAX_ROWS).max(1);
                return (PACKED_PIECE / (packed.group_bytes() * passes)).clamp(1, share) * GROUP;
            }
            #[cfg(target_arch = "x86_64")]
            Form::Tiles(..) => {
                return rows.div_ceil(threads * 3).min(amx::PANEL_ROWS).next_multiple_of(amx::PAIR);
            }
            Form::Exact => {}
        }
        if self.rows > FEW_ROWS {
            let panel = (PANEL_VALUES / self.input.columns).clamp(4, 64);
            return panel.min(rows.div_ceil(threads * 4)).next_multiple_of(4);
        }
        let work = PIECE_WORK.div_ceil(self.input.columns * self.rows.max(1));
        work.min(rows.div_ceil(threads * 3)).next_multiple_of(FEW_WEIGHTS)
    }

    fn compute(&self, piece: &Piece, scratch: &mut Scratch) {
        match self.form {
            Form::Packed(packed, activations) => return self.fast(piece, packed, activations),
            #[cfg(target_arch = "x86_64")]
            Form::Tiles(packed, input) => return self.tiles(piece, packed, input, scratch),
            Form::Exact => {}
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
        let (rows, width, parts) = (self.rows, self.weights.rows(), activations.parts);
        let mut sums = [[0.0; GROUP]; MAX_ROWS];
        let step = MAX_ROWS / parts;
        for first in (piece.first..piece.first + piece.count).step_by(GROUP) {
            let count = GROUP.min(piece.first + piece.count - first);
            for start in (0..rows).step_by(step) {
                let sums = &mut sums[..step.min(rows - start) * parts];
                packed.multiply(self.set, first / GROUP, activations, (self.start + start) * parts, sums);
                for (row, sums) in sums.chunks_exact(parts).enumerate() {
                    // SAFETY: an output element belongs to one weight row, and a weight row to exactly one piece.
                    let out = unsafe { self.output.part((start + row) * width + first, count) };
                    let (first, rest) = (&sums[0], &sums[1..]);
                    out.copy_from_slice(&first[..count]);
                    for low in rest {
                        out.iter_mut().zip(low).for_each(|(out, low)| *out += low);
                    }
                }
            }
        }
    }

    /// Weights expanded a panel at a time against all activation rows, some hundred of them at a time.
    #[cfg(target_arch = "x86_64")]
    fn tiles(&self, piece: &Piece, packed: Option<&PackedMatrix>, input: &TileRows, scratch: &mut Scratch) {
        let (steps, width) = (self.input.columns / amx::STEP, piece.count.next_multiple_of(amx::PAIR));
        let panel = scratch.panel.take_halves(Panel::length(width, input.wide()));
        if width > piece.count.next_multiple_of(GROUP) {
            // The last group of the last pair is missing; its sums are not used, but have to be numbers.
            panel.fill(0);
        }
        let mut panel = Panel::new(panel, input.wide());
        let tiles = Tiles::configure();
        for start in (0..self.rows).step_by(amx::MOST_ROWS) {
            let count = amx::MOST_ROWS.min(self.rows - start);
            let sums = scratch.tile_sums.take(count.next_multiple_of(amx::PAIR) * width);
            sums.fill(0.0);
            for step in (0..steps).step_by(amx::PANEL_STEPS) {
                let steps = step..steps.min(step + amx::PANEL_STEPS);
                self.expand(
                    piece,
                    packed,
                    steps.clone(),
                    &mut panel,
                    &mut scratch.weights,
                    &mut scratch.joined,
                );
                let column = step * amx::STEP;
                tiles.accumulate(input, self.start + start, count, column, &panel, steps.len(), sums, width);
            }
            for (row, sums) in sums.chunks_exact(width).take(count).enumerate() {
                // SAFETY: an output element belongs to one weight row, and a weight row to exactly one piece.
                let out = unsafe {
                    self.output.part((start + row) * self.weights.rows() + piece.first, piece.count)
                };
                out.copy_from_slice(&sums[..piece.count]);
            }
        }
    }

    /// Steps of columns of a piece's weight rows to a panel.
    #[cfg(target_arch = "x86_64")]
    fn expand(
        &self,
        piece: &Piece,
        packed: Option<&PackedMatrix>,
        steps: Range<usize>,
        panel: &mut Panel,
        buffer: &mut Buffer,
        joined: &mut Vec<u8>,
    ) {
        for (place, first) in (piece.first..piece.first + piece.count).step_by(GROUP).enumerate() {
            if let Some(packed) = packed {
                packed.expand(first / GROUP, steps.clone(), panel, place);
                continue;
            }
            let (count, columns) = (
                GROUP.min(piece.first + piece.count - first),
                steps.start * amx::STEP..steps.end * amx::STEP,
            );
            let stride = columns.len();
            let weights = self.decode(first, count, columns, buffer.take(GROUP * stride), stride, joined);
            for step in 0..steps.len() {
                let (high, low) = panel.tile(place, step);
                let row = |row| weights.get(row).and_then(|row| row[step * amx::STEP..].first_chunk());
                amx::transpose(row, high, low);
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
