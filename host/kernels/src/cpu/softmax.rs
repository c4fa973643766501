//! The arithmetic of attention: scores of a few rows against a step of keys, a running softmax, weighted values.
//!
//! Each score is one chain of fused multiply-adds over the components in order, each component of a sum one chain over
//! the keys in order. How many of these chains run side by side is a matter of registers only.

use std::ops::Range;

use super::lanes::{self, LANES, Lanes};
use super::reader::Reader;
use crate::kv::KEY_TILE;

/// Rows (queries × heads of a group) that are worked on together.
pub(super) const ROWS: usize = 4;

/// Key tiles that are folded into the softmax at once.
pub(super) const STEP_TILES: usize = 4;

/// Keys of a step.
pub(super) const STEP: usize = STEP_TILES * KEY_TILE;

/// Some keys of a sequence and their values.
#[derive(Copy, Clone, Default)]
pub(super) struct Tile<'a, S> {
    /// Position of the first key.
    pub(super) start: usize,
    /// Keys that exist, at most 16.
    pub(super) tokens: usize,
    /// `head_dim × 16`.
    pub(super) keys: &'a [S],
    /// `tokens × head_dim`.
    pub(super) values: &'a [S],
}

/// The running softmax of one row.
#[derive(Copy, Clone)]
pub(super) struct Softmax {
    /// Largest score so far.
    maximum: f32,
    /// Sum of `e^(score − maximum)`, by lane.
    total: Lanes,
}

impl Softmax {
    /// Before the first key.
    pub(super) const EMPTY: Self = Self { maximum: f32::NEG_INFINITY, total: [0.0; LANES] };

    /// Divides a row's sums by the denominator, to which a sink adds its own term.
    #[inline(always)]
    pub(super) fn finish(&self, sink: Option<f32>, sums: &mut [f32]) {
        let mut total = lanes::sum(&self.total);
        let mut factor = 1.0;
        if let Some(sink) = sink {
            let maximum = self.maximum.max(sink);
            factor = lanes::exp(self.maximum - maximum);
            total = total * factor + lanes::exp(sink - maximum);
        }
        sums.iter_mut().for_each(|sum| *sum = *sum * factor / total);
    }
}

/// The products of each query with each key of the tiles, `TILES` tiles at a time.
#[inline(always)]
pub(super) fn scores<R: Reader, const TILES: usize>(
    queries: &[&[f32]; ROWS],
    tiles: &[Tile<R::Stored>],
    out: &mut [[f32; STEP]; ROWS],
) {
    let mut first = 0;
    while first + TILES <= tiles.len() {
        let mut keys = [&[] as &[[R::Stored; LANES]]; TILES];
        for (keys, tile) in keys.iter_mut().zip(&tiles[first..]) {
            *keys = tile.keys.as_chunks::<LANES>().0;
        }
        store_scores::<R, TILES>(queries, &keys, first, out);
        first += TILES;
    }
    for (index, tile) in tiles.iter().enumerate().skip(first) {
        store_scores::<R, 1>(queries, &[tile.keys.as_chunks::<LANES>().0], index, out);
    }
}

#[inline(always)]
fn store_scores<R: Reader, const TILES: usize>(
    queries: &[&[f32]; ROWS],
    keys: &[&[[R::Stored; LANES]]; TILES],
    first: usize,
    out: &mut [[f32; STEP]; ROWS],
) {
    let mut scores = [[[0.0; LANES]; TILES]; ROWS];
    let d = queries[0].len();
    // Equal lengths that the compiler can see spare it the bounds checks inside.
    let queries = queries.map(|query| &query[..d]);
    let keys = keys.map(|keys| &keys[..d]);
    for component in 0..d {
        for (scores, query) in scores.iter_mut().zip(&queries) {
            for (scores, keys) in scores.iter_mut().zip(&keys) {
                *scores = lanes::scale_add(query[component], &R::lanes(&keys[component]), scores);
            }
        }
    }
    for (out, scores) in out.iter_mut().zip(&scores) {
        let out = &mut out[first * LANES..(first + TILES) * LANES];
        for (out, scores) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(scores) {
            *out = *scores;
        }
    }
}

/// Turns a row's scores into softmax weights against the new maximum, zero for keys outside `visible`. Returns the
/// factor that what was summed before must be multiplied by.
#[inline(always)]
pub(super) fn weigh<S>(
    scores: &mut [f32; STEP],
    scale: f32,
    tiles: &[Tile<S>],
    visible: Range<usize>,
    softmax: &mut Softmax,
) -> f32 {
    let mut largest = [f32::NEG_INFINITY; LANES];
    let lanes = scores.as_chunks_mut::<LANES>().0;
    for (tile, scores) in tiles.iter().zip(lanes.iter_mut()) {
        let from = visible.start.saturating_sub(tile.start);
        let to = visible.end.saturating_sub(tile.start).min(tile.tokens);
        for (lane, score) in scores.iter_mut().enumerate() {
            *score = if lane >= from && lane < to { *score * scale } else { f32::NEG_INFINITY };
        }
        for (largest, score) in largest.iter_mut().zip(scores) {
            *largest = if *score > *largest { *score } else { *largest };
        }
    }
    let maximum = lanes::max(&largest).max(softmax.maximum);
    if maximum == f32::NEG_INFINITY {
        *scores = [0.0; STEP];
        return 1.0;
    }
    let correction = lanes::exp(softmax.maximum - maximum);
    softmax.maximum = maximum;
    softmax.total = softmax.total.map(|total| total * correction);
    for weights in lanes.iter_mut().take(tiles.len()) {
        *weights = weights.map(|score| lanes::exp(score - maximum));
        for (total, weight) in softmax.total.iter_mut().zip(weights) {
            *total += *weight;
        }
    }
    correction
}

/// `sums = sums · correction + Σ weight · value` for rows of `d` components, over the keys at `positions`.
#[inline(always)]
pub(super) fn add_values<R: Reader, const CHUNKS: usize>(
    weights: &[[f32; STEP]; ROWS],
    corrections: &[f32; ROWS],
    tiles: &[Tile<R::Stored>],
    positions: Range<usize>,
    d: usize,
    sums: &mut [f32],
) {
    let mut start = 0;
    while start + CHUNKS * LANES <= d {
        add_chunks::<R, CHUNKS>(weights, corrections, tiles, &positions, d, start, sums);
        start += CHUNKS * LANES;
    }
    while start + LANES <= d {
        add_chunks::<R, 1>(weights, corrections, tiles, &positions, d, start, sums);
        start += LANES;
    }
    for (row, sums) in sums.chunks_exact_mut(d).enumerate() {
        for (component, sum) in sums.iter_mut().enumerate().skip(start) {
            *sum *= corrections[row];
            for (tile, weights) in tiles.iter().zip(weights[row].as_chunks::<LANES>().0) {
                for token in tokens(tile, &positions) {
                    *sum = weights[token].mul_add(R::one(tile.values[token * d + component]), *sum);
                }
            }
        }
    }
}

/// The keys of a tile that lie at `positions`.
#[inline(always)]
fn tokens<S>(tile: &Tile<S>, positions: &Range<usize>) -> Range<usize> {
    let to = positions.end.saturating_sub(tile.start).min(tile.tokens);
    positions.start.saturating_sub(tile.start).min(to)..to
}

/// [`add_values`] for the components `start..start + 16 · CHUNKS`.
#[inline(always)]
fn add_chunks<R: Reader, const CHUNKS: usize>(
    weights: &[[f32; STEP]; ROWS],
    corrections: &[f32; ROWS],
    tiles: &[Tile<R::Stored>],
    positions: &Range<usize>,
    d: usize,
    start: usize,
    sums: &mut [f32],
) {
    let rows = sums.len() / d;
    let mut totals = [[[0.0; LANES]; CHUNKS]; ROWS];
    for (row, totals) in totals.iter_mut().enumerate().take(rows) {
        let sums = sums[row * d + start..].as_chunks::<LANES>().0;
        for (total, sums) in totals.iter_mut().zip(sums) {
            *total = sums.map(|sum| sum * corrections[row]);
        }
    }
    for (index, tile) in tiles.iter().enumerate() {
        for token in tokens(tile, positions) {
            let value = &tile.values[token * d + start..token * d + start + CHUNKS * LANES];
            let value = value.as_chunks::<LANES>().0;
            for (totals, weights) in totals.iter_mut().zip(weights) {
                let weight = weights[index * KEY_TILE + token];
                for (total, value) in totals.iter_mut().zip(value) {
                    *total = lanes::scale_add(weight, &R::lanes(value), total);
                }
            }
        }
    }
    for (row, totals) in totals.iter().enumerate().take(rows) {
        let sums = sums[row * d + start..].as_chunks_mut::<LANES>().0;
        for (total, sums) in totals.iter().zip(sums) {
            *sums = *total;
        }
    }
}
