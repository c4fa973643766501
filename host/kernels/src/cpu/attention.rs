//! Causal attention over the paged key-value store, by blocks of keys with a running softmax.
//!
//! Keys are taken in steps of four tiles of 16 that lie at fixed positions of the sequence, and every query folds its
//! steps in order, so a query's result depends on its keys alone. No matrix of scores is kept. All query heads of a KV
//! group, for a tile of queries, share each loaded key and value. The arithmetic is in [`super::softmax`].

use std::cell::RefCell;
use std::ops::Range;

use super::Cpu;
use super::buffer::Buffer;
use super::instruction_set::{InstructionSet, versions};
#[cfg(target_arch = "x86_64")]
use super::reader::{Avx2Halves, Avx512Halves};
use super::reader::{Codes, Plain, PortableHalves, Reader};
use super::scatter::Scatter;
use super::softmax::{ROWS, STEP, STEP_TILES, Softmax, Tile, add_values, scores, weigh};
use super::statistics::{Observer, RowStatistics, ScoreSums};
use crate::error::check_length;
use crate::kv::KEY_TILE;
use crate::{CacheFormat, KernelError, KeyValueStore};

/// What one attention layer computes.
#[derive(Copy, Clone, Debug)]
pub struct AttentionShape<'a> {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; query head h reads KV head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Components of a head.
    pub head_dim: usize,
    /// Factor on the scores, commonly `1/√head_dim`.
    pub scale: f32,
    /// When set, a query at position t sees only the keys in `(t − window, t]`.
    pub sliding_window: Option<usize>,
    /// Per query head, a score that takes part in the softmax and has no value (gpt-oss).
    pub sinks: Option<&'a [f32]>,
}

/// Consecutive queries of one sequence and the cache blocks that hold its keys from position 0 on.
#[derive(Copy, Clone, Debug)]
pub struct SequenceSpan<'a> {
    /// Block of positions `i · block_tokens …` for each i, in the layers that see every token.
    pub blocks: &'a [u32],
    /// The same in the windowed layers. Blocks before the window of the first query may be in use for other positions.
    pub window_blocks: &'a [u32],
    /// Position of the first query; query i sits at `first_position + i` and sees keys up to its own position.
    pub first_position: usize,
    /// Number of queries.
    pub queries: usize,
}

impl<'a> SequenceSpan<'a> {
    /// The blocks of a layer's kind.
    pub fn table(&self, windowed: bool) -> &'a [u32] {
        if windowed { self.window_blocks } else { self.blocks }
    }
}

/// Rows (queries × heads of a group) that share the loaded tiles in one piece of work.
const PIECE_ROWS: usize = 64;

/// Up to this many rows read the cache as it is stored, each tile once or twice; more share tiles that are widened.
const DIRECT_ROWS: usize = 2 * ROWS;

/// One call's input.
#[derive(Copy, Clone)]
struct Call<'a> {
    shape: &'a AttentionShape<'a>,
    queries: &'a [f32],
    sequences: &'a [SequenceSpan<'a>],
    cache: &'a KeyValueStore,
    layer: usize,
}

/// One piece: some queries of one span, for one KV head.
struct Piece {
    span: usize,
    kv_head: usize,
    /// First query of the piece inside its span, and its row in the batch.
    first_query: usize,
    first_row: usize,
    queries: usize,
}

/// What a thread works in, kept for its next piece.
#[derive(Default)]
struct Workspace {
    softmax: Vec<Softmax>,
    observers: Vec<ScoreSums>,
    sums: Vec<f32>,
    space: Buffer,
}

/// The state of a piece's rows.
struct Rows<'a, O> {
    softmax: &'a mut [Softmax],
    observers: &'a mut [O],
    /// `head_dim` by row.
    sums: &'a mut [f32],
    /// Where a step's keys and values are converted.
    space: &'a mut [f32],
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// Everything that one piece reads.
struct Task<'a> {
    call: Call<'a>,
    span: &'a SequenceSpan<'a>,
    piece: &'a Piece,
    windowed: bool,
    set: InstructionSet,
}

versions! {
    fn attend_plain(task: &Task, rows: &mut Rows<()>) = attend::<Plain, (), 1, 1>, attend::<Plain, (), 4, 4>;
}
versions! {
    fn attend_halves(task: &Task, rows: &mut Rows<()>)
        = attend::<PortableHalves, (), 1, 1>, attend::<Avx2Halves, (), 1, 1>, attend::<Avx512Halves, (), 4, 4>;
}
versions! {
    fn attend_codes(task: &Task, rows: &mut Rows<()>) = attend::<Codes, (), 1, 1>, attend::<Codes, (), 4, 4>;
}
versions! {
    fn attend_observed(task: &Task, rows: &mut Rows<ScoreSums>)
        = attend::<Plain, ScoreSums, 1, 1>, attend::<Plain, ScoreSums, 4, 4>;
}

impl Cpu {
    /// Softmax attention of `queries` (`n × heads × head_dim`, the spans back to back) over the cached keys and values
    /// of `layer`, whose entries up to each query's position have been written. `output` has the shape of `queries`.
    ///
    /// What is stored at places that a query does not see has no influence on its result, be it not even a number.
    ///
    /// # Errors
    /// When the shapes, the layer or a span's blocks do not fit the store; nothing is written then.
    pub fn attention(
        &self,
        shape: &AttentionShape,
        queries: &[f32],
        sequences: &[SequenceSpan],
        cache: &KeyValueStore,
        layer: usize,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        self.attend(Call { shape, queries, sequences, cache, layer }, output, None)
    }

    /// As [`Cpu::attention`], with the same output, and for each query and head (`n × heads`) what its scores were like.
    ///
    /// # Errors
    /// As [`Cpu::attention`], and when there is not a place in `statistics` for each query and head.
    #[expect(clippy::too_many_arguments, reason = "the arguments of `attention` and one more")]
    pub fn attention_with_statistics(
        &self,
        shape: &AttentionShape,
        queries: &[f32],
        sequences: &[SequenceSpan],
        cache: &KeyValueStore,
        layer: usize,
        output: &mut [f32],
        statistics: &mut [RowStatistics],
    ) -> Result<(), KernelError> {
        self.attend(Call { shape, queries, sequences, cache, layer }, output, Some(statistics))
    }

    fn attend(
        &self,
        call: Call,
        output: &mut [f32],
        statistics: Option<&mut [RowStatistics]>,
    ) -> Result<(), KernelError> {
        let windowed = call.check(output, statistics.as_deref())?;
        let Call { shape, sequences, cache, .. } = call;
        let group = shape.heads / shape.kv_heads;
        let pieces = call.pieces(self.threads());
        let set = self.instruction_set();
        let (output, statistics) = (Scatter::new(output), statistics.map(Scatter::new));
        self.parallel(pieces.len(), &|index| {
            let Some(piece) = pieces.get(index) else { return };
            let Some(span) = sequences.get(piece.span) else { return };
            let task = Task { call, span, piece, windowed, set };
            WORKSPACE.with_borrow_mut(|Workspace { softmax, observers, sums, space }| {
                let count = piece.queries * group;
                restart(softmax, count, Softmax::EMPTY);
                restart(sums, count * shape.head_dim, 0.0);
                let space = space.take(2 * STEP * shape.head_dim);
                let place = |row: usize| {
                    (piece.first_row + row / group) * shape.heads + piece.kv_head * group + row % group
                };
                if let Some(statistics) = &statistics {
                    restart(observers, count, ScoreSums::EMPTY);
                    attend_observed(set, &task, &mut Rows { softmax, observers, sums, space });
                    for (row, (observer, softmax)) in observers.iter().zip(&*softmax).enumerate() {
                        let found = observer.finish(softmax.maximum, task.sink(row));
                        // SAFETY: a (query, head) pair belongs to exactly one piece.
                        unsafe { statistics.part(place(row), 1) }.fill(found);
                    }
                } else {
                    let rows = &mut Rows { softmax, observers: &mut vec![(); count], sums, space };
                    match cache.size().format {
                        CacheFormat::F16 if count <= DIRECT_ROWS => attend_halves(set, &task, rows),
                        CacheFormat::Q8_0 if count <= DIRECT_ROWS => attend_codes(set, &task, rows),
                        _ => attend_plain(set, &task, rows),
                    }
                }
                for (row, sums) in sums.chunks_exact(shape.head_dim).enumerate() {
                    // SAFETY: as above.
                    unsafe { output.part(place(row) * shape.head_dim, shape.head_dim) }.copy_from_slice(sums);
                }
            });
        });
        Ok(())
    }
}

/// `count` times `value`, in the memory of `values`.
fn restart<T: Copy>(values: &mut Vec<T>, count: usize, value: T) {
    values.clear();
    values.resize(count, value);
}

impl Call<'_> {
    /// Whether the layer is a windowed one, if the call makes sense.
    fn check(&self, output: &[f32], statistics: Option<&[RowStatistics]>) -> Result<bool, KernelError> {
        let Self { shape, queries, sequences, cache, layer } = *self;
        let bad = |reason: String| KernelError::Shape { what: "attention", reason };
        if shape.kv_heads == 0 || shape.heads == 0 || !shape.heads.is_multiple_of(shape.kv_heads) {
            return Err(bad(format!("{} query heads over {} KV heads", shape.heads, shape.kv_heads)));
        }
        let stored = cache.layer(layer)?;
        if (stored.kv_heads, stored.head_dim) != (shape.kv_heads, shape.head_dim) {
            return Err(bad(format!(
                "the layer stores {} KV heads of {} components, not {} of {}",
                stored.kv_heads, stored.head_dim, shape.kv_heads, shape.head_dim
            )));
        }
        if shape.sliding_window == Some(0) {
            return Err(bad("a sliding window of 0 keys".into()));
        }
        if let Some(sinks) = shape.sinks {
            check_length("the attention sinks", sinks.len(), shape.heads)?;
        }
        let rows = sequences.iter().map(|span| span.queries).sum::<usize>() * shape.heads;
        check_length("the queries", queries.len(), rows * shape.head_dim)?;
        check_length("the output of attention", output.len(), queries.len())?;
        if let Some(statistics) = statistics {
            check_length("the statistics of attention", statistics.len(), rows)?;
        }
        for span in sequences {
            let found = span.first_position.saturating_add(span.queries);
            let table = span.table(stored.windowed);
            let limit = table.len() * cache.block_tokens();
            if found > limit {
                return Err(KernelError::OutOfRange { what: "a sequence", found, limit });
            }
            table.iter().try_for_each(|block| cache.check_block(layer, *block).map(drop))?;
        }
        Ok(stored.windowed)
    }

    /// Cuts the work by span, query tile and KV head; late query tiles, which see the most keys, come first.
    fn pieces(&self, threads: usize) -> Vec<Piece> {
        let Self { shape, sequences, .. } = self;
        let total: usize = sequences.iter().map(|span| span.queries).sum();
        // Smaller tiles when there would otherwise be too few pieces to share.
        let share = (total * shape.kv_heads).div_ceil(threads * 2).max(1);
        let tile = (PIECE_ROWS * shape.kv_heads / shape.heads).clamp(1, share);
        // Full groups of rows, where there are enough.
        let tile = if tile > ROWS { tile / ROWS * ROWS } else { tile };
        let mut pieces = Vec::new();
        let mut first_row = 0;
        for (span, sequence) in sequences.iter().enumerate() {
            for first_query in (0..sequence.queries).step_by(tile).rev() {
                let queries = tile.min(sequence.queries - first_query);
                pieces.extend((0..shape.kv_heads).map(|kv_head| Piece {
                    span,
                    kv_head,
                    first_query,
                    first_row: first_row + first_query,
                    queries,
                }));
            }
            first_row += sequence.queries;
        }
        pieces
    }
}

impl<'a> Task<'a> {
    /// Query heads of a KV head. Row r of the piece is query r / group, head r % group.
    #[inline(always)]
    fn group(&self) -> usize {
        self.call.shape.heads / self.call.shape.kv_heads
    }

    /// The query head of a row.
    #[inline(always)]
    fn head(&self, row: usize) -> usize {
        self.piece.kv_head * self.group() + row % self.group()
    }

    /// The query vector of a row.
    #[inline(always)]
    fn query(&self, row: usize) -> &'a [f32] {
        let Call { shape, queries, .. } = self.call;
        let start =
            ((self.piece.first_row + row / self.group()) * shape.heads + self.head(row)) * shape.head_dim;
        &queries[start..start + shape.head_dim]
    }

    /// The score of a row's sink.
    #[inline(always)]
    fn sink(&self, row: usize) -> Option<f32> {
        self.call.shape.sinks.and_then(|sinks| sinks.get(self.head(row))).copied()
    }

    /// Position of the first query.
    #[inline(always)]
    fn first(&self) -> usize {
        self.span.first_position + self.piece.first_query
    }

    /// Position of the last query.
    #[inline(always)]
    fn last(&self) -> usize {
        self.first() + self.piece.queries - 1
    }

    /// The positions that the query at `position` sees.
    #[inline(always)]
    fn visible(&self, position: usize) -> Range<usize> {
        let window = self.call.shape.sliding_window;
        window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1
    }

    /// Number of the tile of a position. Tiles are numbered through the sequence; a step is four of them.
    #[inline(always)]
    fn tile_of(&self, position: usize) -> usize {
        let block_tokens = self.call.cache.block_tokens();
        position / block_tokens * block_tokens.div_ceil(KEY_TILE) + position % block_tokens / KEY_TILE
    }

    /// The tiles of a step up to the last query, and how many; `space` takes what must be converted.
    #[inline(always)]
    fn tiles<'s, R: Reader>(
        &'s self,
        step: usize,
        space: &'s mut [f32],
    ) -> ([Tile<'s, R::Stored>; STEP_TILES], usize) {
        let Call { shape, cache, layer, .. } = self.call;
        let (d, block_tokens) = (shape.head_dim, cache.block_tokens());
        let block_tiles = block_tokens.div_ceil(KEY_TILE);
        let blocks = self.span.table(self.windowed);
        let mut tiles = [Tile::default(); STEP_TILES];
        let mut count = 0;
        let numbers = step * STEP_TILES..(step + 1) * STEP_TILES;
        for (number, space) in numbers.zip(space.chunks_exact_mut(2 * KEY_TILE * d)) {
            let (index, place) = (number / block_tiles, number % block_tiles * KEY_TILE);
            let start = index * block_tokens + place;
            if start > self.last() {
                break;
            }
            let Some(block) = blocks.get(index) else { break };
            let tokens = KEY_TILE.min(block_tokens - place).min(self.last() + 1 - start);
            let (key_space, value_space) = space.split_at_mut(KEY_TILE * d);
            let keys = cache.key_tile(layer, *block, self.piece.kv_head, place / KEY_TILE);
            let values = cache.value_rows(layer, *block, self.piece.kv_head, place, tokens);
            let (keys, values) =
                (R::keys(self.set, keys, key_space), R::values(self.set, values, value_space));
            tiles[count] = Tile { start, tokens, keys, values };
            count += 1;
        }
        (tiles, count)
    }
}

/// Attention of one piece. Leaves the finished rows in `rows.sums`.
///
/// `TILES` and `CHUNKS` are how many key tiles and value chunks are worked on at once; they don't change the result.
#[inline(always)]
fn attend<R: Reader, O: Observer, const TILES: usize, const CHUNKS: usize>(task: &Task, rows: &mut Rows<O>) {
    let (group, count) = (task.group(), rows.softmax.len());
    let earliest = task.visible(task.first()).start;
    for step in task.tile_of(earliest) / STEP_TILES..task.tile_of(task.last()) / STEP_TILES + 1 {
        let Rows { softmax, observers, sums, space } = &mut *rows;
        let (tiles, tile_count) = task.tiles::<R>(step, space);
        let tiles = &tiles[..tile_count];
        let Some(end) = tiles.last().map(|tile| tile.start + tile.tokens) else { continue };
        for row in (0..count).step_by(ROWS) {
            let last_row = (row + ROWS).min(count) - 1;
            let earliest = task.visible(task.first() + row / group).start;
            let latest = task.first() + last_row / group;
            if tiles.first().is_none_or(|tile| tile.start > latest) || end <= earliest {
                continue;
            }
            let (softmax, observers) = (&mut softmax[row..=last_row], &mut observers[row..=last_row]);
            let sums = &mut sums[row * task.call.shape.head_dim..(last_row + 1) * task.call.shape.head_dim];
            fold::<R, O, TILES, CHUNKS>(task, tiles, row, softmax, observers, sums);
        }
    }
    let states = rows.softmax.iter().zip(rows.sums.chunks_exact_mut(task.call.shape.head_dim));
    for (row, (softmax, sums)) in states.enumerate() {
        softmax.finish(task.sink(row), sums);
    }
}

/// Folds a step into the rows from `first` on, as many as there are states.
#[inline(always)]
fn fold<R: Reader, O: Observer, const TILES: usize, const CHUNKS: usize>(
    task: &Task,
    tiles: &[Tile<R::Stored>],
    first: usize,
    softmax: &mut [Softmax],
    observers: &mut [O],
    sums: &mut [f32],
) {
    let shape = task.call.shape;
    // The last row stands in for those that are missing.
    let row = |index: usize| first + index.min(softmax.len() - 1);
    let queries: [&[f32]; ROWS] = std::array::from_fn(|index| task.query(row(index)));
    let visible: [Range<usize>; ROWS] =
        std::array::from_fn(|index| task.visible(task.first() + row(index) / task.group()));
    let mut weights = [[0.0; STEP]; ROWS];
    scores::<R, TILES>(&queries, tiles, &mut weights);
    let corrections = weigh(&mut weights, shape.scale, tiles, &visible, softmax, observers);
    add_values::<R, CHUNKS>(&weights, &corrections, tiles, &visible, shape.head_dim, sums);
}
