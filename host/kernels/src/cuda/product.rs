//! Products of activations with weight matrices.

use super::Cuda;
use super::buffer::{CudaBuffer, optional};
use super::experts::CudaExperts;
use super::launch::{Argument, Grid};
use super::matrix::CudaMatrix;
use super::program::Program;
use crate::{KernelError, Precision};

/// Threads of a block, in every kernel here.
const THREADS: usize = 128;
/// Outputs of a block where rows are few (`matvec.cu`).
const FEW_OUTPUTS: usize = 8;

/// `output (+)= weights · input + bias`.
pub struct CudaProduct<'a> {
    /// `[outputs, inputs]`, of one matrix or of every expert.
    pub weights: &'a CudaMatrix,
    /// `outputs` numbers for each matrix.
    pub bias: Option<&'a CudaBuffer<f32>>,
    /// Rows of the weights' columns.
    pub input: &'a CudaBuffer<f32>,
    /// Rows of the weights' rows.
    pub output: &'a mut CudaBuffer<f32>,
    /// Whether the output is added to.
    pub accumulate: bool,
}

/// Which rows.
#[derive(Copy, Clone, Debug)]
pub struct ProductRows {
    /// All of them.
    pub all: usize,
    /// The first of them, which go on with texts: they are multiplied in f32 a few at a time, which is what their weights'
    /// way from memory leaves time for.
    pub decoding: usize,
}

impl Cuda {
    /// Multiplies all rows with one matrix. Rows of prompts in tensor cores with [`Precision::Fast`], in f32 otherwise.
    ///
    /// # Errors
    /// Buffers that are too short.
    pub fn multiply(
        &self,
        product: CudaProduct<'_>,
        rows: ProductRows,
        precision: Precision,
    ) -> Result<(), KernelError> {
        let CudaProduct { weights, bias, input, output, accumulate } = product;
        let (outputs, columns) = (weights.rows(), weights.columns());
        input.check("the input of a product", rows.all * columns)?;
        output.check("the output of a product", rows.all * outputs)?;
        if let Some(bias) = bias {
            bias.check("a bias", outputs)?;
        }
        let decoding = rows.decoding.min(rows.all);
        if decoding > 0 {
            let (name, height) = match decoding {
                1 => ("matvec_1", 1),
                2 => ("matvec_2", 2),
                3 | 4 => ("matvec_4", 4),
                _ => ("matvec_8", 8),
            };
            let [codes, scales] = weights.arguments();
            let arguments = [
                codes,
                scales,
                input.argument(),
                optional(bias),
                output.argument(),
                Argument::int("blocks of a row", weights.blocks)?,
                Argument::int("columns", columns)?,
                Argument::int("outputs", outputs)?,
                Argument::int("rows", decoding)?,
                Argument::Int(i32::from(accumulate)),
            ];
            let grid = Grid::new([outputs.div_ceil(FEW_OUTPUTS), decoding.div_ceil(height), 1], THREADS);
            // SAFETY: the arguments are the kernel's; the buffers were checked.
            unsafe { self.launch(Program::Matvec(weights.format), name, grid, &arguments)? };
        }
        let rest = rows.all - decoding;
        if rest == 0 {
            return Ok(());
        }
        let many = Many::of(precision);
        let [codes, scales] = weights.arguments();
        let arguments = [
            codes,
            scales,
            input.argument_at(decoding * columns),
            optional(bias),
            output.argument_at(decoding * outputs),
            Argument::Address(0),
            Argument::Address(0),
            Argument::int("blocks of a row", weights.blocks)?,
            Argument::int("columns", columns)?,
            Argument::int("outputs", outputs)?,
            Argument::int("rows", rest)?,
            Argument::Int(1),
            Argument::Int(i32::from(accumulate)),
        ];
        let grid = Grid::new([outputs.div_ceil(many.width), rest.div_ceil(many.height), 1], THREADS);
        // SAFETY: the arguments are the kernel's; the buffers were checked.
        unsafe { self.launch(Program::Matmul(weights.format), many.name, grid, &arguments) }
    }

    /// Multiplies each pair of a token and one of its experts with that expert's matrix. The input has a row for each
    /// `share` pairs: a token's experts have one row, or every pair its own.
    ///
    /// # Errors
    /// Buffers that are too short.
    pub fn multiply_by_experts(
        &self,
        product: CudaProduct<'_>,
        experts: &CudaExperts,
        share: usize,
        precision: Precision,
    ) -> Result<(), KernelError> {
        let CudaProduct { weights, bias, input, output, accumulate } = product;
        let (outputs, columns, pairs) = (weights.rows(), weights.columns(), experts.pairs());
        input.check("the input of a product", pairs.div_ceil(share.max(1)) * columns)?;
        output.check("the output of a product", pairs * outputs)?;
        let bias =
            bias.ok_or(KernelError::Shape { what: "experts", reason: "they have no bias".to_owned() })?;
        bias.check("the biases of experts", outputs * weights.count())?;
        if accumulate || weights.count() < experts.count() {
            let reason = format!("{} matrices for {} experts", weights.count(), experts.count());
            return Err(KernelError::Shape { what: "experts", reason });
        }
        let [codes, scales] = weights.arguments();
        let shape = [
            Argument::int("blocks of a row", weights.blocks)?,
            Argument::int("columns", columns)?,
            Argument::int("outputs", outputs)?,
        ];
        let share = Argument::int("pairs that share a row", share.max(1))?;
        let mut arguments = vec![codes, scales, input.argument(), bias.argument(), output.argument()];
        if experts.decoding_pairs() > 0 {
            let mut arguments = arguments.clone();
            arguments.push(experts.chosen());
            arguments.extend(shape);
            arguments.push(share);
            let grid = Grid::new([outputs.div_ceil(FEW_OUTPUTS), experts.decoding_pairs(), 1], THREADS);
            // SAFETY: the arguments are the kernel's; the buffers were checked, and chosen experts are below their number.
            unsafe { self.launch(Program::Matvec(weights.format), "matvec_experts", grid, &arguments)? };
        }
        let many = Many::of(precision);
        let Some((tiles, order, most)) = experts.tiles(many.height) else {
            return Ok(());
        };
        arguments.extend([tiles, order]);
        arguments.extend(shape);
        arguments.extend([Argument::Int(0), share, Argument::Int(0)]);
        let grid = Grid::new([outputs.div_ceil(many.width), most, 1], THREADS);
        // SAFETY: as above; the tiles name pairs that are there.
        unsafe { self.launch(Program::Matmul(weights.format), many.name, grid, &arguments) }
    }
}

/// A kernel of `matmul.cu` and what a block of its threads computes.
pub(super) struct Many {
    name: &'static str,
    pub(super) height: usize,
    width: usize,
}

impl Many {
    pub(super) fn of(precision: Precision) -> Self {
        match precision {
            Precision::Exact => Self { name: "matmul_f32", height: 32, width: 64 },
            Precision::Fast | Precision::Wide => Self { name: "matmul_bf16", height: 64, width: 128 },
        }
    }
}
