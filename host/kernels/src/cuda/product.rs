//! Products of activations with weight matrices.

use super::Cuda;
use super::buffer::{CudaBuffer, optional};
use super::elementwise::CudaActivation;
use super::experts::CudaExperts;
use super::launch::{Argument, Grid};
use super::matrix::CudaMatrix;
use super::program::Program;
use crate::{KernelError, Precision, WeightFormat};

/// Threads of a block, in every kernel here.
const THREADS: usize = 128;
/// Warps of a block.
const WARPS: usize = 4;
/// Values of a block of weights, and words that it takes where it is staged (`matvec.cu`).
const BLOCK: usize = 32;
const STAGED: usize = BLOCK + 4;
/// Blocks of one row that are staged at most.
const MOST_STAGED: usize = 256;
/// Matrices that one launch multiplies.
const PARTS: usize = 3;
/// With fewer outputs than this, prompts too are multiplied a few rows at a time: tiles would leave the device idle.
const FEW_OUTPUTS: usize = 256;

/// One of the products of an input: `output (+)= weights · input + bias`.
pub struct CudaProduct<'a> {
    /// `[outputs, inputs]`, of one matrix or of every expert.
    pub weights: &'a CudaMatrix,
    /// `outputs` numbers for each matrix.
    pub bias: Option<&'a CudaBuffer<f32>>,
    /// Rows of the weights' rows.
    pub output: &'a mut CudaBuffer<f32>,
}

/// What is multiplied: rows of the weights' columns. What stands between two products is done for rows that decode where they
/// are read, and was done before for the others.
#[derive(Copy, Clone)]
pub enum CudaInput<'a> {
    /// As it is.
    Plain(&'a CudaBuffer<f32>),
    /// Normalised: rows that decode from `hidden`, the others in `normed`.
    Normed {
        /// Before.
        hidden: &'a CudaBuffer<f32>,
        /// Weight and epsilon of the norm.
        norm: (&'a CudaBuffer<f32>, f32),
        /// After.
        normed: &'a CudaBuffer<f32>,
    },
    /// Gate and up, joined: in `gate` already where rows don't decode.
    Gated {
        /// The gates.
        gate: &'a CudaBuffer<f32>,
        /// What they let through.
        up: &'a CudaBuffer<f32>,
        /// How.
        activation: CudaActivation,
    },
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

impl ProductRows {
    /// The rows of prompts.
    pub fn prompts(self) -> std::ops::Range<usize> {
        self.decoding.min(self.all)..self.all
    }
}

impl<'a> CudaInput<'a> {
    /// What rows that don't decode are in.
    fn of_prompts(self) -> &'a CudaBuffer<f32> {
        match self {
            Self::Plain(values) | Self::Normed { normed: values, .. } | Self::Gated { gate: values, .. } => {
                values
            }
        }
    }

    /// Fails unless all is there for rows of `columns` values.
    fn check(self, rows: ProductRows, columns: usize) -> Result<(), KernelError> {
        let what = "the input of a product";
        if rows.all > rows.decoding {
            self.of_prompts().check(what, rows.all * columns)?;
        }
        let decoding = rows.decoding.min(rows.all) * columns;
        match self {
            Self::Plain(values) => values.check(what, decoding),
            Self::Normed { hidden, norm: (weight, _), .. } => {
                weight.check("the weight of a norm", columns)?;
                hidden.check(what, decoding)
            }
            Self::Gated { gate, up, .. } => {
                up.check("values beside gates", decoding)?;
                gate.check(what, decoding)
            }
        }
    }

    /// Values, what is beside them, the kind and its two numbers (`matvec.cu`).
    fn arguments(self) -> [Argument; 5] {
        let none = Argument::Address(0);
        let numbers = |first, second| [Argument::Float(first), Argument::Float(second)];
        let (values, second, kind, [first, last]) = match self {
            Self::Plain(values) => (values, none, 0, numbers(0.0, 0.0)),
            Self::Normed { hidden, norm: (weight, epsilon), .. } => {
                (hidden, weight.argument(), 1, numbers(epsilon, 0.0))
            }
            Self::Gated { gate, up, activation: CudaActivation::Silu } => {
                (gate, up.argument(), 2, numbers(0.0, 0.0))
            }
            Self::Gated { gate, up, activation: CudaActivation::ClampedSwiglu { alpha, limit } } => {
                (gate, up.argument(), 3, numbers(alpha, limit))
            }
        };
        [values.argument(), second, Argument::Int(kind), first, last]
    }
}

/// Products of one input that are alike: of one format and so many columns.
struct Alike<'p, 'a> {
    products: &'p [CudaProduct<'a>],
    format: WeightFormat,
    columns: usize,
    blocks: usize,
}

impl<'p, 'a> Alike<'p, 'a> {
    /// Checks `products`.
    fn new(products: &'p [CudaProduct<'a>]) -> Result<Self, KernelError> {
        let shape = |weights: &CudaMatrix| (weights.format, weights.columns());
        let (format, columns) = match products.first() {
            Some(first) => shape(first.weights),
            None => (WeightFormat::F32, 0),
        };
        if let Some(other) = products.iter().find(|product| shape(product.weights) != (format, columns)) {
            let reason = format!("{:?} beside {:?}", shape(other.weights), (format, columns));
            return Err(KernelError::Shape { what: "matrices of one product", reason });
        }
        if products.len() > PARTS {
            return Err(KernelError::OutOfRange {
                what: "matrices of one product",
                found: products.len(),
                limit: PARTS + 1,
            });
        }
        Ok(Self { products, format, columns, blocks: columns.div_ceil(BLOCK) })
    }

    /// The arguments of up to three parts, and how many blocks of threads take them all by `height` outputs.
    fn parts(&self, height: usize) -> Result<(Vec<Argument>, usize), KernelError> {
        let (mut arguments, mut count) = (Vec::with_capacity(5 * PARTS), 0);
        for product in self.products {
            arguments.extend(product.weights.arguments());
            arguments.extend([optional(product.bias), product.output.argument()]);
            arguments.push(Argument::int("outputs", product.weights.rows())?);
            count += product.weights.rows().div_ceil(height);
        }
        for _ in self.products.len()..PARTS {
            arguments.extend([Argument::Address(0); 4]);
            arguments.push(Argument::Int(0));
        }
        Ok((arguments, count))
    }

    /// Outputs of a block of threads for so many rows (`matvec.cu`).
    fn height(&self, rows: usize) -> usize {
        use WeightFormat as F;
        WARPS
            * match (self.format, rows) {
                (F::F32, _) => 1,
                (F::Mxfp4 | F::Q4_0 | F::Q4_1 | F::Q4K | F::Q5K | F::Q6K, 1) => 4,
                _ => 2,
            }
    }

    /// Blocks of a row that are staged at once, and the bytes of shared memory for so many rows.
    fn chunk(&self, rows: usize) -> (usize, usize) {
        let chunk = (MOST_STAGED / rows).min(self.blocks.next_multiple_of(BLOCK));
        (chunk, chunk * rows * STAGED * size_of::<f32>())
    }
}

impl Cuda {
    /// Multiplies all rows with each of up to three matrices of one format. Rows of prompts are multiplied in tensor cores with
    /// [`Precision::Fast`], in f32 otherwise; `room` is where they are rounded.
    ///
    /// # Errors
    /// Buffers that are too short, matrices that differ.
    pub fn multiply(
        &self,
        products: &mut [CudaProduct<'_>],
        input: CudaInput<'_>,
        rows: ProductRows,
        accumulate: bool,
        precision: Precision,
        room: &mut CudaBuffer<u32>,
    ) -> Result<(), KernelError> {
        let alike = Alike::new(products)?;
        input.check(rows, alike.columns)?;
        for product in alike.products {
            product.output.check("the output of a product", rows.all * product.weights.rows())?;
            if let Some(bias) = product.bias {
                bias.check("a bias", product.weights.rows())?;
            }
        }
        let prompts = rows.prompts();
        self.multiply_few(&alike, input.arguments(), 0..prompts.start, accumulate)?;
        if prompts.is_empty() {
            return Ok(());
        }
        let values = input.of_prompts();
        if alike.products.iter().all(|product| product.weights.rows() < FEW_OUTPUTS) {
            return self.multiply_few(&alike, CudaInput::Plain(values).arguments(), prompts, accumulate);
        }
        let many = Many::of(precision);
        let source = self.prepare(&many, values, &alike, prompts.clone(), room)?;
        for product in alike.products {
            let outputs = product.weights.rows();
            let [codes, scales] = product.weights.arguments();
            let arguments = [
                codes,
                scales,
                source,
                optional(product.bias),
                product.output.argument_at(prompts.start * outputs),
                Argument::Address(0),
                Argument::Address(0),
                Argument::int("blocks of a row", alike.blocks)?,
                Argument::int("columns", alike.columns)?,
                Argument::int("outputs", outputs)?,
                Argument::int("rows", prompts.len())?,
                Argument::Int(1),
                Argument::Int(i32::from(accumulate)),
            ];
            let grid =
                Grid::new([outputs.div_ceil(many.width), prompts.len().div_ceil(many.height), 1], THREADS);
            // SAFETY: the arguments are the kernel's; the buffers were checked.
            unsafe { self.launch(Program::Matmul(alike.format), many.name, grid, &arguments)? };
        }
        Ok(())
    }

    /// Multiplies each pair of a token and one of its experts with that expert's matrix. The input has a row for each
    /// `share` pairs: a token's experts have one row, or every pair its own.
    ///
    /// # Errors
    /// Buffers that are too short, matrices that differ, missing biases, a precision for which pairs were not grouped.
    pub fn multiply_by_experts(
        &self,
        products: &mut [CudaProduct<'_>],
        input: CudaInput<'_>,
        experts: &CudaExperts,
        share: usize,
        precision: Precision,
        room: &mut CudaBuffer<u32>,
    ) -> Result<(), KernelError> {
        let (alike, share) = (Alike::new(products)?, share.max(1));
        let (pairs, decoding) = (experts.pairs(), experts.decoding_pairs());
        let rows = ProductRows { all: pairs.div_ceil(share), decoding: decoding.div_ceil(share) };
        input.check(rows, alike.columns)?;
        for CudaProduct { weights, bias, output } in alike.products {
            output.check("the output of a product", pairs * weights.rows())?;
            let bias =
                bias.ok_or(KernelError::Shape { what: "experts", reason: "they have no bias".to_owned() })?;
            bias.check("the biases of experts", weights.rows() * weights.count())?;
            if weights.count() < experts.count() {
                let reason = format!("{} matrices for {} experts", weights.count(), experts.count());
                return Err(KernelError::Shape { what: "experts", reason });
            }
        }
        let share_of_pairs = Argument::int("pairs that share a row", share)?;
        if decoding > 0 {
            let ((mut arguments, blocks), (chunk, shared_bytes)) =
                (alike.parts(alike.height(1))?, alike.chunk(1));
            arguments.extend(input.arguments());
            arguments.push(Argument::int("columns", alike.columns)?);
            arguments.push(Argument::int("blocks of a row", alike.blocks)?);
            arguments.push(Argument::int("staged blocks", chunk)?);
            arguments.extend([experts.chosen(), share_of_pairs]);
            let grid = Grid { blocks: [blocks, decoding, 1], threads: THREADS, shared_bytes };
            // SAFETY: the arguments are the kernel's; the buffers were checked, and chosen experts are below their number.
            unsafe { self.launch(Program::Matvec(alike.format), "matvec_experts", grid, &arguments)? };
        }
        let many = Many::of(precision);
        let Some((tiles, order, most)) = experts.tiles(many.height)? else {
            return Ok(());
        };
        // The pairs' rows are named by their place among all.
        let source = self.prepare(&many, input.of_prompts(), &alike, 0..rows.all, room)?;
        for CudaProduct { weights, bias, output } in alike.products {
            let [codes, scales] = weights.arguments();
            let arguments = [
                codes,
                scales,
                source,
                optional(*bias),
                output.argument(),
                tiles,
                order,
                Argument::int("blocks of a row", alike.blocks)?,
                Argument::int("columns", alike.columns)?,
                Argument::int("outputs", weights.rows())?,
                Argument::Int(0),
                share_of_pairs,
                Argument::Int(0),
            ];
            let grid = Grid::new([weights.rows().div_ceil(many.width), most, 1], THREADS);
            // SAFETY: as above; the tiles name pairs that are there.
            unsafe { self.launch(Program::Matmul(alike.format), many.name, grid, &arguments)? };
        }
        Ok(())
    }

    /// Rows a few at a time.
    fn multiply_few(
        &self,
        alike: &Alike<'_, '_>,
        input: [Argument; 5],
        rows: std::ops::Range<usize>,
        accumulate: bool,
    ) -> Result<(), KernelError> {
        let (name, height) = match rows.len() {
            0 => return Ok(()),
            1 => ("matvec_1", 1),
            2 => ("matvec_2", 2),
            3 | 4 => ("matvec_4", 4),
            _ => ("matvec_8", 8),
        };
        let ((mut arguments, blocks), (chunk, shared_bytes)) =
            (alike.parts(alike.height(height))?, alike.chunk(height));
        // Rows are counted from the first.
        for (part, product) in arguments.chunks_exact_mut(5).zip(alike.products) {
            part[3] = product.output.argument_at(rows.start * product.weights.rows());
        }
        let [values, rest @ ..] = input;
        arguments.push(values.moved::<f32>(rows.start * alike.columns));
        arguments.extend(rest);
        arguments.push(Argument::int("columns", alike.columns)?);
        arguments.push(Argument::int("blocks of a row", alike.blocks)?);
        arguments.push(Argument::int("staged blocks", chunk)?);
        arguments.push(Argument::int("rows", rows.len())?);
        arguments.push(Argument::Int(i32::from(accumulate)));
        let grid = Grid { blocks: [blocks, rows.len().div_ceil(height), 1], threads: THREADS, shared_bytes };
        // SAFETY: the arguments are the kernel's; the caller checked the buffers.
        unsafe { self.launch(Program::Matvec(alike.format), name, grid, &arguments) }
    }

    /// Rows as a kernel of `matmul.cu` reads them: rounded to bf16 and filled up, or as they are.
    fn prepare(
        &self,
        many: &Many,
        values: &CudaBuffer<f32>,
        alike: &Alike<'_, '_>,
        rows: std::ops::Range<usize>,
        room: &mut CudaBuffer<u32>,
    ) -> Result<Argument, KernelError> {
        let source = values.argument_at(rows.start * alike.columns);
        if !many.rounds {
            return Ok(source);
        }
        let pairs = rows.len() * alike.blocks * BLOCK / 2;
        self.grow(room, pairs.next_power_of_two())?;
        let arguments = [
            source,
            room.argument(),
            Argument::int("columns", alike.columns)?,
            Argument::int("columns", alike.blocks * BLOCK)?,
            Argument::Long(rows.len() as u64),
        ];
        // SAFETY: the arguments are the kernel's; the caller checked the input, and the room was grown.
        unsafe { self.launch(Program::Elementwise, "round_rows", Grid::of_values(pairs), &arguments)? };
        Ok(room.argument())
    }
}

/// A kernel of `matmul.cu` and what a block of its threads computes.
pub(super) struct Many {
    name: &'static str,
    pub(super) height: usize,
    width: usize,
    /// Whether its input is bf16.
    rounds: bool,
}

impl Many {
    pub(super) fn of(precision: Precision) -> Self {
        match precision {
            Precision::Exact => Self { name: "matmul_f32", height: 32, width: 64, rounds: false },
            Precision::Fast | Precision::Wide => {
                Self { name: "matmul_bf16", height: 64, width: 128, rounds: true }
            }
        }
    }
}
