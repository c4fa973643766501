//! Where the tokens of a step stand: their numbers, positions and cache blocks, as the kernels read them.

use super::Cuda;
use super::buffer::CudaBuffer;
use super::launch::Argument;
use crate::{KernelError, SequenceSpan};

/// The tokens of a step and their places, in one array on the device: tokens, positions, the beginning of each token's
/// block table of both kinds, and the tables.
pub struct CudaPlacement {
    numbers: CudaBuffer<i32>,
    /// Cosines, then sines, `[tokens, head_dim / 2]` each.
    angles: CudaBuffer<f32>,
    rows: usize,
    angle_values: usize,
    /// The largest position, and one.
    length: usize,
}

impl CudaPlacement {
    /// Tokens of the step.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Parts that attention cuts the keys of the longest row into.
    pub fn splits(&self) -> usize {
        self.length.div_ceil(super::attention::SPLIT).max(1)
    }

    pub(super) fn tokens(&self) -> Argument {
        self.numbers.argument()
    }

    pub(super) fn positions(&self) -> Argument {
        self.numbers.argument_at(self.rows)
    }

    /// Where the block table of each token begins in [`Self::tables`].
    pub(super) fn table_starts(&self, windowed: bool) -> Argument {
        self.numbers.argument_at(self.rows * if windowed { 3 } else { 2 })
    }

    pub(super) fn tables(&self) -> Argument {
        self.numbers.argument_at(self.rows * 4)
    }

    pub(super) fn cosines(&self) -> Argument {
        self.angles.argument()
    }

    pub(super) fn sines(&self) -> Argument {
        self.angles.argument_at(self.angle_values)
    }

    /// Values of an angle for each token.
    pub(super) fn angle_values(&self) -> usize {
        self.angle_values
    }
}

/// A step as the host knows it.
#[derive(Copy, Clone)]
pub struct Step<'a> {
    /// Token numbers, back to back.
    pub tokens: &'a [u32],
    /// What they belong to.
    pub spans: &'a [SequenceSpan<'a>],
    /// Tokens of a cache block.
    pub block_tokens: usize,
    /// Blocks of the layers that see every token, and of the windowed ones.
    pub blocks: (usize, usize),
    /// `[tokens, head_dim / 2]`.
    pub cosines: &'a [f32],
    /// The same.
    pub sines: &'a [f32],
    /// Tokens that exist.
    pub vocabulary: usize,
}

impl Cuda {
    /// A placement of nothing yet.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn placement(&self) -> Result<CudaPlacement, KernelError> {
        Ok(CudaPlacement {
            numbers: self.zeros(0)?,
            angles: self.zeros(0)?,
            rows: 0,
            angle_values: 0,
            length: 0,
        })
    }

    /// Places the tokens of a step.
    ///
    /// # Errors
    /// Tokens outside the vocabulary, spans that do not add up to the tokens, tables that are too short or name blocks
    /// that are not there.
    pub fn place(&self, placement: &mut CudaPlacement, step: &Step<'_>) -> Result<(), KernelError> {
        let rows = step.tokens.len();
        let number = |what, value: usize, limit: usize| match i32::try_from(value) {
            Ok(narrow) if value < limit => Ok(narrow),
            _ => Err(KernelError::OutOfRange { what, found: value, limit }),
        };
        let mut numbers = Vec::with_capacity(rows * 4);
        for token in step.tokens {
            numbers.push(number("a token", *token as usize, step.vocabulary)?);
        }
        let (mut positions, mut starts, mut tables) =
            (Vec::with_capacity(rows), [Vec::new(), Vec::new()], Vec::new());
        let mut length = 0;
        for span in step.spans {
            let end = span.first_position.saturating_add(span.queries);
            length = length.max(end);
            for (windowed, starts) in [false, true].into_iter().zip(&mut starts) {
                let start = number("block tables", tables.len(), i32::MAX as usize)?;
                starts.extend(std::iter::repeat_n(start, span.queries));
                tables.extend(table(span, windowed, end, step)?);
            }
            for position in span.first_position..end {
                positions.push(number("a position", position, i32::MAX as usize)?);
            }
        }
        crate::error::check_length("the tokens in spans", positions.len(), rows)?;
        crate::error::check_length("the sines of a step", step.sines.len(), step.cosines.len())?;
        numbers.extend(positions);
        starts.into_iter().for_each(|starts| numbers.extend(starts));
        numbers.extend(tables);
        self.grow(&mut placement.numbers, numbers.len().next_power_of_two())?;
        self.write(&mut placement.numbers, 0, &numbers)?;
        let angles = [step.cosines, step.sines].concat();
        self.grow(&mut placement.angles, angles.len().next_power_of_two())?;
        self.write(&mut placement.angles, 0, &angles)?;
        (placement.rows, placement.length, placement.angle_values) = (rows, length, step.cosines.len());
        Ok(())
    }
}

/// The blocks of a span up to position `end`, each checked to be there. Windowed tables are empty where no layer has a
/// window, and their blocks before the window may be anything that is there.
fn table(
    span: &SequenceSpan<'_>,
    windowed: bool,
    end: usize,
    step: &Step<'_>,
) -> Result<Vec<i32>, KernelError> {
    let limit = if windowed { step.blocks.1 } else { step.blocks.0 };
    let needed = end.div_ceil(step.block_tokens.max(1));
    let table = span.table(windowed);
    if limit == 0 {
        return Ok(Vec::new());
    }
    let Some(table) = table.get(..needed) else {
        let (found, expected) = (table.len(), needed);
        return Err(KernelError::Length { what: "the block table of a span", found, expected });
    };
    table
        .iter()
        .map(|block| match i32::try_from(*block) {
            Ok(narrow) if (*block as usize) < limit => Ok(narrow),
            _ => Err(KernelError::OutOfRange { what: "a cache block", found: *block as usize, limit }),
        })
        .collect()
}
