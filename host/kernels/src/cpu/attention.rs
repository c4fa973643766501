//! Causal attention over the paged key-value store, by blocks of keys with a running softmax.
//!
//! Keys are taken in steps of four tiles of 16 that lie at fixed positions of the sequence, and every query folds its
//! steps in order, so a query's result depends on its keys alone. No matrix of scores is kept. All query heads of a KV
//! group, for a tile of queries, share each loaded key and value. The arithmetic is in [`super::softmax`].

use std::cell::RefCell;

use super::instruction_set::versions;
#[cfg(target_arch = "x86_64")]
use super::reader::{Avx2Halves, Avx512Halves};
use super::reader::{Plain, PortableHalves, Reader, widen};
use super::scatter::Scatter;
use super::softmax::{ROWS, STEP, STEP_TILES, Softmax, Tile, add_values, scores, weigh};
use super::{Cpu, InstructionSet};
use crate::cache_format::{CacheRun, Half};
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
const PIECE_ROWS: usize = 32;

/// Up to this many rows read halves in registers, each tile once or twice; more share tiles that are widened in memory.
const WIDEN_ROWS: usize = 2 * ROWS;

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
struct Workspace {
    /// By row.
    softmax: Vec<Softmax>,
    /// By row, `head_dim` each.
    sums: Vec<f32>,
    /// The step's keys and values as f32, where they are stored otherwise and many rows share them.
    widened: Vec<f32>,
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> =
        const { RefCell::new(Workspace { softmax: Vec::new(), sums: Vec::new(), widened: Vec::new() }) };
}

/// Everything that one piece reads.
struct Task<'a> {
    shape: &'a AttentionShape<'a>,
    span: &'a SequenceSpan<'a>,
    piece: &'a Piece,
    queries: &'a [f32],
    cache: &'a KeyValueStore,
    layer: usize,
    windowed: bool,
    set: InstructionSet,
}

versions! {
    fn attend_plain(task: &Task, softmax: &mut [Softmax], sums: &mut [f32])
        = plain_piece::<1, 1>, plain_piece::<4, 4>;
}

versions! {
    fn attend_halves(task: &Task, softmax: &mut [Softmax], sums: &mut [f32])
        = halves_piece::<PortableHalves, 1, 1>, halves_piece::<Avx2Halves, 1, 1>, halves_piece::<Avx512Halves, 4, 4>;
}

versions! {
    fn attend_widened(task: &Task, softmax: &mut [Softmax], sums: &mut [f32], widened: &mut [f32])
        = widened_piece::<1, 1>, widened_piece::<4, 4>;
}

impl Cpu {
    /// Softmax attention of `queries` (`n × heads × head_dim`, the spans back to back) over the cached keys and values
    /// of `layer`, whose entries up to each query's position have been written. `output` has the shape of `queries`.
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
        check(shape, queries, sequences, cache, layer, output)?;
        let group = shape.heads / shape.kv_heads;
        let pieces = pieces(shape, sequences, group, self.threads());
        let (set, row) = (self.instruction_set(), shape.heads * shape.head_dim);
        let windowed = cache.layer(layer)?.windowed;
        let output = Scatter::new(output);
        self.parallel(pieces.len(), &|index| {
            let Some(piece) = pieces.get(index) else { return };
            let Some(span) = sequences.get(piece.span) else { return };
            WORKSPACE.with_borrow_mut(|Workspace { softmax, sums, widened }| {
                let rows = piece.queries * group;
                softmax.clear();
                softmax.resize(rows, Softmax::EMPTY);
                sums.clear();
                sums.resize(rows * shape.head_dim, 0.0);
                let task = Task { shape, span, piece, queries, cache, layer, windowed, set };
                match cache.size().format {
                    CacheFormat::F32 => attend_plain(set, &task, softmax, sums),
                    CacheFormat::F16 if rows <= WIDEN_ROWS => attend_halves(set, &task, softmax, sums),
                    CacheFormat::F16 => {
                        widened.resize(2 * STEP * shape.head_dim, 0.0);
                        attend_widened(set, &task, softmax, sums, widened);
                    }
                }
                for (index, sums) in sums.chunks_exact(shape.head_dim).enumerate() {
                    let head = piece.kv_head * group + index % group;
                    let start = (piece.first_row + index / group) * row + head * shape.head_dim;
                    // SAFETY: a (row, head) pair belongs to exactly one piece.
                    unsafe { output.part(start, shape.head_dim) }.copy_from_slice(sums);
                }
            });
        });
        Ok(())
    }
}

fn check(
    shape: &AttentionShape,
    queries: &[f32],
    sequences: &[SequenceSpan],
    cache: &KeyValueStore,
    layer: usize,
    output: &[f32],
) -> Result<(), KernelError> {
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
    let rows: usize = sequences.iter().map(|span| span.queries).sum();
    check_length("the queries", queries.len(), rows * shape.heads * shape.head_dim)?;
    check_length("the output of attention", output.len(), queries.len())?;
    for span in sequences {
        let found = span.first_position.saturating_add(span.queries);
        let table = span.table(stored.windowed);
        let limit = table.len() * cache.block_tokens();
        if found > limit {
            return Err(KernelError::OutOfRange { what: "a sequence", found, limit });
        }
        table.iter().try_for_each(|block| cache.check_block(layer, *block).map(drop))?;
    }
    Ok(())
}

/// Cuts the work by span, query tile and KV head; late query tiles, which see the most keys, come first.
fn pieces(shape: &AttentionShape, sequences: &[SequenceSpan], group: usize, threads: usize) -> Vec<Piece> {
    let total: usize = sequences.iter().map(|span| span.queries).sum();
    // Smaller tiles when there would otherwise be too few pieces to share.
    let share = (total * shape.kv_heads).div_ceil(threads * 2).max(1);
    let tile = (PIECE_ROWS / group).clamp(1, share);
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

/// Attention of one piece: row r is query r / group, head r % group. Leaves the finished rows in `sums`.
///
/// `load` gives stored values as the reader takes them, with space of the same size to put them in, cut from `widened`;
/// `TILES` and `CHUNKS` are how many key tiles and value chunks are worked on at once; they don't change the result.
#[inline(always)]
fn attend_piece<R: Reader, const TILES: usize, const CHUNKS: usize>(
    task: &Task,
    softmax: &mut [Softmax],
    sums: &mut [f32],
    widened: &mut [f32],
    load: impl for<'a> Fn(CacheRun<'a>, &'a mut [f32]) -> &'a [R::Stored],
) {
    let Task { shape, span, piece, cache, layer, .. } = *task;
    let (group, d, block_tokens) = (shape.heads / shape.kv_heads, shape.head_dim, cache.block_tokens());
    let blocks = span.table(task.windowed);
    let first = span.first_position + piece.first_query;
    let last = first + piece.queries - 1;
    let lowest =
        |position: usize| shape.sliding_window.map_or(0, |window| (position + 1).saturating_sub(window));
    let block_tiles = block_tokens.div_ceil(KEY_TILE);
    // Tiles are numbered through the sequence; a step is four of them.
    let tile_of =
        |position: usize| position / block_tokens * block_tiles + position % block_tokens / KEY_TILE;
    let rows = softmax.len();
    let steps = tile_of(lowest(first)) / STEP_TILES..tile_of(last) / STEP_TILES + 1;
    for step in steps {
        let mut tiles = [Tile::default(); STEP_TILES];
        let mut count = 0;
        let mut widened = widened.chunks_exact_mut(2 * KEY_TILE * d);
        for number in step * STEP_TILES..(step + 1) * STEP_TILES {
            let (index, place) = (number / block_tiles, number % block_tiles * KEY_TILE);
            let start = index * block_tokens + place;
            if start > last {
                break;
            }
            let Some(block) = blocks.get(index) else { break };
            let tokens = KEY_TILE.min(block_tokens - place).min(last + 1 - start);
            let keys = cache.key_tile(layer, *block, piece.kv_head, place / KEY_TILE);
            let values = cache.value_rows(layer, *block, piece.kv_head, place, tokens);
            let (key_space, value_space) =
                widened.next().unwrap_or_default().split_at_mut_checked(KEY_TILE * d).unwrap_or_default();
            let (keys, values) = (load(keys, key_space), load(values, value_space));
            tiles[count] = Tile { start, tokens, keys, values };
            count += 1;
        }
        let tiles = &tiles[..count];
        for row in (0..rows).step_by(ROWS) {
            let count = ROWS.min(rows - row);
            let (low, high) = (lowest(first + row / group), first + (row + count - 1) / group);
            let Some(end) = tiles.last().map(|tile| tile.start + tile.tokens) else { continue };
            if tiles.first().is_none_or(|tile| tile.start > high) || end <= low {
                continue;
            }
            let mut weights = [[0.0; STEP]; ROWS];
            let queries: [&[f32]; ROWS] = std::array::from_fn(|r| query(task, group, row + r.min(count - 1)));
            scores::<R, TILES>(&queries, tiles, &mut weights);
            let mut corrections = [1.0; ROWS];
            for r in 0..count {
                let position = first + (row + r) / group;
                let visible = lowest(position)..position + 1;
                corrections[r] = weigh(&mut weights[r], shape.scale, tiles, visible, &mut softmax[row + r]);
            }
            let sums = &mut sums[row * d..(row + count) * d];
            add_values::<R, CHUNKS>(&weights, &corrections, tiles, low..high + 1, d, sums);
        }
    }
    for (row, (softmax, sums)) in softmax.iter().zip(sums.chunks_exact_mut(d)).enumerate() {
        let sink = shape.sinks.and_then(|sinks| sinks.get(piece.kv_head * group + row % group)).copied();
        softmax.finish(sink, sums);
    }
}

#[inline(always)]
fn plain_piece<const TILES: usize, const CHUNKS: usize>(
    task: &Task,
    softmax: &mut [Softmax],
    sums: &mut [f32],
) {
    attend_piece::<Plain, TILES, CHUNKS>(task, softmax, sums, &mut [], |run, _| run.singles());
}

#[inline(always)]
fn halves_piece<R: Reader<Stored = Half>, const TILES: usize, const CHUNKS: usize>(
    task: &Task,
    softmax: &mut [Softmax],
    sums: &mut [f32],
) {
    attend_piece::<R, TILES, CHUNKS>(task, softmax, sums, &mut [], |run, _| run.halves());
}

#[inline(always)]
fn widened_piece<const TILES: usize, const CHUNKS: usize>(
    task: &Task,
    softmax: &mut [Softmax],
    sums: &mut [f32],
    widened: &mut [f32],
) {
    attend_piece::<Plain, TILES, CHUNKS>(task, softmax, sums, widened, |run, space| {
        widen(task.set, run.halves(), space)
    });
}

/// The query vector of row `row` of the piece.
#[inline(always)]
fn query<'a>(task: &Task<'a>, group: usize, row: usize) -> &'a [f32] {
    let d = task.shape.head_dim;
    let head = task.piece.kv_head * group + row % group;
    let start = ((task.piece.first_row + row / group) * task.shape.heads + head) * d;
    &task.queries[start..start + d]
}
