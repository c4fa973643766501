//! Which experts each token passes through, decided and kept on the device.

use super::Cuda;
use super::buffer::CudaBuffer;
use super::launch::{Argument, Grid};
use super::program::Program;
use crate::KernelError;

/// Experts that the grouping kernel counts (`routing.cu`).
const MOST_EXPERTS: usize = 1024;

/// The choice for the tokens of a step. A pair is a token and one of its experts: pair `p` is of token `p / active`, whose
/// experts come in ascending order.
pub struct CudaExperts {
    chosen: CudaBuffer<i32>,
    weights: CudaBuffer<f32>,
    /// Pairs of prompts, grouped by expert.
    order: CudaBuffer<i32>,
    /// Expert, first place in `order` and number of pairs, for each tile.
    tiles: CudaBuffer<i32>,
    height: usize,
    most_tiles: usize,
    tokens: usize,
    decoding: usize,
    count: usize,
    active: usize,
}

/// What a router is asked.
#[derive(Copy, Clone, Debug)]
pub struct CudaRouting {
    /// Tokens of the step.
    pub tokens: usize,
    /// The first of them, which decode: their pairs are not grouped.
    pub decoding: usize,
    /// Experts of the layer.
    pub experts: usize,
    /// How many a token passes through.
    pub active: usize,
    /// The arithmetic of the products to come.
    pub precision: crate::Precision,
}

impl CudaExperts {
    /// How many experts there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Pairs of the step.
    pub fn pairs(&self) -> usize {
        self.tokens * self.active
    }

    pub(super) fn decoding_pairs(&self) -> usize {
        self.decoding * self.active
    }

    pub(super) fn chosen(&self) -> Argument {
        self.chosen.argument()
    }

    /// Tiles of `height` pairs, their order, and how many there can be; `None` where no pair was grouped.
    pub(super) fn tiles(&self, height: usize) -> Result<Option<(Argument, Argument, usize)>, KernelError> {
        if self.most_tiles == 0 {
            return Ok(None);
        }
        crate::error::check_length("a tile of grouped pairs", self.height, height)?;
        Ok(Some((self.tiles.argument(), self.order.argument(), self.most_tiles)))
    }
}

impl Cuda {
    /// Room for a choice.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn experts(&self) -> Result<CudaExperts, KernelError> {
        Ok(CudaExperts {
            chosen: self.zeros(0)?,
            weights: self.zeros(0)?,
            order: self.zeros(0)?,
            tiles: self.zeros(0)?,
            height: 0,
            most_tiles: 0,
            tokens: 0,
            decoding: 0,
            count: 0,
            active: 0,
        })
    }

    /// Takes each token's largest router logits (`[tokens, experts]`) and the softmax over them.
    ///
    /// # Errors
    /// Buffers that are too short, numbers of experts that make no sense.
    pub fn choose_experts(
        &self,
        logits: &CudaBuffer<f32>,
        routing: CudaRouting,
        choice: &mut CudaExperts,
    ) -> Result<(), KernelError> {
        let CudaRouting { tokens, experts, active, precision, .. } = routing;
        let decoding = routing.decoding.min(tokens);
        if active == 0 || active > experts || experts > MOST_EXPERTS {
            let reason =
                format!("{active} of {experts} experts for a token, the kernels take {MOST_EXPERTS} at most");
            return Err(KernelError::Shape { what: "routing", reason });
        }
        logits.check("router logits", tokens * experts)?;
        let pairs = tokens * active;
        let room = pairs.next_power_of_two();
        self.grow(&mut choice.chosen, room)?;
        self.grow(&mut choice.weights, room)?;
        let arguments = [
            logits.argument(),
            choice.chosen.argument(),
            choice.weights.argument(),
            Argument::int("experts", experts)?,
            Argument::int("experts of a token", active)?,
        ];
        let grid = Grid { blocks: [tokens, 1, 1], threads: 32, shared_bytes: experts * 8 };
        // SAFETY: the arguments are the kernel's; the buffers were checked or grown.
        unsafe { self.launch(Program::Routing, "choose_experts", grid, &arguments)? };
        (choice.tokens, choice.decoding, choice.count, choice.active) = (tokens, decoding, experts, active);
        (choice.height, choice.most_tiles) = (super::product::Many::of(precision).height, 0);
        let grouped = (tokens - decoding) * active;
        if grouped == 0 {
            return Ok(());
        }
        // Every expert may have a tile that is not full.
        choice.most_tiles = grouped / choice.height + experts.min(grouped);
        self.grow(&mut choice.order, room)?;
        self.grow(&mut choice.tiles, (choice.most_tiles * 3).next_power_of_two())?;
        let arguments = [
            choice.chosen.argument(),
            choice.order.argument(),
            choice.tiles.argument(),
            Argument::int("pairs", decoding * active)?,
            Argument::int("pairs", pairs)?,
            Argument::int("experts", experts)?,
            Argument::int("rows of a tile", choice.height)?,
            Argument::int("tiles", choice.most_tiles)?,
        ];
        // SAFETY: as above.
        unsafe { self.launch(Program::Routing, "group_by_expert", Grid::new([1, 1, 1], 1024), &arguments) }
    }

    /// Adds to each token's row of `hidden` its experts' `terms` (a row for each pair), each times its weight.
    ///
    /// # Errors
    /// Buffers that are too short.
    pub fn add_mixture(
        &self,
        hidden: &mut CudaBuffer<f32>,
        terms: &CudaBuffer<f32>,
        choice: &CudaExperts,
        width: usize,
    ) -> Result<(), KernelError> {
        let length = choice.tokens * width;
        hidden.check("hidden states", length)?;
        terms.check("the outputs of experts", choice.pairs() * width)?;
        let arguments = [
            hidden.argument(),
            terms.argument(),
            choice.weights.argument(),
            Argument::int("the width of a row", width)?,
            Argument::int("experts of a token", choice.active)?,
            Argument::Long(length as u64),
        ];
        // SAFETY: the arguments are the kernel's; the buffers were checked.
        unsafe { self.launch(Program::Routing, "add_mixture", Grid::of_values(length), &arguments) }
    }

    /// The chosen experts and their weights, `[tokens × active]`, read back.
    ///
    /// # Errors
    /// What a kernel did wrong before.
    pub fn chosen_experts(&self, choice: &CudaExperts) -> Result<(Vec<i32>, Vec<f32>), KernelError> {
        Ok((self.download(&choice.chosen, choice.pairs())?, self.download(&choice.weights, choice.pairs())?))
    }
}
