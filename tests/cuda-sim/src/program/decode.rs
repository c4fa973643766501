//! From the statements of a kernel to its steps.

use std::collections::{BTreeMap, HashMap};

use super::arithmetic::{compute, dot_product, insert_bits, lanes, logic_of_three};
use super::rounding::{Rounding, directed, flush, rectify, saturate};
use super::scope::{Entity, Opcode, Scope};
use super::{AccessSpace, Address, Compute, Kernel, Lanes, Operation, Parameter, Slot, Special, Step, WARP};
use crate::ptx::{Declaration, Function, Instruction, Operand, Space, Statement, Type};

/// Why a kernel cannot be run.
#[derive(Debug, thiserror::Error, PartialEq)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum DecodeError {
    #[error("kernel `{kernel}`: the simulator doesn't know `{instruction}`")]
    Unknown { kernel: String, instruction: String },
    #[error("kernel `{kernel}`: `{instruction}` names `{name}`, which is not declared")]
    Undeclared { kernel: String, instruction: String, name: String },
    #[error("kernel `{kernel}` calls `{function}`, which calls itself; the simulator writes calls out")]
    Recursive { kernel: String, function: String },
    #[error("kernel `{kernel}` calls `{function}`, which the module doesn't define")]
    NoSuchFunction { kernel: String, function: String },
}

/// What a kernel may name outside itself.
pub struct Symbols<'a> {
    /// The functions of the module, by name.
    pub functions: HashMap<&'a str, &'a Function>,
    /// Addresses of the module's variables.
    pub addresses: HashMap<String, u64>,
    /// The shared variables that the module declares outside its functions.
    pub shared: HashMap<&'a str, &'a Declaration>,
}

/// Decodes a kernel.
pub fn decode(function: &Function, symbols: &Symbols<'_>) -> Result<Kernel, DecodeError> {
    let mut decoder = Decoder::new(function, symbols);
    decoder.function(function)?;
    decoder.finish(function)
}

pub(super) struct Decoder<'a> {
    pub(super) symbols: &'a Symbols<'a>,
    pub(super) kernel: String,
    pub(super) steps: Vec<Step>,
    pub(super) instructions: Vec<String>,
    pub(super) slots: u32,
    pub(super) constants: BTreeMap<u64, Slot>,
    pub(super) specials: Vec<(Slot, Special)>,
    pub(super) special_slots: HashMap<String, Slot>,
    pub(super) scopes: Vec<Scope>,
    pub(super) next_scope: usize,
    pub(super) labels: HashMap<(usize, String), usize>,
    pub(super) branches: Vec<Branch>,
    pub(super) guard: Option<(Slot, bool)>,
    /// The functions being written out, with the scope of each, the innermost last.
    pub(super) calls: Vec<(String, usize)>,
    pub(super) local_bytes: u64,
    pub(super) shared_bytes: u64,
    pub(super) shared_offsets: HashMap<String, u64>,
    pub(super) dynamic_shared: Option<(Slot, u64)>,
    pub(super) failure: Option<DecodeError>,
}

/// A branch whose labels are to be found when all are known.
pub(super) struct Branch {
    pub(super) step: usize,
    pub(super) labels: Vec<String>,
    pub(super) scopes: Vec<usize>,
}

/// The label, in a function's own scope, that `ret` goes to.
pub(super) const RETURN: &str = "return";

impl<'a> Decoder<'a> {
    pub(super) fn new(function: &Function, symbols: &'a Symbols<'a>) -> Self {
        Self {
            symbols,
            kernel: function.name.clone(),
            steps: Vec::new(),
            instructions: Vec::new(),
            slots: 0,
            constants: BTreeMap::new(),
            specials: Vec::new(),
            special_slots: HashMap::new(),
            scopes: Vec::new(),
            next_scope: 0,
            labels: HashMap::new(),
            branches: Vec::new(),
            guard: None,
            calls: Vec::new(),
            local_bytes: 0,
            shared_bytes: 0,
            shared_offsets: HashMap::new(),
            dynamic_shared: None,
            failure: None,
        }
    }

    pub(super) fn function(&mut self, function: &Function) -> Result<(), DecodeError> {
        self.open();
        let mut offset = 0u64;
        for parameter in &function.parameters {
            offset = offset.next_multiple_of(parameter.align as u64);
            self.declare(parameter.name.clone(), Entity::Memory(AccessSpace::Param, offset));
            offset += parameter.bytes.unwrap_or(0) as u64;
        }
        self.body(function)?;
        self.guard = None;
        self.emit(Operation::Exit);
        Ok(())
    }

    pub(super) fn body(&mut self, function: &Function) -> Result<(), DecodeError> {
        let Some(body) = &function.body else {
            return Err(DecodeError::NoSuchFunction {
                kernel: self.kernel.clone(),
                function: function.name.clone(),
            });
        };
        for statement in body {
            match statement {
                Statement::Label(name) => {
                    let scope = self.scopes.last().map_or(0, |scope| scope.id);
                    self.labels.insert((scope, name.clone()), self.steps.len());
                }
                Statement::Instruction(instruction) => self.instruction(instruction)?,
                Statement::Registers(kind, name, count) => self.registers(*kind, name, *count),
                Statement::Variable(variable) => self.variable(function, variable),
                Statement::Open => self.open(),
                Statement::Close => {
                    self.scopes.pop();
                }
                Statement::Targets(name, labels) => {
                    self.declare(name.clone(), Entity::Targets(labels.clone()))
                }
            }
        }
        Ok(())
    }

    pub(super) fn registers(&mut self, kind: Type, name: &str, count: Option<usize>) {
        match count {
            None => {
                let slot = self.slot();
                self.declare(name.to_string(), Entity::Register(slot, kind));
            }
            Some(count) => {
                for number in 0..count {
                    let slot = self.slot();
                    self.declare(format!("{name}{number}"), Entity::Register(slot, kind));
                }
            }
        }
    }

    pub(super) fn variable(&mut self, function: &Function, variable: &Declaration) {
        let align = variable.align as u64;
        let entity = match (variable.space, variable.bytes) {
            (Space::Shared, None) => Entity::DynamicShared,
            (Space::Shared, Some(_)) => {
                // Written out twice, a function still has one such variable.
                let key = format!("{}/{}", function.name, variable.name);
                Entity::Memory(AccessSpace::Shared, self.place_shared(key, variable))
            }
            (_, bytes) => {
                self.local_bytes = self.local_bytes.next_multiple_of(align);
                let offset = self.local_bytes;
                self.local_bytes += bytes.unwrap_or(0) as u64;
                Entity::Memory(AccessSpace::Local, offset)
            }
        };
        self.declare(variable.name.clone(), entity);
    }

    pub(super) fn place_shared(&mut self, key: String, variable: &Declaration) -> u64 {
        if let Some(&offset) = self.shared_offsets.get(&key) {
            return offset;
        }
        let offset = self.shared_bytes.next_multiple_of(variable.align as u64);
        self.shared_bytes = offset + variable.bytes.unwrap_or(0) as u64;
        self.shared_offsets.insert(key, offset);
        offset
    }

    pub(super) fn open(&mut self) {
        self.scopes.push(Scope { id: self.next_scope, names: HashMap::new() });
        self.next_scope += 1;
    }

    pub(super) fn declare(&mut self, name: String, entity: Entity) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.names.insert(name, entity);
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<&Entity> {
        self.scopes.iter().rev().find_map(|scope| scope.names.get(name))
    }

    pub(super) fn slot(&mut self) -> Slot {
        self.slots += 1;
        self.slots - 1
    }

    /// The slot that holds a constant.
    pub(super) fn constant(&mut self, value: u64) -> Slot {
        if let Some(&slot) = self.constants.get(&value) {
            return slot;
        }
        let slot = self.slot();
        self.constants.insert(value, slot);
        slot
    }

    pub(super) fn emit(&mut self, operation: Operation) {
        let instruction = self.instructions.len().saturating_sub(1) as u32;
        self.steps.push(Step { operation, guard: self.guard, instruction });
    }

    pub(super) fn compute(&mut self, run: Compute, to: Slot, from: &[Slot]) {
        let first = from.first().copied().unwrap_or(0);
        let at = |index: usize| from.get(index).copied().unwrap_or(first);
        self.emit(Operation::Compute { run, to, from: [at(0), at(1), at(2)] });
    }

    /// The slot that an operand is read from.
    pub(super) fn read(&mut self, operand: &Operand) -> Option<Slot> {
        match operand {
            Operand::Integer(value) | Operand::Double(value) => Some(self.constant(*value)),
            Operand::Single(bits) => Some(self.constant(u64::from(*bits))),
            Operand::Not(name) => {
                let from = self.named(name)?;
                let to = self.slot();
                self.compute(lanes!(|a, _, _| a ^ 1), to, &[from]);
                Some(to)
            }
            Operand::Name(name) => self.named(name),
            _ => None,
        }
    }

    pub(super) fn named(&mut self, name: &str) -> Option<Slot> {
        match self.find(name) {
            Some(Entity::Register(slot, _)) => return Some(*slot),
            Some(Entity::Memory(_, offset)) => {
                let offset = *offset;
                return Some(self.constant(offset));
            }
            Some(Entity::DynamicShared) => return Some(self.dynamic(16)),
            Some(Entity::Targets(_)) => return None,
            None => {}
        }
        if let Some(&address) = self.symbols.addresses.get(name) {
            return Some(self.constant(address));
        }
        if let Some(&variable) = self.symbols.shared.get(name) {
            if variable.bytes.is_none() {
                return Some(self.dynamic(variable.align as u64));
            }
            let offset = self.place_shared(name.to_string(), variable);
            return Some(self.constant(offset));
        }
        match name {
            "WARP_SZ" => return Some(self.constant(WARP as u64)),
            "%pt" => return Some(self.constant(1)),
            _ => {}
        }
        let special = special(name);
        if special.is_none() {
            self.failure = Some(DecodeError::Undeclared {
                kernel: self.kernel.clone(),
                instruction: self.instructions.last().cloned().unwrap_or_default(),
                name: name.to_string(),
            });
        }
        let special = special?;
        if let Some(&slot) = self.special_slots.get(name) {
            return Some(slot);
        }
        let slot = self.slot();
        self.special_slots.insert(name.to_string(), slot);
        self.specials.push((slot, special));
        Some(slot)
    }

    /// The slot with the offset of the shared memory that the launch adds: behind all of the kernel's own, which is
    /// known at the end.
    pub(super) fn dynamic(&mut self, align: u64) -> Slot {
        match &mut self.dynamic_shared {
            Some((slot, most)) => {
                *most = (*most).max(align);
                *slot
            }
            None => {
                let slot = self.slot();
                self.dynamic_shared = Some((slot, align.max(16)));
                slot
            }
        }
    }

    /// The slot that a result goes to; `_` is a slot that nothing reads.
    pub(super) fn write(&mut self, operand: &Operand) -> Option<Slot> {
        match operand {
            Operand::Name(name) if name == "_" => Some(self.slot()),
            Operand::Name(name) => match self.find(name) {
                Some(Entity::Register(slot, _)) => Some(*slot),
                _ => {
                    self.failure = Some(DecodeError::Undeclared {
                        kernel: self.kernel.clone(),
                        instruction: self.instructions.last().cloned().unwrap_or_default(),
                        name: name.clone(),
                    });
                    None
                }
            },
            _ => None,
        }
    }

    /// The slots of a vector, or of the one register that stands for a vector of one.
    pub(super) fn read_all(&mut self, operand: &Operand) -> Option<Box<[Slot]>> {
        match operand {
            Operand::Vector(parts) => parts.iter().map(|part| self.read(part)).collect(),
            other => Some(Box::new([self.read(other)?])),
        }
    }

    /// The same for results.
    pub(super) fn write_all(&mut self, operand: &Operand) -> Option<Box<[Slot]>> {
        match operand {
            Operand::Vector(parts) => parts.iter().map(|part| self.write(part)).collect(),
            other => Some(Box::new([self.write(other)?])),
        }
    }

    /// An address. What names a variable goes where that lives, whatever the instruction says; this is how parameters
    /// of functions that were written out are found.
    pub(super) fn address(&mut self, operand: &Operand, space: AccessSpace) -> Option<Address> {
        let Operand::Address(base, offset) = operand else { return None };
        let mut space = space;
        let base = match base {
            None => self.constant(0),
            Some(name) => {
                if let Some(Entity::Memory(place, _)) = self.find(name) {
                    space = *place;
                }
                // 32 bits suffice as an address of shared memory, and what is above them isn't part of it.
                let narrow = matches!(self.find(name), Some(Entity::Register(_, kind)) if kind.bytes() == 4);
                let slot = self.named(name)?;
                if narrow {
                    let wide = self.slot();
                    self.compute(lanes!(|a, _, _| a & 0xffff_ffff), wide, &[slot]);
                    wide
                } else {
                    slot
                }
            }
        };
        Some(Address { space, base, offset: *offset })
    }

    pub(super) fn space_of(&self, name: &str) -> Option<AccessSpace> {
        match self.find(name) {
            Some(Entity::Memory(space, _)) => Some(*space),
            _ => None,
        }
    }

    pub(super) fn instruction(&mut self, instruction: &Instruction) -> Result<(), DecodeError> {
        self.instructions.push(text(instruction));
        self.failure = None;
        let done = self.guarded(instruction);
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        done.ok_or_else(|| DecodeError::Unknown {
            kernel: self.kernel.clone(),
            instruction: text(instruction),
        })
    }

    pub(super) fn guarded(&mut self, instruction: &Instruction) -> Option<()> {
        self.guard = None;
        if let Some((name, negated)) = &instruction.guard {
            self.guard = Some((self.named(name)?, *negated));
        }
        let mut opcode = Opcode::new(&instruction.opcode);
        let base = instruction.opcode.first()?.as_str();
        let operands = &instruction.operands;
        match base {
            "bra" | "brx" | "call" | "ret" | "exit" | "trap" | "brkpt" => {
                self.flow(base, &mut opcode, operands)?
            }
            "setp" | "set" => self.comparison(base, &mut opcode, operands)?,
            "mov" | "cvt" | "cvta" | "isspacep" => self.transfer(base, &mut opcode, operands)?,
            "ld" | "ldu" | "st" | "atom" | "red" | "cp" | "prefetch" | "prefetchu" | "membar" | "fence"
            | "discard" | "applypriority" => self.memory(base, &mut opcode, operands)?,
            "bar" | "barrier" | "shfl" | "vote" | "match" | "activemask" | "redux" | "elect" | "mma"
            | "ldmatrix" | "stmatrix" | "nanosleep" => self.together(base, &mut opcode, operands)?,
            _ => self.arithmetic(base, &mut opcode, operands)?,
        }
        opcode.is_empty().then_some(())
    }

    pub(super) fn arithmetic(
        &mut self,
        base: &str,
        opcode: &mut Opcode<'_>,
        operands: &[Operand],
    ) -> Option<()> {
        let (to, from) = operands.split_first()?;
        let mut slots = Vec::new();
        for operand in from {
            slots.push(self.read(operand)?);
        }
        let to = self.write(to)?;
        if let Some(run) = self.special_form(base, opcode, &mut slots) {
            self.compute(run, to, &slots);
            return Some(());
        }
        let mut kind = opcode.take_type()?;
        if base == "selp" || base == "slct" {
            kind = Type::B64;
        }
        let flushes = opcode.take("ftz") && kind == Type::F32;
        let saturates = opcode.take("sat");
        let rectifies = opcode.take("relu");
        if opcode.take_any(&["approx", "full"]).is_some() && !kind.is_float() {
            return None;
        }
        let rounding = opcode.take_any(&["rn", "rz", "rm", "rp"]).and_then(Rounding::named);
        let mut name = base.to_string();
        while let Some(part) =
            opcode.take_any(&["lo", "hi", "wide", "NaN", "l", "r", "wrap", "clamp", "shiftamt"])
        {
            name = format!("{name}.{part}");
        }
        let run = match rounding {
            Some(rounding) if rounding != Rounding::Nearest && kind == Type::F32 => directed(&name, rounding)
                .or_else(|| compute(&name, kind).filter(|_| matches!(base, "div" | "rcp" | "sqrt"))),
            Some(rounding) if rounding != Rounding::Nearest => None,
            _ => compute(&name, kind),
        }?;
        if flushes {
            slots = slots.iter().map(|&slot| self.flushed(slot)).collect();
        }
        if saturates && !kind.is_float() {
            return None;
        }
        self.compute(run, to, &slots);
        let after = [
            flushes.then(flush),
            if saturates { Some(saturate(kind)?) } else { None },
            if rectifies { Some(rectify(kind)?) } else { None },
        ];
        for run in after.into_iter().flatten() {
            self.compute(run, to, &[to]);
        }
        Some(())
    }

    /// Instructions with more than three operands, or with a constant that decides what they do.
    pub(super) fn special_form(
        &mut self,
        base: &str,
        opcode: &mut Opcode<'_>,
        slots: &mut Vec<Slot>,
    ) -> Option<Compute> {
        match base {
            "lop3" if slots.len() == 4 && opcode.take("b32") => {
                // Table in the upper half of the third operand.
                let joined = self.slot();
                self.compute(lanes!(|a, b, _| a & 0xffff_ffff | b << 32), joined, &[slots[2], slots[3]]);
                *slots = vec![slots[0], slots[1], joined];
                Some(lanes!(|a, b, c| logic_of_three(a, b, c, c >> 32)))
            }
            "bfi" if slots.len() == 4 => {
                let kind = opcode.take_type()?;
                let place = self.slot();
                self.compute(lanes!(|a, b, _| a & 255 | (b & 255) << 8), place, &[slots[2], slots[3]]);
                *slots = vec![slots[0], slots[1], place];
                Some(insert_bits(8 * kind.bytes() as u32))
            }
            "dp4a" if slots.len() == 3 => {
                let (b, a) = (opcode.take_type()?, opcode.take_type()?);
                Some(dot_product(a.is_signed(), b.is_signed()))
            }
            "bmsk" if slots.len() == 2 && opcode.take("clamp") && opcode.take("b32") => {
                Some(lanes!(|a, b, _| {
                    let (from, length) = (a as u32, b as u32);
                    if from >= 32 { 0 } else { ((1u64 << length.min(32)) - 1) << from & 0xffff_ffff }
                }))
            }
            _ => None,
        }
    }

    pub(super) fn finish(mut self, function: &Function) -> Result<Kernel, DecodeError> {
        let branches = std::mem::take(&mut self.branches);
        for branch in branches {
            let mut targets = Vec::new();
            for label in &branch.labels {
                let found = branch.scopes.iter().find_map(|&scope| self.labels.get(&(scope, label.clone())));
                targets.push(*found.ok_or_else(|| DecodeError::Undeclared {
                    kernel: self.kernel.clone(),
                    instruction: "bra".to_string(),
                    name: label.clone(),
                })?);
            }
            match &mut self.steps[branch.step].operation {
                Operation::Branch { target } => *target = targets[0],
                Operation::BranchIndexed { targets: to, .. } => *to = targets.into(),
                _ => {}
            }
        }
        let mut constants: Vec<_> = self.constants.iter().map(|(&value, &slot)| (slot, value)).collect();
        if let Some((slot, align)) = self.dynamic_shared {
            self.shared_bytes = self.shared_bytes.next_multiple_of(align);
            constants.push((slot, self.shared_bytes));
        }
        let mut offset = 0;
        let mut parameters = Vec::new();
        for parameter in &function.parameters {
            offset = usize::next_multiple_of(offset, parameter.align);
            let bytes = parameter.bytes.unwrap_or(0);
            parameters.push(Parameter { offset, bytes });
            offset += bytes;
        }
        Ok(Kernel {
            name: self.kernel,
            steps: self.steps,
            instructions: self.instructions,
            slots: self.slots as usize,
            constants,
            specials: self.specials,
            parameters,
            local_bytes: self.local_bytes.next_multiple_of(16) as usize,
            shared_bytes: self.shared_bytes as usize,
            max_threads: function.max_threads.unwrap_or(1024).min(1024),
        })
    }
}

fn special(name: &str) -> Option<Special> {
    let axis = |name: &str| ["x", "y", "z"].iter().position(|axis| *axis == name);
    Some(match name.strip_prefix('%')?.split_once('.') {
        Some(("tid", which)) => Special::Thread(axis(which)?),
        Some(("ntid", which)) => Special::Threads(axis(which)?),
        Some(("ctaid", which)) => Special::Block(axis(which)?),
        Some(("nctaid", which)) => Special::Blocks(axis(which)?),
        Some(_) => return None,
        None => match name {
            "%laneid" => Special::Lane,
            "%warpid" => Special::Warp,
            "%nwarpid" => Special::Warps,
            "%lanemask_eq" => Special::Mask(|lane, own| lane == own),
            "%lanemask_lt" => Special::Mask(|lane, own| lane < own),
            "%lanemask_le" => Special::Mask(|lane, own| lane <= own),
            "%lanemask_gt" => Special::Mask(|lane, own| lane > own),
            "%lanemask_ge" => Special::Mask(|lane, own| lane >= own),
            "%dynamic_smem_size" => Special::DynamicShared,
            "%total_smem_size" => Special::TotalShared,
            _ => return None,
        },
    })
}

/// An instruction as its text, near enough to be found in the PTX.
fn text(instruction: &Instruction) -> String {
    pub(super) fn operand(each: &Operand) -> String {
        let list = |parts: &[Operand]| parts.iter().map(operand).collect::<Vec<_>>().join(", ");
        match each {
            Operand::Name(name) => name.clone(),
            Operand::Not(name) => format!("!{name}"),
            Operand::Integer(value) => format!("{}", *value as i64),
            Operand::Single(bits) => format!("0f{bits:08X}"),
            Operand::Double(bits) => format!("0d{bits:016X}"),
            Operand::Address(base, 0) => format!("[{}]", base.as_deref().unwrap_or("0")),
            Operand::Address(base, offset) => format!("[{}+{offset}]", base.as_deref().unwrap_or("")),
            Operand::Vector(parts) => format!("{{{}}}", list(parts)),
            Operand::Arguments(parts) => format!("({})", list(parts)),
            Operand::Pair(first, second) => format!("{}|{}", operand(first), operand(second)),
        }
    }
    let guard = match &instruction.guard {
        Some((name, negated)) => format!("@{}{name} ", if *negated { "!" } else { "" }),
        None => String::new(),
    };
    let operands: Vec<_> = instruction.operands.iter().map(operand).collect();
    format!("{guard}{} {}", instruction.name(), operands.join(", ")).trim_end().to_string()
}
