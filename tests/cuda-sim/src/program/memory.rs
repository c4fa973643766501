//! Instructions that reach memory: loads, stores, atomic operations, delayed copies, fences.

use half::{bf16, f16};

use super::arithmetic::Ordered;
use super::decode::Decoder;
use super::scope::Opcode;
use super::{AccessSpace, Operation, Slot, Update};
use crate::ptx::{Operand, Type};

/// Modifiers that only advise caches or order accesses between blocks, which run one after the other here.
const ADVICE: [&str; 25] = [
    "nc", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "volatile", "relaxed", "acquire", "release", "acq_rel",
    "weak", "sc", "cta", "cluster", "gpu", "gl", "sys", "proxy", "async", "alias", "noftz", "noinc",
];

impl Decoder<'_> {
    pub(super) fn memory(&mut self, base: &str, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        if base == "cp" {
            return self.copies(opcode, operands);
        }
        opcode.take_prefixed("L1::");
        opcode.take_prefixed("L2::");
        while opcode.take_any(&ADVICE).is_some() {}
        match base {
            "ld" | "ldu" => self.load(opcode, operands),
            "st" => self.store(opcode, operands),
            "atom" | "red" => self.atomic(base == "atom", opcode, operands),
            _ => {
                // Prefetches, fences and advice to caches change nothing that a kernel could see here.
                opcode.take_any(&["global", "local", "shared::cta"]);
                opcode.take_any(&["L1", "L2"]);
                self.emit(Operation::Nothing);
                Some(())
            }
        }
    }

    fn load(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        let kind = opcode.take_type()?;
        let space = space(opcode);
        let lanes = vector(opcode);
        let [to, at] = operands.get(..2)? else { return None };
        let at = self.address(at, space)?;
        let to = self.write_all(to)?;
        (to.len() == lanes).then_some(())?;
        self.emit(Operation::Load { at, to, bytes: kind.bytes(), signed: kind.is_signed() });
        Some(())
    }

    fn store(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        let kind = opcode.take_type()?;
        let space = space(opcode);
        let lanes = vector(opcode);
        let [at, from] = operands.get(..2)? else { return None };
        let at = self.address(at, space)?;
        let from = self.read_all(from)?;
        (from.len() == lanes).then_some(())?;
        self.emit(Operation::Store { at, from, bytes: kind.bytes() });
        Some(())
    }

    fn atomic(&mut self, returns: bool, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        let kind = opcode.take_type()?;
        let space = space(opcode);
        let name = opcode.take_next()?;
        let update = update(name, kind)?;
        let (to, rest) = if returns {
            let (to, rest) = operands.split_first()?;
            (Some(self.write(to)?), rest)
        } else {
            (None, operands)
        };
        let [at, values @ ..] = rest else { return None };
        let at = self.address(at, space)?;
        let values: Vec<Slot> = values.iter().map(|value| self.read(value)).collect::<Option<_>>()?;
        let &first = values.first()?;
        (values.len() == if name == "cas" { 2 } else { 1 }).then_some(())?;
        let from = [first, values.get(1).copied().unwrap_or(first)];
        self.emit(Operation::Atomic { at, update, to, from, bytes: kind.bytes() });
        Some(())
    }

    fn copies(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        opcode.take("async").then_some(())?;
        if opcode.take("commit_group") {
            self.emit(Operation::CommitCopies);
            return Some(());
        }
        if opcode.take("wait_all") {
            self.emit(Operation::WaitAllCopies);
            return Some(());
        }
        if opcode.take("wait_group") {
            let [Operand::Integer(pending)] = operands else { return None };
            self.emit(Operation::WaitCopies { pending: *pending as usize });
            return Some(());
        }
        let whole_line = opcode.take("cg");
        (whole_line || opcode.take("ca")).then_some(())?;
        opcode.take_any(&["shared", "shared::cta"])?;
        opcode.take("global").then_some(())?;
        opcode.take_prefixed("L2::");
        let [to, from, Operand::Integer(bytes), rest @ ..] = operands else { return None };
        let bytes = *bytes as usize;
        (bytes == 16 || !whole_line && (bytes == 4 || bytes == 8)).then_some(())?;
        let to = self.address(to, AccessSpace::Shared)?;
        let from = self.address(from, AccessSpace::Global)?;
        let source_bytes = match rest {
            [] => None,
            [size] => Some(self.read(size)?),
            _ => return None,
        };
        self.emit(Operation::CopyAsync { to, from, bytes, source_bytes });
        Some(())
    }
}

fn space(opcode: &mut Opcode<'_>) -> AccessSpace {
    let found = opcode.take_any(&[
        "global",
        "shared",
        "shared::cta",
        "local",
        "param",
        "param::entry",
        "param::func",
        "const",
    ]);
    match found {
        Some("global" | "const") => AccessSpace::Global,
        Some("shared" | "shared::cta") => AccessSpace::Shared,
        Some("local") => AccessSpace::Local,
        Some(_) => AccessSpace::Param,
        None => AccessSpace::Generic,
    }
}

fn vector(opcode: &mut Opcode<'_>) -> usize {
    match opcode.take_any(&["v2", "v4", "v8"]) {
        Some("v2") => 2,
        Some("v4") => 4,
        Some(_) => 8,
        None => 1,
    }
}

/// What an atomic operation, or a reduction over a warp, does to a value.
pub(super) fn update(name: &str, kind: Type) -> Option<Update> {
    macro_rules! integer {
        ($type:ty) => {
            Some(match name {
                "add" => |old, b, _| (old as $type).wrapping_add(b as $type) as u64,
                "min" => |old, b, _| (old as $type).min(b as $type) as u64,
                "max" => |old, b, _| (old as $type).max(b as $type) as u64,
                "inc" => |old, b, _| {
                    if old as $type >= b as $type { 0 } else { (old as $type).wrapping_add(1) as u64 }
                },
                "dec" => |old, b, _| {
                    if old as $type == 0 || old as $type > b as $type { b } else { (old as $type - 1) as u64 }
                },
                "exch" => |_, b, _| b as $type as u64,
                "cas" => |old, b, c| if old as $type == b as $type { c as $type as u64 } else { old },
                "and" => |old, b, _| old & b,
                "or" => |old, b, _| old | b,
                "xor" => |old, b, _| old ^ b,
                _ => return None,
            })
        };
    }
    match kind {
        Type::B16 | Type::U16 => integer!(u16),
        Type::B32 | Type::U32 => integer!(u32),
        Type::S32 => integer!(i32),
        Type::B64 | Type::U64 => integer!(u64),
        Type::S64 => integer!(i64),
        Type::F32 => Some(match name {
            "add" => |old, b, _| (f32::from_bits(old as u32) + f32::from_bits(b as u32)).to_bits().into(),
            "min" => |old, b, _| f32::from_bits(old as u32).least(f32::from_bits(b as u32)).to_bits().into(),
            "max" => {
                |old, b, _| f32::from_bits(old as u32).greatest(f32::from_bits(b as u32)).to_bits().into()
            }
            _ => return None,
        }),
        Type::F64 if name == "add" => Some(|old, b, _| (f64::from_bits(old) + f64::from_bits(b)).to_bits()),
        Type::F16 if name == "add" => Some(|old, b, _| add_half(old, b)),
        Type::F16x2 if name == "add" => {
            Some(|old, b, _| add_half(old, b) | add_half(old >> 16, b >> 16) << 16)
        }
        Type::Bf16 if name == "add" => Some(|old, b, _| add_brain(old, b)),
        Type::Bf16x2 if name == "add" => {
            Some(|old, b, _| add_brain(old, b) | add_brain(old >> 16, b >> 16) << 16)
        }
        _ => None,
    }
}

fn add_half(a: u64, b: u64) -> u64 {
    f16::from_f32(f16::from_bits(a as u16).to_f32() + f16::from_bits(b as u16).to_f32()).to_bits().into()
}

fn add_brain(a: u64, b: u64) -> u64 {
    bf16::from_f32(bf16::from_bits(a as u16).to_f32() + bf16::from_bits(b as u16).to_f32()).to_bits().into()
}
