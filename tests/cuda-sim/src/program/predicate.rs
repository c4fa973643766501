//! `setp` and its kin: comparisons whose results are predicates or numbers.

use super::arithmetic::lanes;
use super::comparison::{combine, compare};
use super::rounding::flush;
use super::scope::Opcode;
use super::{Compute, Lanes, Slot, WARP};
use crate::ptx::{Operand, Type};

use super::decode::Decoder;

impl Decoder<'_> {
    pub(super) fn comparison(
        &mut self,
        base: &str,
        opcode: &mut Opcode<'_>,
        operands: &[Operand],
    ) -> Option<()> {
        let kind = opcode.take_type()?;
        let as_value = if base == "set" { Some(opcode.take_type()?) } else { None };
        let name = opcode.take_next()?;
        let with = opcode.take_any(&["and", "or", "xor"]);
        let flushes = opcode.take("ftz") && kind == Type::F32;
        let [to, a, b, rest @ ..] = operands else { return None };
        let (mut a, mut b) = (self.read(a)?, self.read(b)?);
        if flushes {
            (a, b) = (self.flushed(a), self.flushed(b));
        }
        if matches!(kind, Type::F16x2 | Type::Bf16x2) {
            return self.compare_pair(name, kind, to, a, b);
        }
        let (holds, fails) = (self.slot(), self.slot());
        self.compute(compare(name, kind)?, holds, &[a, b]);
        self.compute(lanes!(|a, _, _| a ^ 1), fails, &[holds]);
        match (with, rest) {
            (Some(with), [other]) => {
                let other = self.read(other)?;
                self.compute(combine(with)?, holds, &[holds, other]);
                self.compute(combine(with)?, fails, &[fails, other]);
            }
            (None, []) => {}
            _ => return None,
        }
        let copy: Compute = lanes!(|a, _, _| a);
        match (to, as_value) {
            (to, Some(kind)) => {
                let to = self.write(to)?;
                let run: Compute = match kind {
                    Type::F32 => lanes!(|a, _, _| a * 0x3f80_0000),
                    Type::U32 | Type::S32 => lanes!(|a, _, _| a * 0xffff_ffff),
                    _ => return None,
                };
                self.compute(run, to, &[holds]);
            }
            (Operand::Pair(first, second), None) => {
                let (first, second) = (self.write(first)?, self.write(second)?);
                // The guard may be one of the two results.
                if let Some((guard, negated)) = self.guard {
                    let kept = self.slot();
                    self.compute(copy, kept, &[guard]);
                    self.steps.last_mut()?.guard = None;
                    self.guard = Some((kept, negated));
                }
                self.compute(copy, first, &[holds]);
                self.compute(copy, second, &[fails]);
            }
            (to, None) => {
                let to = self.write(to)?;
                self.compute(copy, to, &[holds]);
            }
        }
        Some(())
    }

    /// `setp` of pairs: the lower halves decide the first predicate, the upper ones the second.
    pub(super) fn compare_pair(
        &mut self,
        name: &str,
        kind: Type,
        to: &Operand,
        a: Slot,
        b: Slot,
    ) -> Option<()> {
        let Operand::Pair(low, high) = to else { return None };
        let kind = if kind == Type::F16x2 { Type::F16 } else { Type::Bf16 };
        let (upper_a, upper_b, first) = (self.slot(), self.slot(), self.slot());
        let upper: Compute = lanes!(|a, _, _| a >> 16);
        self.compute(upper, upper_a, &[a]);
        self.compute(upper, upper_b, &[b]);
        self.compute(compare(name, kind)?, first, &[a, b]);
        let (low, high) = (self.write(low)?, self.write(high)?);
        self.compute(compare(name, kind)?, high, &[upper_a, upper_b]);
        self.compute(lanes!(|a, _, _| a), low, &[first]);
        Some(())
    }

    pub(super) fn flushed(&mut self, slot: Slot) -> Slot {
        let to = self.slot();
        self.compute(flush(), to, &[slot]);
        to
    }
}
