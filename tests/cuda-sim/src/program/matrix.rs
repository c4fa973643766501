//! Instructions that the lanes of a warp carry out together: barriers, shuffles, votes, matrices.

use half::{bf16, f16};

use super::arithmetic::lanes;
use super::decode::Decoder;
use super::memory::update;
use super::scope::Opcode;
use super::{AccessSpace, BarrierReduction, Lanes, Operation, Shuffle, Slot, Vote, WARP};
use crate::ptx::{Operand, Type};

/// What a matrix consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of PTX")]
pub enum Element {
    F16,
    Bf16,
    Tf32,
    F32,
    S8,
    U8,
    S32,
}

impl Element {
    fn of(kind: Type) -> Option<Self> {
        Some(match kind {
            Type::F16 => Self::F16,
            Type::Bf16 => Self::Bf16,
            Type::Tf32 => Self::Tf32,
            Type::F32 => Self::F32,
            Type::S8 => Self::S8,
            Type::U8 => Self::U8,
            Type::S32 => Self::S32,
            _ => return None,
        })
    }

    /// Bits of one element in a register.
    pub fn bits(self) -> usize {
        match self {
            Self::S8 | Self::U8 => 8,
            Self::F16 | Self::Bf16 => 16,
            Self::Tf32 | Self::F32 | Self::S32 => 32,
        }
    }

    /// The element's value. All of these are exact in an f64.
    pub fn value(self, bits: u64) -> f64 {
        match self {
            Self::F16 => f16::from_bits(bits as u16).to_f64(),
            Self::Bf16 => bf16::from_bits(bits as u16).to_f64(),
            // The multiplier doesn't see the lowest 13 bits.
            Self::Tf32 => f32::from_bits(bits as u32 & 0xffff_e000).into(),
            Self::F32 => f32::from_bits(bits as u32).into(),
            Self::S8 => (bits as i8).into(),
            Self::U8 => (bits as u8).into(),
            Self::S32 => (bits as i32).into(),
        }
    }
}

/// The shape of `mma.sync`: 16 × `depth` times `depth` × 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of PTX")]
pub struct Shape {
    pub depth: usize,
    pub a: Element,
    pub b: Element,
    pub c: Element,
    pub d: Element,
}

impl Decoder<'_> {
    pub(super) fn together(
        &mut self,
        base: &str,
        opcode: &mut Opcode<'_>,
        operands: &[Operand],
    ) -> Option<()> {
        match base {
            "bar" | "barrier" => self.barrier(opcode, operands),
            "shfl" => self.shuffle(opcode, operands),
            "vote" => self.vote(opcode, operands),
            "match" => self.matching(opcode, operands),
            "redux" => self.reduce(opcode, operands),
            "mma" => self.multiply(opcode, operands),
            "ldmatrix" | "stmatrix" => self.move_matrix(base == "ldmatrix", opcode, operands),
            "activemask" => {
                opcode.take("b32");
                let to = self.write(operands.first()?)?;
                self.emit(Operation::ActiveMask { to });
                Some(())
            }
            "elect" => {
                opcode.take("sync").then_some(())?;
                let [Operand::Pair(to, elected), mask] = operands else { return None };
                let (to, elected, mask) = (self.write(to)?, self.write(elected)?, self.read(mask)?);
                self.emit(Operation::ElectLane { to: Some(to), elected, mask });
                Some(())
            }
            "nanosleep" => {
                opcode.take("u32");
                self.emit(Operation::Nothing);
                Some(())
            }
            _ => None,
        }
    }

    fn barrier(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        opcode.take("cta");
        opcode.take("aligned");
        if opcode.take("warp") {
            opcode.take("sync").then_some(())?;
            let mask = self.read(operands.first()?)?;
            self.emit(Operation::WarpBarrier { mask });
            return Some(());
        }
        if opcode.take("red") {
            return self.barrier_reduce(opcode, operands);
        }
        let waits = opcode.take_any(&["sync", "arrive"])? == "sync";
        let (id, threads) = match operands {
            [id] => (self.read(id)?, None),
            [id, threads] => (self.read(id)?, Some(self.read(threads)?)),
            _ => return None,
        };
        self.emit(Operation::Barrier { id, threads, waits });
        Some(())
    }

    fn barrier_reduce(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        opcode.take_any(&["pred", "u32"])?;
        let reduction = match opcode.take_any(&["and", "or", "popc"])? {
            "and" => BarrierReduction::And,
            "or" => BarrierReduction::Or,
            _ => BarrierReduction::Count,
        };
        let [to, id, threads @ .., predicate] = operands else { return None };
        let threads = match threads {
            [] => None,
            [threads] => Some(self.read(threads)?),
            _ => return None,
        };
        let (id, predicate, to) = (self.read(id)?, self.read(predicate)?, self.write(to)?);
        self.emit(Operation::BarrierReduce { id, threads, reduction, predicate, to });
        Some(())
    }

    fn shuffle(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        (opcode.take("sync") && opcode.take("b32")).then_some(())?;
        let how = match opcode.take_any(&["up", "down", "bfly", "idx"])? {
            "up" => Shuffle::Up,
            "down" => Shuffle::Down,
            "bfly" => Shuffle::Butterfly,
            _ => Shuffle::Index,
        };
        let [to, value, lane, clamp, mask] = operands else { return None };
        let (to, valid) = self.pair(to)?;
        let (value, lane) = (self.read(value)?, self.read(lane)?);
        let (clamp, mask) = (self.read(clamp)?, self.read(mask)?);
        self.emit(Operation::Shuffle { how, to, valid, value, lane, clamp, mask });
        Some(())
    }

    fn pair(&mut self, operand: &Operand) -> Option<(Slot, Option<Slot>)> {
        match operand {
            Operand::Pair(first, second) => Some((self.write(first)?, Some(self.write(second)?))),
            single => Some((self.write(single)?, None)),
        }
    }

    fn vote(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        opcode.take("sync").then_some(())?;
        opcode.take_any(&["pred", "b32"])?;
        let how = match opcode.take_any(&["all", "any", "uni", "ballot"])? {
            "all" => Vote::All,
            "any" => Vote::Any,
            "uni" => Vote::Uniform,
            _ => Vote::Ballot,
        };
        let [to, predicate, mask] = operands else { return None };
        let (predicate, mask, to) = (self.read(predicate)?, self.read(mask)?, self.write(to)?);
        self.emit(Operation::Vote { how, to, predicate, mask });
        Some(())
    }

    fn matching(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        opcode.take("sync").then_some(())?;
        let kind = opcode.take_type()?;
        let [to, value, mask] = operands else { return None };
        let (mut value, mask) = (self.read(value)?, self.read(mask)?);
        if kind.bytes() == 4 {
            let narrow = self.slot();
            self.compute(lanes!(|a, _, _| a & 0xffff_ffff), narrow, &[value]);
            value = narrow;
        }
        let operation = match opcode.take_any(&["any", "all"])? {
            "any" => Operation::MatchAny { to: self.write(to)?, value, mask },
            _ => {
                let (to, same) = self.pair(to)?;
                Operation::MatchAll { to, same, value, mask }
            }
        };
        self.emit(operation);
        Some(())
    }

    fn reduce(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        opcode.take("sync").then_some(())?;
        let kind = opcode.take_type()?;
        (kind.bytes() == 4 && !kind.is_float()).then_some(())?;
        let run = update(opcode.take_any(&["add", "min", "max", "and", "or", "xor"])?, kind)?;
        let [to, value, mask] = operands else { return None };
        let (value, mask, to) = (self.read(value)?, self.read(mask)?, self.write(to)?);
        self.emit(Operation::ReduceWarp { run, to, value, mask });
        Some(())
    }

    fn multiply(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        let c = Element::of(opcode.take_type()?)?;
        let b = Element::of(opcode.take_type()?)?;
        let a = Element::of(opcode.take_type()?)?;
        let d = Element::of(opcode.take_type()?)?;
        (opcode.take("sync") && opcode.take("aligned") && opcode.take("row") && opcode.take("col"))
            .then_some(())?;
        let shape = opcode.take_any(&["m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32"])?;
        let depth: usize = shape.strip_prefix("m16n8k")?.parse().ok()?;
        let known = match (a, b) {
            (Element::F16, Element::F16) => {
                matches!(c, Element::F16 | Element::F32) && c == d && (depth == 8 || depth == 16)
            }
            (Element::Bf16, Element::Bf16) => {
                (c, d) == (Element::F32, Element::F32) && (depth == 8 || depth == 16)
            }
            (Element::Tf32, Element::Tf32) => {
                (c, d) == (Element::F32, Element::F32) && (depth == 4 || depth == 8)
            }
            (Element::S8 | Element::U8, Element::S8 | Element::U8) => {
                (c, d) == (Element::S32, Element::S32) && (depth == 16 || depth == 32)
            }
            _ => false,
        };
        known.then_some(())?;
        let shape = Shape { depth, a, b, c, d };
        let [to, x, y, z] = operands else { return None };
        let (x, y, z, to) = (self.read_all(x)?, self.read_all(y)?, self.read_all(z)?, self.write_all(to)?);
        let registers = |rows: usize, columns: usize, bits: usize| rows * columns * bits / (32 * WARP);
        let fits = x.len() == registers(16, depth, a.bits())
            && y.len() == registers(depth, 8, b.bits())
            && z.len() == registers(16, 8, c.bits())
            && to.len() == registers(16, 8, d.bits());
        fits.then_some(())?;
        self.emit(Operation::Multiply { shape, to, a: x, b: y, c: z });
        Some(())
    }

    fn move_matrix(&mut self, loads: bool, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        (opcode.take("sync") && opcode.take("aligned") && opcode.take("m8n8") && opcode.take("b16"))
            .then_some(())?;
        let count = match opcode.take_any(&["x1", "x2", "x4"])? {
            "x1" => 1,
            "x2" => 2,
            _ => 4,
        };
        let transposed = opcode.take("trans");
        let space = match opcode.take_any(&["shared", "shared::cta"]) {
            Some(_) => AccessSpace::Shared,
            None => AccessSpace::Generic,
        };
        let [first, second] = operands else { return None };
        let operation = if loads {
            let at = self.address(second, space)?;
            Operation::LoadMatrix { at, to: self.write_all(first)?, transposed }
        } else {
            let at = self.address(first, space)?;
            Operation::StoreMatrix { at, from: self.read_all(second)?, transposed }
        };
        let (Operation::LoadMatrix { to: registers, .. } | Operation::StoreMatrix { from: registers, .. }) =
            &operation
        else {
            return None;
        };
        (registers.len() == count).then_some(())?;
        self.emit(operation);
        Some(())
    }
}
