//! `mov`, `cvt`, `cvta`: values from one register to another.

use super::arithmetic::lanes;
use super::conversion::{convert, pack, to_tf32};
use super::decode::Decoder;
use super::rounding::{Rounding, rectify, saturate};
use super::scope::Opcode;
use super::{AccessSpace, Compute, LOCAL_WINDOW, Lanes, Operation, PARAM_WINDOW, SHARED_WINDOW, Slot, WARP};
use crate::ptx::{Operand, Type};

impl Decoder<'_> {
    pub(super) fn transfer(
        &mut self,
        base: &str,
        opcode: &mut Opcode<'_>,
        operands: &[Operand],
    ) -> Option<()> {
        match base {
            "mov" => self.mov(opcode, operands),
            "cvt" => self.cvt(opcode, operands),
            "cvta" => self.cvta(opcode, operands),
            _ => None,
        }
    }

    fn mov(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        let kind = opcode.take_type()?;
        let [to, from] = operands else { return None };
        match (to, from) {
            (_, Operand::Name(name)) if matches!(name.as_str(), "%clock" | "%clock64" | "%globaltimer") => {
                let to = self.write(to)?;
                self.emit(Operation::Clock { to, nanoseconds: name == "%globaltimer" });
            }
            (Operand::Vector(parts), from) => {
                let from = self.read(from)?;
                let parts: Vec<Slot> = parts.iter().map(|part| self.write(part)).collect::<Option<_>>()?;
                self.unpack(kind, &parts, from)?;
            }
            (to, Operand::Vector(parts)) => {
                let parts: Vec<Slot> = parts.iter().map(|part| self.read(part)).collect::<Option<_>>()?;
                let to = self.write(to)?;
                self.pack(kind, to, &parts)?;
            }
            (to, from) => {
                let from = self.read(from)?;
                let to = self.write(to)?;
                self.compute(lanes!(|a, _, _| a), to, &[from]);
            }
        }
        Some(())
    }

    fn unpack(&mut self, kind: Type, parts: &[Slot], from: Slot) -> Option<()> {
        // One of the parts may be the register that is taken apart.
        let kept = self.slot();
        self.compute(lanes!(|a, _, _| a), kept, &[from]);
        let bits = 8 * kind.bytes() / parts.len();
        let cut: Compute = match bits {
            8 => lanes!(|a, b, _| a >> b & 0xff),
            16 => lanes!(|a, b, _| a >> b & 0xffff),
            32 => lanes!(|a, b, _| a >> b & 0xffff_ffff),
            _ => return None,
        };
        for (place, &part) in parts.iter().enumerate() {
            let shift = self.constant((place * bits) as u64);
            self.compute(cut, part, &[kept, shift]);
        }
        Some(())
    }

    fn pack(&mut self, kind: Type, to: Slot, parts: &[Slot]) -> Option<()> {
        let bits = 8 * kind.bytes() / parts.len();
        let join: Compute = match bits {
            8 => lanes!(|a, b, c| c | (a & 0xff) << b),
            16 => lanes!(|a, b, c| c | (a & 0xffff) << b),
            32 => lanes!(|a, b, c| c | (a & 0xffff_ffff) << b),
            _ => return None,
        };
        let mut joined = self.constant(0);
        for (place, &part) in parts.iter().enumerate() {
            let shift = self.constant((place * bits) as u64);
            let next = self.slot();
            self.compute(join, next, &[part, shift, joined]);
            joined = next;
        }
        self.compute(lanes!(|a, _, _| a), to, &[joined]);
        Some(())
    }

    fn cvt(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        let (from_kind, to_kind) = (opcode.take_type()?, opcode.take_type()?);
        let flushes = opcode.take("ftz");
        let saturates = opcode.take("sat");
        let rectifies = opcode.take("relu");
        let modifier = opcode.take_any(&["rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi", "rna"]);
        let rounding = modifier.and_then(Rounding::named);
        let (to, from) = operands.split_first()?;
        let mut slots: Vec<Slot> = from.iter().map(|each| self.read(each)).collect::<Option<_>>()?;
        if flushes && from_kind == Type::F32 {
            slots = slots.iter().map(|&slot| self.flushed(slot)).collect();
        }
        let to = self.write(to)?;
        let run = match (to_kind, slots.len()) {
            (Type::F16x2 | Type::Bf16x2, 2) => pack(to_kind, rounding?)?,
            (Type::Tf32, 1) => to_tf32(),
            (_, 1) => {
                let whole = modifier.is_some_and(|name| name.len() == 3);
                convert(to_kind, from_kind, rounding, whole, saturates)?
            }
            _ => return None,
        };
        self.compute(run, to, &slots);
        if saturates && to_kind.is_float() {
            self.compute(saturate(to_kind)?, to, &[to]);
        }
        if rectifies {
            self.compute(rectify(to_kind)?, to, &[to]);
        }
        if flushes && to_kind == Type::F32 {
            let flushed = self.flushed(to);
            self.compute(lanes!(|a, _, _| a), to, &[flushed]);
        }
        Some(())
    }

    fn cvta(&mut self, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        let [to, from] = operands else { return None };
        opcode.take_type()?;
        let to_space = opcode.take("to");
        let mut space = opcode.take_any(&["global", "shared", "shared::cta", "local", "const", "param"])?;
        opcode.take_prefixed("entry");
        // A parameter of a function that was written out is a variable of the thread.
        if let Operand::Name(name) = from
            && self.space_of(name) == Some(AccessSpace::Local)
        {
            space = "local";
        }
        let window = match space {
            "shared" | "shared::cta" => SHARED_WINDOW,
            "local" => LOCAL_WINDOW,
            "param" => PARAM_WINDOW,
            _ => 0,
        };
        let window = self.constant(if to_space { window.wrapping_neg() } else { window });
        let from = self.read(from)?;
        let to = self.write(to)?;
        self.compute(lanes!(|a, b, _| a.wrapping_add(b)), to, &[from, window]);
        Some(())
    }
}
