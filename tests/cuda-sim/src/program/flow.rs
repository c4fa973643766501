//! Branches, calls and the end: where a kernel goes on.

use super::Operation;
use super::scope::{Entity, Opcode};
use crate::ptx::{Function, Operand};

use super::decode::{Branch, DecodeError, Decoder, RETURN};

impl Decoder<'_> {
    pub(super) fn flow(&mut self, base: &str, opcode: &mut Opcode<'_>, operands: &[Operand]) -> Option<()> {
        match (base, operands) {
            ("bra", [Operand::Name(label)]) => {
                opcode.take("uni");
                self.branch(vec![label.clone()]);
                self.emit(Operation::Branch { target: 0 });
            }
            ("brx", [index, Operand::Name(table)]) => {
                opcode.take("idx").then_some(())?;
                opcode.take("uni");
                let Some(Entity::Targets(labels)) = self.find(table) else { return None };
                let labels = labels.clone();
                let index = self.read(index)?;
                self.branch(labels);
                self.emit(Operation::BranchIndexed { targets: Box::new([]), index });
            }
            ("call", operands) => {
                opcode.take("uni");
                self.call(operands)?;
            }
            ("ret", []) => {
                opcode.take("uni");
                match self.calls.last() {
                    Some(&(_, scope)) => {
                        let branch = Branch {
                            step: self.steps.len(),
                            labels: vec![RETURN.to_string()],
                            scopes: vec![scope],
                        };
                        self.branches.push(branch);
                        self.emit(Operation::Branch { target: 0 });
                    }
                    None => self.emit(Operation::Exit),
                }
            }
            ("exit", []) => self.emit(Operation::Exit),
            ("trap" | "brkpt", []) => self.emit(Operation::Trap),
            _ => return None,
        }
        Some(())
    }

    pub(super) fn branch(&mut self, labels: Vec<String>) {
        let scopes = self.scopes.iter().rev().map(|scope| scope.id).collect();
        self.branches.push(Branch { step: self.steps.len(), labels, scopes });
    }

    pub(super) fn call(&mut self, operands: &[Operand]) -> Option<()> {
        let (results, rest) = match operands {
            [Operand::Arguments(results), rest @ ..] => (results.as_slice(), rest),
            rest => (&[][..], rest),
        };
        let Some((Operand::Name(name), rest)) = rest.split_first() else { return None };
        let arguments = match rest {
            [] => &[][..],
            [Operand::Arguments(arguments)] => arguments.as_slice(),
            // A further operand is the prototype of a call through a pointer.
            _ => return None,
        };
        if name == "__assertfail" {
            self.emit(Operation::Trap);
            return Some(());
        }
        let symbols = self.symbols;
        let Some(&function) = symbols.functions.get(name.as_str()) else {
            self.failure =
                Some(DecodeError::NoSuchFunction { kernel: self.kernel.clone(), function: name.clone() });
            return None;
        };
        if self.calls.iter().any(|(open, _)| open == name) {
            self.failure =
                Some(DecodeError::Recursive { kernel: self.kernel.clone(), function: name.clone() });
            return None;
        }
        let formal = function.results.iter().zip(results).chain(function.parameters.iter().zip(arguments));
        let mut bound = Vec::new();
        for (formal, actual) in formal {
            let Operand::Name(actual) = actual else { return None };
            bound.push((formal.name.clone(), self.find(actual)?.clone()));
        }
        self.inline(function, bound)
    }

    pub(super) fn inline(&mut self, function: &Function, bound: Vec<(String, Entity)>) -> Option<()> {
        // A guarded call is a branch around its body.
        let around = self.guard.take().map(|(slot, negated)| {
            self.guard = Some((slot, !negated));
            self.emit(Operation::Branch { target: 0 });
            self.guard = None;
            self.steps.len() - 1
        });
        let outer = std::mem::take(&mut self.scopes);
        self.open();
        let scope = self.next_scope - 1;
        for (name, entity) in bound {
            self.declare(name, entity);
        }
        self.calls.push((function.name.clone(), scope));
        let done = self.body(function);
        self.calls.pop();
        self.labels.insert((scope, RETURN.to_string()), self.steps.len());
        if let Some(step) = around {
            self.branches.push(Branch { step, labels: vec![RETURN.to_string()], scopes: vec![scope] });
        }
        self.scopes = outer;
        match done {
            Ok(()) => Some(()),
            Err(failure) => {
                self.failure = Some(failure);
                None
            }
        }
    }
}
