//! The arithmetic of attention: scores of a few rows against a step of keys, a running softmax, weighted values.
//!
//! Each score is one chain of fused multiply-adds over the components in order, each component of a sum one chain over
//! the keys in order. How many of these chains run side by side is a matter of registers only. A key that a row does not
//! see, its value included, takes no part in the row's result, whatever is stored there.

use std::ops::Range;

use super::lanes::{self, LANES, Lanes};
use super::reader::{Reader, Run};
use super::statistics::Observer;
use crate::cache_format::SCALED;
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
    pub(super) keys: Run<'a, S>,
    /// `tokens × head_dim`.
    pub(super) values: Run<'a, S>,
}

impl<S> Tile<'_, S> {
    /// The keys of the tile that lie at `positions`.
    #[inline(always)]
    fn tokens_at(&self, positions: &Range<usize>) -> Range<usize> {
        let to = positions.end.saturating_sub(self.start).min(self.tokens);
        positions.start.saturating_sub(self.start).min(to)..to
    }
}

/// The running softmax of one row.
#[derive(Copy, Clone)]
pub(super) struct Softmax {
    /// Largest score so far.
    pub(super) maximum: f32,
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
        let keys: [Run<R::Stored>; TILES] = std::array::from_fn(|tile| tiles[first + tile].keys);
        store_scores::<R, TILES>(queries, &keys, first, out);
        first += TILES;
    }
    for (index, tile) in tiles.iter().enumerate().skip(first) {
        store_scores::<R, 1>(queries, &[tile.keys], index, out);
    }
}

/// Sixteen stored numbers times their scales, if they have any.
#[inline(always)]
fn scaled<R: Reader>(stored: &[R::Stored; LANES], scales: &Lanes) -> Lanes {
    let numbers = R::lanes(stored);
    if R::HAS_SCALES { lanes::multiply(&numbers, scales) } else { numbers }
}

#[inline(always)]
fn store_scores<R: Reader, const TILES: usize>(
    queries: &[&[f32]; ROWS],
    keys: &[Run<R::Stored>; TILES],
    first: usize,
    out: &mut [[f32; STEP]; ROWS],
) {
    let mut scores = [[[0.0; LANES]; TILES]; ROWS];
    let d = queries[0].len();
    // Equal lengths that the compiler can see spare it the bounds checks inside.
    let queries = queries.map(|query| &query[..d]);
    let stored = keys.map(|keys| &keys.stored.as_chunks::<LANES>().0[..d]);
    let scales = keys.map(|keys| keys.scales.as_chunks::<LANES>().0);
    let group = if R::HAS_SCALES { SCALED } else { d };
    for start in (0..d).step_by(group) {
        let scales: [Lanes; TILES] =
            if R::HAS_SCALES { scales.map(|scales| scales[start / SCALED]) } else { [[1.0; LANES]; TILES] };
        for component in start..d.min(start + group) {
            for (scores, query) in scores.iter_mut().zip(&queries) {
                for ((scores, stored), scale) in scores.iter_mut().zip(&stored).zip(&scales) {
                    let keys = scaled::<R>(&stored[component], scale);
                    *scores = lanes::scale_add(query[component], &keys, scores);
                }
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

/// Turns the scores of as many rows as there are states into softmax weights against the new maxima, zero for keys
/// outside a row's `visible`. Returns the factors that what was summed before must be multiplied by.
#[inline(always)]
pub(super) fn weigh<S, O: Observer>(
    scores: &mut [[f32; STEP]; ROWS],
    scale: f32,
    tiles: &[Tile<S>],
    visible: &[Range<usize>; ROWS],
    softmax: &mut [Softmax],
    observers: &mut [O],
) -> Lanes {
    let mut before = [f32::NEG_INFINITY; LANES];
    // What is subtracted from the scores: the maxima, or anything finite where a row has not seen a key yet.
    let mut now = [0.0; LANES];
    for (row, (softmax, scores)) in softmax.iter_mut().zip(&mut *scores).enumerate() {
        let largest = scale_and_mask(scores, scale, tiles, &visible[row]);
        before[row] = softmax.maximum;
        softmax.maximum = lanes::max(&largest).max(softmax.maximum);
        if softmax.maximum > f32::NEG_INFINITY {
            now[row] = softmax.maximum;
        }
    }
    // Sixteen exponentials take no longer than one.
    let mut factors = [0.0; LANES];
    for (factor, (before, now)) in factors.iter_mut().zip(before.iter().zip(&now)) {
        *factor = lanes::exp(before - now);
    }
    let keys = tiles.len() * LANES;
    for (row, (softmax, scores)) in softmax.iter_mut().zip(scores).enumerate() {
        let unweighed = if O::OBSERVES { *scores } else { [0.0; STEP] };
        softmax.total = softmax.total.map(|total| total * factors[row]);
        for weights in scores[..keys].as_chunks_mut::<LANES>().0 {
            *weights = weights.map(|score| lanes::exp(score - now[row]));
            softmax.total = lanes::add(&softmax.total, weights);
        }
        observers[row].observe(&unweighed[..keys], &scores[..keys], before[row], now[row]);
    }
    factors
}

/// Multiplies a row's scores by `scale`, makes those of keys that it does not see `-∞`, and returns the largest by lane.
#[inline(always)]
fn scale_and_mask<S>(
    scores: &mut [f32; STEP],
    scale: f32,
    tiles: &[Tile<S>],
    visible: &Range<usize>,
) -> Lanes {
    let mut largest = [f32::NEG_INFINITY; LANES];
    for (tile, scores) in tiles.iter().zip(scores.as_chunks_mut::<LANES>().0) {
        let seen = tile.tokens_at(visible);
        let mut scaled = scores.map(|score| score * scale);
        if seen != (0..LANES) {
            for (lane, score) in scaled.iter_mut().enumerate() {
                *score = if lane >= seen.start && lane < seen.end { *score } else { f32::NEG_INFINITY };
            }
        }
        for (largest, score) in largest.iter_mut().zip(&scaled) {
            *largest = if *score > *largest { *score } else { *largest };
        }
        *scores = scaled;
    }
    largest
}

/// `sums = sums · correction + Σ weight · value` for rows of `d` components, over the keys that each row sees.
#[inline(always)]
pub(super) fn add_values<R: Reader, const CHUNKS: usize>(
    weights: &[[f32; STEP]; ROWS],
    corrections: &Lanes,
    tiles: &[Tile<R::Stored>],
    visible: &[Range<usize>; ROWS],
    d: usize,
    sums: &mut [f32],
) {
    // Rows are in order of their positions: the first sees the earliest keys, the last the latest.
    let any = visible[0].start..visible[ROWS - 1].end;
    let all = visible[ROWS - 1].start..visible[0].end;
    let mut start = 0;
    // The weight of a key that a row does not see is zero, which keeps out every value but infinities and NaNs.
    if is_finite_outside::<R>(tiles, &any, &all, d) {
        while start + CHUNKS * LANES <= d {
            add_chunks::<R, CHUNKS>(weights, corrections, tiles, &any, d, start, sums);
            start += CHUNKS * LANES;
        }
        while start + LANES <= d {
            add_chunks::<R, 1>(weights, corrections, tiles, &any, d, start, sums);
            start += LANES;
        }
    }
    for (row, sums) in sums.chunks_exact_mut(d).enumerate() {
        for (component, sum) in sums.iter_mut().enumerate().skip(start) {
            *sum *= corrections[row];
            for (tile, weights) in tiles.iter().zip(weights[row].as_chunks::<LANES>().0) {
                for token in tile.tokens_at(&visible[row]) {
                    *sum = weights[token].mul_add(value::<R>(tile, token * d + component), *sum);
                }
            }
        }
    }
}

/// One component of a tile's values.
#[inline(always)]
fn value<R: Reader>(tile: &Tile<R::Stored>, place: usize) -> f32 {
    let value = R::one(tile.values.stored[place]);
    if R::HAS_SCALES { value * tile.values.scales[place / SCALED] } else { value }
}

/// Whether the values of the keys that some rows see but not all are finite.
#[inline(always)]
fn is_finite_outside<R: Reader>(
    tiles: &[Tile<R::Stored>],
    any: &Range<usize>,
    all: &Range<usize>,
    d: usize,
) -> bool {
    let mut is_finite = true;
    for tile in tiles {
        let (any, all) = (tile.tokens_at(any), tile.tokens_at(all));
        for token in any {
            if !all.contains(&token) {
                for place in token * d..(token + 1) * d {
                    is_finite &= value::<R>(tile, place).is_finite();
                }
            }
        }
    }
    is_finite
}

/// [`add_values`] for the components `start..start + 16 · CHUNKS`, of the keys at `positions`.
#[inline(always)]
fn add_chunks<R: Reader, const CHUNKS: usize>(
    weights: &[[f32; STEP]; ROWS],
    corrections: &Lanes,
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
        for token in tile.tokens_at(positions) {
            let first = token * d + start;
            let stored = tile.values.stored[first..first + CHUNKS * LANES].as_chunks::<LANES>().0;
            for (totals, weights) in totals.iter_mut().zip(weights) {
                let weight = weights[index * KEY_TILE + token];
                for (chunk, (total, stored)) in totals.iter_mut().zip(stored).enumerate() {
                    let scale = if R::HAS_SCALES {
                        tile.values.scales[(first + chunk * LANES) / SCALED]
                    } else {
                        1.0
                    };
                    let values = scaled::<R>(stored, &[scale; LANES]);
                    *total = lanes::scale_add(weight, &values, total);
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
