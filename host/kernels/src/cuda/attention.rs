//! Rotary embedding, writing to the cache, and attention over it.

use super::Cuda;
use super::buffer::{CudaBuffer, optional};
use super::launch::{Argument, Grid};
use super::placement::CudaPlacement;
use super::program::Program;
use super::store::CudaKeyValueStore;
use crate::{KernelError, RowStatistics};

/// Positions that a block of threads takes (`attention.cu`).
pub(super) const SPLIT: usize = 512;
/// Query heads that it takes.
const HEADS: usize = 8;
/// The widest head.
const MOST_COMPONENTS: usize = 256;
const THREADS: usize = 128;

/// What one attention layer computes; the cache knows key-value heads and their width.
pub struct CudaAttention<'a> {
    /// Which layer of the cache.
    pub layer: usize,
    /// Query heads.
    pub heads: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// When set, a query at position t sees only the keys in `(t − window, t]`.
    pub sliding_window: Option<usize>,
    /// Per query head, a score that takes part in the softmax and has no value.
    pub sinks: Option<&'a CudaBuffer<f32>>,
}

/// Where attention keeps its splits; grows as it is needed.
pub struct CudaSplits {
    partial: CudaBuffer<f32>,
    states: CudaBuffer<f32>,
}

/// A layer's dimensions, checked.
struct Shape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    windowed: bool,
}

impl CudaAttention<'_> {
    fn shape(&self, store: &CudaKeyValueStore) -> Result<Shape, KernelError> {
        let layer = store.layer(self.layer)?;
        let (heads, kv_heads, head_dim) = (self.heads, layer.kv_heads, layer.head_dim);
        let is_usable =
            kv_heads > 0 && heads.is_multiple_of(kv_heads) && (1..=MOST_COMPONENTS).contains(&head_dim);
        if !is_usable {
            let reason = format!(
                "{heads} query heads, {kv_heads} key-value heads of {head_dim} components (at most {MOST_COMPONENTS})"
            );
            return Err(KernelError::Shape { what: "attention", reason });
        }
        if let Some(sinks) = self.sinks {
            sinks.check("the sinks", heads)?;
        }
        Ok(Shape { heads, kv_heads, head_dim, windowed: layer.windowed })
    }

    fn window(&self) -> Result<Argument, KernelError> {
        Argument::int("a sliding window", self.sliding_window.unwrap_or(0))
    }
}

impl Cuda {
    /// Room for splits.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn splits(&self) -> Result<CudaSplits, KernelError> {
        Ok(CudaSplits { partial: self.zeros(0)?, states: self.zeros(0)? })
    }

    /// Turns queries and keys by their positions, and writes keys and values to the cache.
    ///
    /// # Errors
    /// Buffers that are too short, a shape that the kernels do not take.
    pub fn rotate_and_store(
        &self,
        attention: &CudaAttention<'_>,
        placement: &CudaPlacement,
        queries: &mut CudaBuffer<f32>,
        keys: &mut CudaBuffer<f32>,
        values: &CudaBuffer<f32>,
        store: &mut CudaKeyValueStore,
    ) -> Result<(), KernelError> {
        let Shape { heads, kv_heads, head_dim, windowed } = attention.shape(store)?;
        let rows = placement.rows();
        queries.check("queries", rows * heads * head_dim)?;
        keys.check("keys", rows * kv_heads * head_dim)?;
        values.check("values", rows * kv_heads * head_dim)?;
        crate::error::check_length("the angles of a step", placement.angle_values(), rows * (head_dim / 2))?;
        let [key_cache, value_cache] = store.arguments(attention.layer)?;
        let arguments = [
            queries.argument(),
            keys.argument(),
            values.argument(),
            placement.cosines(),
            placement.sines(),
            key_cache,
            value_cache,
            placement.positions(),
            placement.table_starts(windowed),
            placement.tables(),
            Argument::int("query heads", heads)?,
            Argument::int("key-value heads", kv_heads)?,
            Argument::int("components", head_dim)?,
            Argument::int("tokens of a block", store.size().block_tokens)?,
        ];
        let threads = head_dim.next_multiple_of(32).min(THREADS);
        let grid = Grid::new([rows, heads + kv_heads, 1], threads);
        // SAFETY: the arguments are the kernel's; buffers were checked here, positions and tables when they were placed.
        unsafe { self.launch(Program::Rotary(store.stored), "rotate_and_store", grid, &arguments) }
    }

    /// `output[row, head] = Σ softmax(query · keys) · values` over the keys that the row sees.
    ///
    /// # Errors
    /// Buffers that are too short, a shape that the kernels do not take.
    pub fn attend(
        &self,
        attention: &CudaAttention<'_>,
        placement: &CudaPlacement,
        queries: &CudaBuffer<f32>,
        store: &CudaKeyValueStore,
        room: &mut CudaSplits,
        output: &mut CudaBuffer<f32>,
    ) -> Result<(), KernelError> {
        let Shape { heads, kv_heads, head_dim, windowed } = attention.shape(store)?;
        let (rows, splits) = (placement.rows(), placement.splits());
        queries.check("queries", rows * heads * head_dim)?;
        output.check("attention's output", rows * heads * head_dim)?;
        self.grow(&mut room.partial, (rows * heads * splits * head_dim).next_power_of_two())?;
        self.grow(&mut room.states, (rows * heads * splits * 2).next_power_of_two())?;
        let [key_cache, value_cache] = store.arguments(attention.layer)?;
        let arguments = [
            queries.argument(),
            key_cache,
            value_cache,
            placement.positions(),
            placement.table_starts(windowed),
            placement.tables(),
            optional(attention.sinks),
            room.partial.argument(),
            room.states.argument(),
            output.argument(),
            Argument::int("query heads", heads)?,
            Argument::int("key-value heads", kv_heads)?,
            Argument::int("components", head_dim)?,
            Argument::int("tokens of a block", store.size().block_tokens)?,
            attention.window()?,
            Argument::Float(attention.scale),
        ];
        let chunks = kv_heads * (heads / kv_heads).div_ceil(HEADS);
        let grid = Grid::new([chunks, rows, splits], THREADS);
        let program = Program::Attention(store.stored);
        // SAFETY: the arguments are the kernel's; buffers were checked or grown here, positions and tables when they were
        // placed.
        unsafe { self.launch(program, "attend", grid, &arguments)? };
        if splits == 1 {
            return Ok(());
        }
        let arguments = [
            room.partial.argument(),
            room.states.argument(),
            optional(attention.sinks),
            output.argument(),
            Argument::int("query heads", heads)?,
            Argument::int("components", head_dim)?,
            Argument::int("splits", splits)?,
        ];
        let grid = Grid::new([rows, heads, 1], head_dim.next_multiple_of(32).min(THREADS));
        // SAFETY: as above.
        unsafe { self.launch(program, "join_splits", grid, &arguments) }
    }

    /// How every row and head attends: `[rows × heads]`, read back from the device.
    ///
    /// # Errors
    /// As [`Cuda::attend`].
    pub fn attention_statistics(
        &self,
        attention: &CudaAttention<'_>,
        placement: &CudaPlacement,
        queries: &CudaBuffer<f32>,
        store: &CudaKeyValueStore,
    ) -> Result<Vec<RowStatistics>, KernelError> {
        let Shape { heads, kv_heads, head_dim, windowed } = attention.shape(store)?;
        let rows = placement.rows();
        queries.check("queries", rows * heads * head_dim)?;
        let output = self.zeros::<f32>(rows * heads * 4)?;
        let [key_cache, _] = store.arguments(attention.layer)?;
        let arguments = [
            queries.argument(),
            key_cache,
            placement.positions(),
            placement.table_starts(windowed),
            placement.tables(),
            optional(attention.sinks),
            output.argument(),
            Argument::int("query heads", heads)?,
            Argument::int("key-value heads", kv_heads)?,
            Argument::int("components", head_dim)?,
            Argument::int("tokens of a block", store.size().block_tokens)?,
            attention.window()?,
            Argument::Float(attention.scale),
        ];
        let grid = Grid::new([rows, heads, 1], THREADS);
        // SAFETY: as above.
        unsafe { self.launch(Program::Attention(store.stored), "attention_statistics", grid, &arguments)? };
        let values = self.download(&output, rows * heads * 4)?;
        let (found, _) = values.as_chunks::<4>();
        Ok(found
            .iter()
            .map(|[entropy, score_mean, score_variance, sink_mass]| RowStatistics {
                entropy: *entropy,
                score_mean: *score_mean,
                score_variance: *score_variance,
                sink_mass: *sink_mass,
            })
            .collect())
    }
}
