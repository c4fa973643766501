//! Instructions that lanes of a warp carry out together.

use super::fault::{Cause, Stop};
use super::warp::{Surroundings, Warp, lanes_of, word};
use crate::program::{Element, Lanes, Operation, Shape, Shuffle, Slot, Vote, WARP};
use half::f16;

impl Operation {
    pub(crate) fn needs_others(&self) -> bool {
        self.mask().is_some() || matches!(self, Self::ActiveMask { .. }) || self.is_whole_warp()
    }

    fn is_whole_warp(&self) -> bool {
        matches!(self, Self::Multiply { .. } | Self::LoadMatrix { .. } | Self::StoreMatrix { .. })
    }

    fn mask(&self) -> Option<Slot> {
        match self {
            Self::WarpBarrier { mask }
            | Self::Shuffle { mask, .. }
            | Self::Vote { mask, .. }
            | Self::MatchAny { mask, .. }
            | Self::MatchAll { mask, .. }
            | Self::ReduceWarp { mask, .. }
            | Self::ElectLane { mask, .. } => Some(*mask),
            _ => None,
        }
    }
}

impl Warp {
    /// Carries it out for all lanes of `active`; false if one of a mask isn't here yet, and then nothing was done.
    pub(crate) fn together(
        &mut self,
        around: &mut Surroundings<'_>,
        operation: &Operation,
        active: u32,
        at: usize,
    ) -> Result<bool, Stop> {
        let mut groups = Vec::new();
        let mut left = active;
        while left != 0 {
            let lane = left.trailing_zeros() as usize;
            let mask = match operation.mask() {
                Some(slot) => self.get(slot, lane) as u32,
                None if operation.is_whole_warp() => u32::MAX,
                None => active,
            };
            if mask >> lane & 1 == 0 {
                return Err(Stop { lane, step: at, cause: Cause::NotInMask { mask } });
            }
            let named = mask & self.present;
            // A full mask in a warp that isn't full is what every program says; other lanes that don't exist are not.
            if mask & !self.present != 0 && mask != u32::MAX || named & self.exited != 0 {
                return Err(Stop { lane, step: at, cause: self.missing(mask, around) });
            }
            if named & !active != 0 {
                return Ok(false);
            }
            groups.push(named);
            left &= !named;
        }
        for lanes in groups {
            self.carry_out(around, operation, lanes).map_err(|(lane, cause)| Stop {
                lane,
                step: at,
                cause,
            })?;
        }
        Ok(true)
    }

    /// Says of a lane that waits for others which of them doesn't come.
    pub(crate) fn stuck(&self, around: &Surroundings<'_>) -> Option<Stop> {
        let lane = lanes_of(self.waiting).next()?;
        let step = self.place[lane];
        let operation = &around.kernel.steps[step].operation;
        let mask = operation.mask().map_or(u32::MAX, |slot| self.get(slot, lane) as u32);
        Some(Stop { lane, step, cause: self.missing_at(mask, Some(step), around) })
    }

    fn missing(&self, mask: u32, around: &Surroundings<'_>) -> Cause {
        self.missing_at(mask, None, around)
    }

    fn missing_at(&self, mask: u32, step: Option<usize>, around: &Surroundings<'_>) -> Cause {
        let gone = mask & (self.exited | !self.present);
        let elsewhere =
            lanes_of(mask & !gone).find(|&lane| step.is_some_and(|step| self.place[lane] != step));
        let (lane, state) = match (lanes_of(gone).next(), elsewhere) {
            (Some(lane), _) if self.present >> lane & 1 == 0 => (lane, "doesn't exist".to_string()),
            (Some(lane), _) => (lane, "has exited".to_string()),
            (None, Some(lane)) => {
                let instruction = around.kernel.steps[self.place[lane]].instruction as usize;
                (lane, format!("waits at `{}`", around.kernel.instructions[instruction]))
            }
            (None, None) => (0, "never comes".to_string()),
        };
        Cause::LaneMissing { mask, lane, state }
    }

    fn give(&mut self, slot: Slot, lanes: u32, value: impl Fn(usize) -> u64) {
        for lane in lanes_of(lanes) {
            self.set(slot, lane, value(lane));
        }
    }

    fn carry_out(
        &mut self,
        around: &mut Surroundings<'_>,
        operation: &Operation,
        lanes: u32,
    ) -> Result<(), (usize, Cause)> {
        match operation {
            Operation::WarpBarrier { .. } => self.times[self.index] = around.shared.tick(),
            Operation::ActiveMask { to } => self.give(*to, lanes, |_| lanes.into()),
            Operation::Shuffle { how, to, valid, value, lane, clamp, .. } => {
                self.shuffle(*how, (*to, *valid), [*value, *lane, *clamp], lanes);
            }
            Operation::Vote { how, to, predicate, .. } => {
                let votes = self.predicate(*predicate) & lanes;
                let result = match how {
                    Vote::All => u64::from(votes == lanes),
                    Vote::Any => u64::from(votes != 0),
                    Vote::Uniform => u64::from(votes == lanes || votes == 0),
                    Vote::Ballot => votes.into(),
                };
                self.give(*to, lanes, |_| result);
            }
            Operation::MatchAny { to, value, .. } => {
                let values = self.registers[*value as usize];
                self.give(*to, lanes, |lane| same(&values, lane, lanes).into());
            }
            Operation::MatchAll { to, same: agrees, value, .. } => {
                let values = self.registers[*value as usize];
                let all = lanes_of(lanes).next().is_some_and(|first| same(&values, first, lanes) == lanes);
                self.give(*to, lanes, |_| if all { lanes.into() } else { 0 });
                if let Some(agrees) = agrees {
                    self.give(*agrees, lanes, |_| all.into());
                }
            }
            Operation::ReduceWarp { run, to, value, .. } => {
                let values = self.registers[*value as usize];
                let result =
                    lanes_of(lanes).map(|lane| values[lane]).reduce(|a, b| run(a, b, 0)).unwrap_or(0);
                self.give(*to, lanes, |_| result);
            }
            Operation::ElectLane { to, elected, .. } => {
                let first = lanes.trailing_zeros() as usize;
                if let Some(to) = to {
                    self.give(*to, lanes, |_| first as u64);
                }
                self.give(*elected, lanes, |lane| u64::from(lane == first));
            }
            Operation::Multiply { shape, to, a, b, c } => self.multiply(*shape, to, a, b, c),
            Operation::LoadMatrix { at, to, transposed } => {
                for (matrix, &slot) in to.iter().enumerate() {
                    let mut rows = [[0u8; 16]; 8];
                    for (row, into) in rows.iter_mut().enumerate() {
                        let lane = matrix * 8 + row;
                        self.load(around, *at, lane, into).map_err(|cause| (lane, cause))?;
                    }
                    let piece = |row: usize, column: usize| word(&rows[row][2 * column..2 * column + 2]);
                    self.give(slot, lanes, |lane| {
                        let (row, column) = (lane / 4, lane % 4 * 2);
                        match transposed {
                            false => piece(row, column) | piece(row, column + 1) << 16,
                            true => piece(column, row) | piece(column + 1, row) << 16,
                        }
                    });
                }
            }
            Operation::StoreMatrix { at, from, transposed } => {
                for (matrix, &slot) in from.iter().enumerate() {
                    let mut rows = [[0u8; 16]; 8];
                    for lane in 0..WARP {
                        let bits = self.get(slot, lane).to_le_bytes();
                        for half in 0..2 {
                            let (row, column) = (lane / 4, lane % 4 * 2 + half);
                            let (row, column) = if *transposed { (column, row) } else { (row, column) };
                            rows[row][2 * column..2 * column + 2]
                                .copy_from_slice(&bits[2 * half..2 * half + 2]);
                        }
                    }
                    for (row, from) in rows.iter().enumerate() {
                        let lane = matrix * 8 + row;
                        self.store(around, *at, lane, from).map_err(|cause| (lane, cause))?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn shuffle(&mut self, how: Shuffle, (to, valid): (Slot, Option<Slot>), from: [Slot; 3], lanes: u32) {
        let [values, sources, clamps] = from.map(|slot| self.registers[slot as usize]);
        for lane in lanes_of(lanes) {
            let (by, clamp) = (sources[lane] as usize & 31, clamps[lane] as usize);
            let segment = clamp >> 8 & 31;
            let (lowest, highest) = (lane & segment, lane & segment | clamp & 31 & !segment);
            let (source, within) = match how {
                Shuffle::Up => {
                    (lane.wrapping_sub(by), lane >= by && lane - by >= (lane & segment | clamp & 31))
                }
                Shuffle::Down => (lane + by, lane + by <= highest),
                Shuffle::Butterfly => (lane ^ by, lane ^ by <= highest),
                Shuffle::Index => (lowest | by & !segment, (lowest | by & !segment) <= highest),
            };
            let source = if within { source } else { lane };
            // What a lane outside of the mask has is not defined: poison.
            let value = if lanes >> source & 1 != 0 { values[source] } else { u64::MAX };
            self.set(to, lane, value);
            if let Some(valid) = valid {
                self.set(valid, lane, within.into());
            }
        }
    }

    /// The layouts of the operands are those of the PTX manual: a row of four lanes holds a row of A, C and D and a column
    /// of B, each lane as many neighbours as fit a register.
    #[expect(clippy::needless_range_loop, reason = "a lane is an index into several registers")]
    fn multiply(&mut self, shape: Shape, to: &[Slot], a: &[Slot], b: &[Slot], c: &[Slot]) {
        let depth = shape.depth;
        let mut left = vec![[0.0; 32]; 16];
        let mut right = [[0.0; 32]; 8];
        let per = 32 / shape.a.bits();
        for lane in 0..WARP {
            let (group, member) = (lane / 4, lane % 4);
            for (register, &slot) in a.iter().enumerate() {
                let (row, part) = (group + 8 * (register % 2), register / 2);
                for piece in 0..per {
                    let bits = self.get(slot, lane) >> (piece * shape.a.bits());
                    left[row][part * 4 * per + member * per + piece] = shape.a.value(bits);
                }
            }
            for (register, &slot) in b.iter().enumerate() {
                for piece in 0..per {
                    let bits = self.get(slot, lane) >> (piece * shape.b.bits());
                    right[group][register * 4 * per + member * per + piece] = shape.b.value(bits);
                }
            }
        }
        let product = |row: usize, column: usize| -> f64 {
            (0..depth).map(|inner| left[row][inner] * right[column][inner]).sum()
        };
        // D may be the registers of C in another order: all is read before anything is written.
        let mut results = vec![[0; WARP]; to.len()];
        for lane in 0..WARP {
            for element in 0..4 {
                let (row, column) = (lane / 4 + 8 * (element / 2), lane % 4 * 2 + element % 2);
                let (slot, shift) =
                    if shape.c == Element::F16 { (element / 2, 16 * (element % 2)) } else { (element, 0) };
                let sum = product(row, column) + shape.c.value(self.get(c[slot], lane) >> shift);
                results[slot][lane] |= match shape.d {
                    Element::F16 => u64::from(f16::from_f64(sum).to_bits()) << shift,
                    Element::S32 => u64::from(sum as i64 as u32),
                    _ => u64::from((sum as f32).to_bits()),
                };
            }
        }
        for (&slot, result) in to.iter().zip(results) {
            self.registers[slot as usize] = result;
        }
    }
}

fn same(values: &Lanes, own: usize, lanes: u32) -> u32 {
    lanes_of(lanes).filter(|&lane| values[lane] == values[own]).fold(0, |mask, lane| mask | 1 << lane)
}
