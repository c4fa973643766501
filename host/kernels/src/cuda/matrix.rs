//! Weight matrices in the device's memory.
//!
//! Values and scales are those of the file, bit for bit; only their places change (see `source/weights.cuh`): codes lie
//! apart from scales, plain floats are filled up to whole blocks of 32 with zeros.

use std::ops::Range;

use super::Cuda;
use super::buffer::{CudaBuffer, optional};
use super::launch::{Argument, Grid};
use super::placement::CudaPlacement;
use super::program::Program;
use crate::{Cpu, KernelError, Matrix, WeightFormat};

/// Values of a block, whatever the format.
const BLOCK: usize = 32;

/// Bytes that are rearranged before they are sent, so that memory on the host stays bounded.
const PIECE_BYTES: usize = 32 << 20;

/// One or several matrices of the same shape and format, one below the other.
pub struct CudaMatrix {
    pub(super) format: WeightFormat,
    pub(super) codes: CudaBuffer<u8>,
    pub(super) scales: Option<CudaBuffer<u8>>,
    /// Blocks of a row.
    pub(super) blocks: usize,
    rows: usize,
    columns: usize,
    count: usize,
}

/// Where the bytes of a block of 32 values lie in the file's blocks and on the device.
#[derive(Copy, Clone)]
struct BlockLayout {
    /// In the file: bytes of its block, or of 32 plain floats.
    stored: usize,
    codes: (usize, usize),
    /// Where the scales begin; they end where the codes begin, or at `scales.1`.
    scales: (usize, usize),
}

impl BlockLayout {
    /// The formats whose codes and scales are taken apart; `None` for those that stay as they are.
    fn of(format: WeightFormat) -> Option<Self> {
        let (stored, scales) = match format {
            WeightFormat::Q4_0 => (18, 2),
            WeightFormat::Q4_1 => (20, 4),
            WeightFormat::Q5_0 => (22, 6),
            WeightFormat::Q5_1 => (24, 8),
            WeightFormat::Q8_0 => (34, 2),
            WeightFormat::Mxfp4 => (17, 1),
            _ => return None,
        };
        Some(Self { stored, codes: (scales, stored), scales: (0, scales) })
    }
}

impl CudaMatrix {
    /// The storage format.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Rows of one matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of each.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How many matrices.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.codes.len() + self.scales.as_ref().map_or(0, CudaBuffer::len)
    }

    /// The addresses of codes and scales.
    pub(super) fn arguments(&self) -> [Argument; 2] {
        [self.codes.argument(), optional(self.scales.as_ref())]
    }
}

impl Cuda {
    /// Sends matrices of the same shape and format to the device.
    ///
    /// # Errors
    /// Matrices that differ; no memory left on the device.
    pub fn matrix(&self, cpu: &Cpu, matrices: &[&Matrix]) -> Result<CudaMatrix, KernelError> {
        let Some(first) = matrices.first() else {
            return Err(KernelError::Shape {
                what: "matrices for the device",
                reason: "there are none".to_owned(),
            });
        };
        let shape = |matrix: &Matrix| (matrix.format(), matrix.rows(), matrix.columns());
        let (format, rows, columns) = shape(first);
        if let Some(other) = matrices.iter().find(|matrix| shape(matrix) != shape(first)) {
            let reason = format!("{:?} beside {:?}", shape(other), shape(first));
            return Err(KernelError::Shape { what: "matrices for the device", reason });
        }
        let blocks = columns.div_ceil(BLOCK);
        let layout = BlockLayout::of(format);
        let (code_bytes, scale_bytes) = match layout {
            Some(layout) => {
                (blocks * (layout.codes.1 - layout.codes.0), blocks * (layout.scales.1 - layout.scales.0))
            }
            None => match format.block_values() {
                1 => (blocks * BLOCK * format.block_bytes(), 0),
                _ => (first.row_bytes(), 0),
            },
        };
        let all = rows * matrices.len();
        let mut codes = self.zeros(all * code_bytes)?;
        let mut scales = if scale_bytes > 0 { Some(self.zeros(all * scale_bytes)?) } else { None };
        let piece = (PIECE_BYTES / (code_bytes + scale_bytes).max(1)).max(1);
        for (index, matrix) in matrices.iter().enumerate() {
            for start in (0..rows).step_by(piece) {
                let range = start..(start + piece).min(rows);
                let part = Part { matrix, layout, code_bytes, scale_bytes };
                let (part_codes, part_scales) = part.arrange(cpu, range);
                check_exponents(format, &part_scales)?;
                self.write(&mut codes, (index * rows + start) * code_bytes, &part_codes)?;
                if let Some(scales) = &mut scales {
                    self.write(scales, (index * rows + start) * scale_bytes, &part_scales)?;
                }
            }
            matrix.release();
        }
        Ok(CudaMatrix { format, codes, scales, blocks, rows, columns, count: matrices.len() })
    }

    /// `output[r] = weights[tokens[r]]` for the tokens of a step.
    ///
    /// # Errors
    /// Buffers that are too short.
    pub fn embed(
        &self,
        weights: &CudaMatrix,
        placement: &CudaPlacement,
        output: &mut CudaBuffer<f32>,
    ) -> Result<(), KernelError> {
        let rows = placement.rows();
        output.check("embedded tokens", rows * weights.columns)?;
        let [codes, scales] = weights.arguments();
        let arguments = [
            codes,
            scales,
            placement.tokens(),
            output.argument(),
            Argument::int("blocks of a row", weights.blocks)?,
            Argument::int("columns", weights.columns)?,
        ];
        let grid = Grid::new([rows, 1, 1], 128);
        // SAFETY: the arguments are the kernel's; the output was checked here, and the tokens when they were placed.
        unsafe { self.launch(Program::Embedding(weights.format), "embed", grid, &arguments) }
    }
}

/// Some rows on their way.
struct Part<'a> {
    matrix: &'a Matrix,
    layout: Option<BlockLayout>,
    code_bytes: usize,
    scale_bytes: usize,
}

impl Part<'_> {
    /// Codes and scales of `rows` as the device holds them.
    fn arrange(&self, cpu: &Cpu, rows: Range<usize>) -> (Vec<u8>, Vec<u8>) {
        /// Rows that one thread takes at a time.
        const ROWS: usize = 64;
        let mut codes = vec![0; rows.len() * self.code_bytes];
        let mut scales = vec![0; rows.len() * self.scale_bytes];
        let code_parts = codes.chunks_mut((ROWS * self.code_bytes).max(1));
        let mut scale_parts = scales.chunks_mut((ROWS * self.scale_bytes).max(1));
        let parts: Vec<_> = code_parts
            .map(|codes| std::sync::Mutex::new((codes, scale_parts.next().unwrap_or_default())))
            .collect();
        cpu.parallel(parts.len(), &|index| {
            // Each part is taken once.
            let mut part = parts[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let first = rows.start + index * ROWS;
            let count = ROWS.min(rows.end - first);
            let (codes, scales) = &mut *part;
            self.arrange_rows(first, count, codes, scales);
        });
        drop(parts);
        (codes, scales)
    }

    fn arrange_rows(&self, first: usize, count: usize, codes: &mut [u8], scales: &mut [u8]) {
        let mut buffer = Vec::new();
        let stored = self.matrix.row_blocks(first, count, 0..self.matrix.columns(), &mut buffer);
        for row in 0..count {
            let (source, target) = (stored.row(row), &mut codes[row * self.code_bytes..][..self.code_bytes]);
            let Some(BlockLayout { stored, codes: from, scales: beside }) = self.layout else {
                target[..source.len()].copy_from_slice(source);
                continue;
            };
            let factors = &mut scales[row * self.scale_bytes..][..self.scale_bytes];
            let blocks = source.chunks_exact(stored);
            let targets =
                target.chunks_exact_mut(from.1 - from.0).zip(factors.chunks_exact_mut(beside.1 - beside.0));
            for (block, (codes, scales)) in blocks.zip(targets) {
                codes.copy_from_slice(&block[from.0..from.1]);
                scales.copy_from_slice(&block[beside.0..beside.1]);
            }
        }
    }
}

/// Scales of MXFP4 above 2^64 are beyond the kernels' factors, and beyond what a weight can sensibly be.
fn check_exponents(format: WeightFormat, scales: &[u8]) -> Result<(), KernelError> {
    /// The exponent's bias and 64.
    const LIMIT: u8 = 127 + 64;
    let largest = scales.iter().max().filter(|exponent| format == WeightFormat::Mxfp4 && **exponent > LIMIT);
    largest.map_or(Ok(()), |exponent| {
        let (found, limit) = ((*exponent).into(), usize::from(LIMIT) + 1);
        Err(KernelError::OutOfRange { what: "the exponent of an MXFP4 scale", found, limit })
    })
}
