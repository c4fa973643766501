//! A warp: its registers, where each lane is in the program, and the instructions of single lanes.

use std::collections::VecDeque;

use super::fault::{Cause, Stop};
use super::memory::{Memory, POISON, raw_read, raw_write};
use super::shared::{Access, Accessor, Shared, Times};
use crate::program::{
    AccessSpace, Address, Kernel, LOCAL_WINDOW, Lanes, Operation, PARAM_WINDOW, SHARED_WINDOW, Slot, Special,
    Update, WARP,
};

/// What all warps of a block work on.
pub(crate) struct Surroundings<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) memory: &'a Memory,
    pub(crate) parameters: &'a [u8],
    pub(crate) shared: &'a mut Shared,
    pub(crate) threads: [u32; 3],
    pub(crate) blocks: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: usize,
    /// Lanes that came to a barrier since this was last looked at.
    pub(crate) arrivals: Vec<Arrival>,
    /// Instructions of warps that were run.
    pub(crate) count: u64,
}

/// Lanes at a barrier.
pub(crate) struct Arrival {
    pub(crate) warp: usize,
    pub(crate) lanes: u32,
    pub(crate) id: usize,
    pub(crate) threads: Option<u64>,
    pub(crate) waits: bool,
    pub(crate) votes: u32,
}

/// A copy that is under way.
struct Copy {
    to: u64,
    from: u64,
    bytes: usize,
    source_bytes: usize,
}

#[derive(Default)]
struct Copies {
    open: Vec<Copy>,
    groups: VecDeque<Vec<Copy>>,
}

pub(crate) struct Warp {
    pub(crate) index: usize,
    pub(crate) registers: Vec<Lanes>,
    pub(crate) place: [usize; WARP],
    /// Lanes that exist.
    pub(crate) present: u32,
    pub(crate) exited: u32,
    /// Lanes that wait for others of their warp.
    pub(crate) waiting: u32,
    /// Lanes at a barrier, and at which.
    pub(crate) stopped: u32,
    pub(crate) barrier: [usize; WARP],
    pub(crate) times: Times,
    local: Vec<u8>,
    copies: Vec<Copies>,
    /// The allocation that was accessed last.
    near: (u64, u64),
}

pub(crate) fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    (0..WARP).filter(move |lane| mask >> lane & 1 != 0)
}

impl Warp {
    pub(crate) fn new(index: usize, around: &Surroundings<'_>, now: u32) -> Self {
        let kernel = around.kernel;
        let threads = around.threads.iter().product::<u32>() as usize;
        let lanes = (threads - index * WARP).min(WARP);
        let mut registers = vec![[u64::MAX; WARP]; kernel.slots];
        for &(slot, value) in &kernel.constants {
            registers[slot as usize] = [value; WARP];
        }
        for &(slot, special) in &kernel.specials {
            registers[slot as usize] = std::array::from_fn(|lane| around.special(special, index, lane));
        }
        Self {
            index,
            registers,
            place: [0; WARP],
            present: if lanes == WARP { u32::MAX } else { (1 << lanes) - 1 },
            exited: 0,
            waiting: 0,
            stopped: 0,
            barrier: [0; WARP],
            times: [now; WARP],
            local: vec![POISON; kernel.local_bytes * WARP],
            copies: (0..WARP).map(|_| Copies::default()).collect(),
            near: (0, 0),
        }
    }

    pub(crate) fn ready(&self) -> u32 {
        self.present & !self.exited & !self.waiting & !self.stopped
    }

    pub(crate) fn get(&self, slot: Slot, lane: usize) -> u64 {
        self.registers[slot as usize][lane]
    }

    pub(crate) fn set(&mut self, slot: Slot, lane: usize, value: u64) {
        self.registers[slot as usize][lane] = value;
    }

    pub(crate) fn predicate(&self, slot: Slot) -> u32 {
        let lanes = &self.registers[slot as usize];
        (0..WARP).fold(0, |mask, lane| mask | ((lanes[lane] & 1) as u32) << lane)
    }

    /// Runs ready lanes until none is left or the budget is used up. `pick` chooses among the places where lanes are;
    /// 0 is the lowest.
    pub(crate) fn run(
        &mut self,
        around: &mut Surroundings<'_>,
        budget: u32,
        mut pick: usize,
    ) -> Result<(), Stop> {
        let mut left = budget;
        while left > 0 && self.ready() != 0 {
            let mut places: Vec<usize> = lanes_of(self.ready()).map(|lane| self.place[lane]).collect();
            places.sort_unstable();
            places.dedup();
            let at = places[std::mem::take(&mut pick) % places.len()];
            let limit = places.iter().copied().find(|&place| place > at).unwrap_or(usize::MAX);
            let candidates = self.ready() | self.waiting;
            let group = lanes_of(candidates)
                .filter(|&lane| self.place[lane] == at)
                .fold(0, |mask, lane| mask | 1 << lane);
            self.waiting &= !group;
            self.run_group(around, group, at, limit, &mut left)?;
        }
        Ok(())
    }

    fn run_group(
        &mut self,
        around: &mut Surroundings<'_>,
        mut group: u32,
        mut at: usize,
        limit: usize,
        left: &mut u32,
    ) -> Result<(), Stop> {
        let kernel = around.kernel;
        while *left > 0 {
            *left -= 1;
            around.count += 1;
            let step = &kernel.steps[at];
            let active = match step.guard {
                None => group,
                Some((slot, negated)) => {
                    group & if negated { !self.predicate(slot) } else { self.predicate(slot) }
                }
            };
            match &step.operation {
                Operation::Compute { run, to, from } => {
                    let [a, b, c] = from.map(|slot| &self.registers[slot as usize]);
                    let result = run(a, b, c);
                    let to = &mut self.registers[*to as usize];
                    if active == u32::MAX {
                        *to = result;
                    } else {
                        for lane in 0..WARP {
                            to[lane] = if active >> lane & 1 != 0 { result[lane] } else { to[lane] };
                        }
                    }
                }
                Operation::Branch { target } => {
                    if active == group {
                        at = *target;
                    } else if active == 0 {
                        at += 1;
                    } else {
                        self.move_to(active, *target);
                        self.move_to(group & !active, at + 1);
                        return Ok(());
                    }
                    if at >= limit {
                        break;
                    }
                    continue;
                }
                Operation::BranchIndexed { targets, index } => {
                    self.move_to(group, at + 1);
                    for lane in lanes_of(active) {
                        let index = self.get(*index, lane) & 0xffff_ffff;
                        let cause = Cause::BranchIndex { index, targets: targets.len() };
                        let target = targets.get(index as usize);
                        self.place[lane] = *target.ok_or(Stop { lane, step: at, cause })?;
                    }
                    return Ok(());
                }
                Operation::Exit => {
                    for lane in lanes_of(active) {
                        let copies = std::mem::take(&mut self.copies[lane]);
                        self.finish_copies(around, copies.groups.into_iter().flatten().chain(copies.open));
                    }
                    self.exited |= active;
                    group &= !active;
                    if group == 0 {
                        return Ok(());
                    }
                }
                Operation::Barrier { .. } | Operation::BarrierReduce { .. } => {
                    self.move_to(group & !active, at + 1);
                    self.move_to(active, at);
                    self.arrive(around, &step.operation, active, at)?;
                    if group == active && self.stopped & group == group {
                        return Ok(());
                    }
                    return Ok(());
                }
                together if together.needs_others() => {
                    // Those that came here before go on with these.
                    let met = lanes_of(self.waiting)
                        .filter(|&lane| self.place[lane] == at)
                        .fold(0, |mask, lane| mask | 1 << lane);
                    self.waiting &= !met;
                    group |= met;
                    let active = active | met;
                    if active != 0 && !self.together(around, together, active, at)? {
                        self.move_to(group & !active, at + 1);
                        self.move_to(active, at);
                        self.waiting |= active;
                        return Ok(());
                    }
                }
                single => {
                    for lane in lanes_of(active) {
                        self.single(around, single, lane).map_err(|cause| Stop { lane, step: at, cause })?;
                    }
                }
            }
            at += 1;
            if at >= limit {
                break;
            }
        }
        self.move_to(group, at);
        Ok(())
    }

    pub(crate) fn move_to(&mut self, lanes: u32, place: usize) {
        for lane in lanes_of(lanes) {
            self.place[lane] = place;
        }
    }

    fn arrive(
        &mut self,
        around: &mut Surroundings<'_>,
        operation: &Operation,
        active: u32,
        at: usize,
    ) -> Result<(), Stop> {
        let Some(first) = lanes_of(active).next() else { return Ok(()) };
        let (id, threads, waits, votes) = match operation {
            Operation::Barrier { id, threads, waits } => (*id, *threads, *waits, 0),
            Operation::BarrierReduce { id, threads, predicate, .. } => {
                (*id, *threads, true, self.predicate(*predicate) & active)
            }
            _ => return Ok(()),
        };
        let id = self.get(id, first) & 0xffff_ffff;
        if id >= 16 {
            return Err(Stop { lane: first, step: at, cause: Cause::NoSuchBarrier { id } });
        }
        let id = id as usize;
        let threads = threads.map(|slot| self.get(slot, first) & 0xffff_ffff);
        let all = u64::from(around.threads.iter().product::<u32>());
        if let Some(threads) = threads
            && (threads == 0 || threads % WARP as u64 != 0 || threads > all.next_multiple_of(WARP as u64))
        {
            return Err(Stop { lane: first, step: at, cause: Cause::BarrierThreads { id, threads } });
        }
        if waits {
            self.stopped |= active;
            for lane in lanes_of(active) {
                self.barrier[lane] = id;
            }
        } else {
            self.move_to(active, at + 1);
        }
        around.arrivals.push(Arrival { warp: self.index, lanes: active, id, threads, waits, votes });
        Ok(())
    }

    fn single(
        &mut self,
        around: &mut Surroundings<'_>,
        operation: &Operation,
        lane: usize,
    ) -> Result<(), Cause> {
        match operation {
            Operation::Load { at, to, bytes, signed } => {
                let mut buffer = [0; 64];
                let buffer = &mut buffer[..bytes * to.len()];
                self.load(around, *at, lane, buffer)?;
                for (&slot, piece) in to.iter().zip(buffer.chunks(*bytes)) {
                    let mut value = word(piece);
                    if *signed && *bytes < 8 {
                        let shift = 64 - 8 * *bytes as u32;
                        value = ((value << shift) as i64 >> shift) as u64;
                    }
                    self.set(slot, lane, value);
                }
            }
            Operation::Store { at, from, bytes } => {
                let mut buffer = [0; 64];
                for (&slot, piece) in from.iter().zip(buffer.chunks_mut(*bytes)) {
                    piece[..(*bytes).min(8)]
                        .copy_from_slice(&self.get(slot, lane).to_le_bytes()[..(*bytes).min(8)]);
                }
                self.store(around, *at, lane, &buffer[..bytes * from.len()])?;
            }
            Operation::Atomic { at, update, to, from, bytes } => {
                let values = from.map(|slot| self.get(slot, lane));
                let old = self.atomic(around, *at, lane, *bytes, *update, values)?;
                if let Some(to) = to {
                    self.set(*to, lane, old);
                }
            }
            Operation::CopyAsync { to, from, bytes, source_bytes } => {
                self.start_copy(around, lane, (*to, *from), *bytes, *source_bytes)?;
            }
            Operation::CommitCopies => {
                let group = std::mem::take(&mut self.copies[lane].open);
                self.copies[lane].groups.push_back(group);
            }
            Operation::WaitCopies { pending } => {
                let copies = &mut self.copies[lane].groups;
                let done = copies.len().saturating_sub(*pending);
                let ended: Vec<_> = copies.drain(..done).flatten().collect();
                self.finish_copies(around, ended.into_iter());
            }
            Operation::WaitAllCopies => {
                let copies = std::mem::take(&mut self.copies[lane]);
                self.finish_copies(around, copies.groups.into_iter().flatten().chain(copies.open));
            }
            Operation::Clock { to, nanoseconds } => {
                let cycles = around.count;
                self.set(*to, lane, if *nanoseconds { cycles } else { cycles * 2 });
            }
            Operation::Trap => return Err(Cause::Trap),
            _ => {}
        }
        Ok(())
    }

    fn resolve(&self, at: Address, lane: usize) -> (AccessSpace, u64) {
        let address = self.get(at.base, lane).wrapping_add(at.offset as u64);
        if at.space != AccessSpace::Generic {
            return (at.space, address);
        }
        let inside = address & (SHARED_WINDOW - 1);
        match address & !(SHARED_WINDOW - 1) {
            SHARED_WINDOW => (AccessSpace::Shared, inside),
            LOCAL_WINDOW => (AccessSpace::Local, inside),
            PARAM_WINDOW => (AccessSpace::Param, inside),
            _ => (AccessSpace::Global, address),
        }
    }

    fn global(
        &mut self,
        around: &Surroundings<'_>,
        address: u64,
        bytes: usize,
        verb: &'static str,
    ) -> Result<(), Cause> {
        if !address.is_multiple_of(bytes as u64) {
            return Err(Cause::Misaligned { verb, bytes, address });
        }
        let (from, to) = self.near;
        if verb != "read" || address < from || address.saturating_add(bytes as u64) > to {
            self.near = around.memory.range(address, bytes, verb)?;
        }
        Ok(())
    }

    fn own(
        &mut self,
        address: u64,
        lane: usize,
        bytes: usize,
        verb: &'static str,
    ) -> Result<&mut [u8], Cause> {
        if !address.is_multiple_of(bytes as u64) {
            return Err(Cause::Misaligned { verb, bytes, address });
        }
        let size = self.local.len() / WARP;
        if address.saturating_add(bytes as u64) > size as u64 {
            let nearest = format!("; the thread has {size} bytes");
            return Err(Cause::OutOfBounds { verb, bytes, address, space: AccessSpace::Local, nearest });
        }
        let from = lane * size + address as usize;
        Ok(&mut self.local[from..from + bytes])
    }

    pub(crate) fn load(
        &mut self,
        around: &mut Surroundings<'_>,
        at: Address,
        lane: usize,
        into: &mut [u8],
    ) -> Result<(), Cause> {
        let (space, address) = self.resolve(at, lane);
        let bytes = into.len();
        match space {
            AccessSpace::Shared => {
                let who = Accessor { warp: self.index, lane, times: &self.times };
                into.copy_from_slice(around.shared.access(who, address, bytes, Access::Read, None)?);
            }
            AccessSpace::Local => into.copy_from_slice(self.own(address, lane, bytes, "read")?),
            AccessSpace::Param => {
                let found = around.parameters.get(address as usize..(address as usize).saturating_add(bytes));
                let nearest = format!("; the kernel has {} bytes", around.parameters.len());
                into.copy_from_slice(found.ok_or(Cause::OutOfBounds {
                    verb: "read",
                    bytes,
                    address,
                    space,
                    nearest,
                })?);
            }
            _ => {
                self.global(around, address, bytes, "read")?;
                // SAFETY: the access was just found to lie in a live allocation.
                unsafe { raw_read(address, into) };
            }
        }
        Ok(())
    }

    pub(crate) fn store(
        &mut self,
        around: &mut Surroundings<'_>,
        at: Address,
        lane: usize,
        from: &[u8],
    ) -> Result<(), Cause> {
        let (space, address) = self.resolve(at, lane);
        match space {
            AccessSpace::Shared => {
                let who = Accessor { warp: self.index, lane, times: &self.times };
                around
                    .shared
                    .access(who, address, from.len(), Access::Write, Some(from))?
                    .copy_from_slice(from);
            }
            AccessSpace::Local => self.own(address, lane, from.len(), "write")?.copy_from_slice(from),
            AccessSpace::Param => return Err(Cause::ReadOnly { bytes: from.len(), address }),
            _ => {
                self.global(around, address, from.len(), "write")?;
                // SAFETY: the access was just found to lie in a live allocation.
                unsafe { raw_write(address, from) };
            }
        }
        Ok(())
    }

    fn atomic(
        &mut self,
        around: &mut Surroundings<'_>,
        at: Address,
        lane: usize,
        bytes: usize,
        update: Update,
        [first, second]: [u64; 2],
    ) -> Result<u64, Cause> {
        let (space, address) = self.resolve(at, lane);
        match space {
            AccessSpace::Shared => {
                let who = Accessor { warp: self.index, lane, times: &self.times };
                let place = around.shared.access(who, address, bytes, Access::Atomic, None)?;
                let old = word(place);
                place.copy_from_slice(&update(old, first, second).to_le_bytes()[..bytes]);
                Ok(old)
            }
            AccessSpace::Global => {
                self.global(around, address, bytes, "atomic operation")?;
                let mut place = [0; 8];
                // SAFETY: the access was just found to lie in a live allocation.
                unsafe { raw_read(address, &mut place[..bytes]) };
                let old = word(&place[..bytes]);
                // SAFETY: as above.
                unsafe { raw_write(address, &update(old, first, second).to_le_bytes()[..bytes]) };
                Ok(old)
            }
            _ => Err(Cause::OutOfBounds {
                verb: "atomic operation",
                bytes,
                address,
                space,
                nearest: String::new(),
            }),
        }
    }

    /// The target is poisoned until the copy is waited for, so that a missing wait shows.
    fn start_copy(
        &mut self,
        around: &mut Surroundings<'_>,
        lane: usize,
        (to, from): (Address, Address),
        bytes: usize,
        source_bytes: Option<Slot>,
    ) -> Result<(), Cause> {
        let source_bytes =
            source_bytes.map_or(bytes, |slot| (self.get(slot, lane) as u32 as usize).min(bytes));
        let (_, to) = self.resolve(to, lane);
        let (_, from) = self.resolve(from, lane);
        if !from.is_multiple_of(bytes as u64) {
            return Err(Cause::Misaligned { verb: "read", bytes, address: from });
        }
        if source_bytes > 0 {
            around.memory.range(from, source_bytes, "read")?;
        }
        let who = Accessor { warp: self.index, lane, times: &self.times };
        around.shared.access(who, to, bytes, Access::Write, None)?.fill(POISON);
        self.copies[lane].open.push(Copy { to, from, bytes, source_bytes });
        Ok(())
    }

    fn finish_copies(&mut self, around: &mut Surroundings<'_>, copies: impl Iterator<Item = Copy>) {
        for copy in copies {
            let mut buffer = [0; 16];
            // SAFETY: the copy's start found the source in a live allocation, and none is freed while a kernel runs.
            unsafe { raw_read(copy.from, &mut buffer[..copy.source_bytes]) };
            if let Some(to) = around.shared.raw(copy.to, copy.bytes) {
                to.copy_from_slice(&buffer[..copy.bytes]);
            }
        }
    }
}

/// Up to eight bytes as a number.
pub(crate) fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

impl Surroundings<'_> {
    /// The place of a thread in its block.
    pub(crate) fn thread(&self, warp: usize, lane: usize) -> [u32; 3] {
        let number = (warp * WARP + lane) as u32;
        let [x, y, _] = self.threads;
        [number % x, number / x % y, number / x / y]
    }

    fn special(&self, special: Special, warp: usize, lane: usize) -> u64 {
        match special {
            Special::Thread(axis) => self.thread(warp, lane)[axis].into(),
            Special::Threads(axis) => self.threads[axis].into(),
            Special::Block(axis) => self.block[axis].into(),
            Special::Blocks(axis) => self.blocks[axis].into(),
            Special::Lane => lane as u64,
            Special::Warp => warp as u64,
            Special::Warps => u64::from(self.threads.iter().product::<u32>().div_ceil(WARP as u32)),
            Special::Mask(holds) => {
                (0..WARP).fold(0, |mask, other| mask | u64::from(holds(other, lane)) << other)
            }
            Special::DynamicShared => (self.shared_bytes - self.kernel.shared_bytes) as u64,
            Special::TotalShared => self.shared_bytes as u64,
        }
    }
}
