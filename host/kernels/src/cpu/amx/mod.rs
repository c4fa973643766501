//! Products of many activation rows with AMX: tiles of 16 × 32 bf16 values, multiplied and summed in f32.
//!
//! Activations are rounded to bf16 once for all products. A panel of weight rows is expanded to bf16 a stretch of columns at
//! a time, in the order that the right operand of a tile product has, and multiplied with all activation rows while
//! it lies in the second-level cache, so its expansion costs little beside many rows. A number that must not be
//! rounded so much is the sum of two of bf16, and a product that of three (`high·high + low·high + high·low`), as good
//! as one of 16 bits.
//!
//! A result depends on neither the other rows nor the threads. It is not that of the paths for few rows, which is why the
//! caller says which rows belong to long texts. Fewer than 16 of them cost as much as 16.

mod panel;
mod rows;
mod support;
mod tile;

pub(super) use panel::{Panel, transpose};
pub(super) use rows::TileRows;
pub(super) use support::supported;
pub(super) use tile::{PEAK_OPERATIONS, Tiles, peak_rounds};

/// Values in a row of a tile: columns of activations and weights that one instruction takes.
pub(super) const STEP: usize = 32;
/// Rows of a tile.
pub(super) const ROWS: usize = 16;
/// Rows of either side that are multiplied together: two tiles by two.
pub(super) const PAIR: usize = 2 * ROWS;
/// bf16 values of a tile.
pub(super) const TILE: usize = ROWS * STEP;
/// Activation rows whose sums are kept at a time.
pub(super) const MOST_ROWS: usize = 512;
/// Weight rows of a panel at most.
pub(super) const PANEL_ROWS: usize = 128;
/// Steps of columns of a panel: a pair of groups of them takes 16 KiB, a third of a first-level cache.
pub(super) const PANEL_STEPS: usize = 8;
