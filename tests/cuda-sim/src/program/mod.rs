//! A kernel decoded for the warp interpreter: every register, constant and special register is a numbered slot, every
//! instruction one or a few [`Step`]s on slots.
//!
//! Guarantees that a kernel which decodes has a meaning for each of its instructions: what the simulator doesn't know
//! fails the module's load, by name. Device functions are written out where they are called, so that a kernel needs no
//! call stack; a recursive one is refused.

mod arithmetic;
mod comparison;
mod conversion;
mod decode;
mod flow;
mod matrix;
mod memory;
mod predicate;
mod rounding;
mod scope;
mod transfer;

pub use decode::{DecodeError, Symbols, decode};
pub use matrix::{Element, Shape};

/// Threads of a warp.
pub const WARP: usize = 32;

/// One value for each lane of a warp.
pub type Lanes = [u64; WARP];

/// What an instruction without effects computes from up to three operands, for all lanes.
pub type Compute = fn(&Lanes, &Lanes, &Lanes) -> Lanes;

/// What an atomic operation leaves in memory: (old value, operand, second operand).
pub type Update = fn(u64, u64, u64) -> u64;

/// The number of a register or constant of a warp.
pub type Slot = u32;

/// Where generic addresses of shared memory begin.
pub const SHARED_WINDOW: u64 = 1 << 56;
/// Where generic addresses of a thread's own memory begin.
pub const LOCAL_WINDOW: u64 = 2 << 56;
/// Where generic addresses of a kernel's arguments begin.
pub const PARAM_WINDOW: u64 = 3 << 56;

/// Where an access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of PTX")]
pub enum AccessSpace {
    Global,
    Shared,
    Local,
    Param,
    /// The address says it.
    Generic,
}

/// An address: a slot and what is added to it.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// Where it goes.
    pub space: AccessSpace,
    /// The slot with the base.
    pub base: Slot,
    /// Bytes after the base.
    pub offset: i64,
}

/// How a shuffle finds the lane it reads.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names are those of PTX")]
pub enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// How the lanes' predicates become one.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names are those of PTX")]
pub enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

/// What `barrier.red` does with the threads' predicates.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names are those of PTX")]
pub enum BarrierReduction {
    And,
    Or,
    Count,
}

/// A register whose value the place of the thread decides.
#[derive(Clone, Copy, Debug)]
pub enum Special {
    /// `%tid`, by axis.
    Thread(usize),
    /// `%ntid`, by axis.
    Threads(usize),
    /// `%ctaid`, by axis.
    Block(usize),
    /// `%nctaid`, by axis.
    Blocks(usize),
    /// `%laneid`
    Lane,
    /// `%warpid`
    Warp,
    /// `%nwarpid`
    Warps,
    /// `%lanemask_*`: the lanes that compare so with the own.
    Mask(fn(usize, usize) -> bool),
    /// `%dynamic_smem_size`
    DynamicShared,
    /// `%total_smem_size`
    TotalShared,
}

/// What a step does.
#[derive(Clone, Debug)]
#[expect(
    missing_docs,
    reason = "the fields are the operands of the PTX instruction that each one carries out"
)]
pub enum Operation {
    Compute { run: Compute, to: Slot, from: [Slot; 3] },
    Load { at: Address, to: Box<[Slot]>, bytes: usize, signed: bool },
    Store { at: Address, from: Box<[Slot]>, bytes: usize },
    Atomic { at: Address, update: Update, to: Option<Slot>, from: [Slot; 2], bytes: usize },
    Branch { target: usize },
    BranchIndexed { targets: Box<[usize]>, index: Slot },
    Exit,
    Trap,
    Barrier { id: Slot, threads: Option<Slot>, waits: bool },
    BarrierReduce { id: Slot, threads: Option<Slot>, reduction: BarrierReduction, predicate: Slot, to: Slot },
    WarpBarrier { mask: Slot },
    Shuffle { how: Shuffle, to: Slot, valid: Option<Slot>, value: Slot, lane: Slot, clamp: Slot, mask: Slot },
    Vote { how: Vote, to: Slot, predicate: Slot, mask: Slot },
    MatchAny { to: Slot, value: Slot, mask: Slot },
    MatchAll { to: Slot, same: Option<Slot>, value: Slot, mask: Slot },
    ReduceWarp { run: Update, to: Slot, value: Slot, mask: Slot },
    ActiveMask { to: Slot },
    ElectLane { to: Option<Slot>, elected: Slot, mask: Slot },
    Multiply { shape: Shape, to: Box<[Slot]>, a: Box<[Slot]>, b: Box<[Slot]>, c: Box<[Slot]> },
    LoadMatrix { at: Address, to: Box<[Slot]>, transposed: bool },
    StoreMatrix { at: Address, from: Box<[Slot]>, transposed: bool },
    CopyAsync { to: Address, from: Address, bytes: usize, source_bytes: Option<Slot> },
    CommitCopies,
    WaitCopies { pending: usize },
    WaitAllCopies,
    Clock { to: Slot, nanoseconds: bool },
    Nothing,
}

/// One operation under its guard.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is done.
    pub operation: Operation,
    /// The predicate that must hold, and whether it is negated.
    pub guard: Option<(Slot, bool)>,
    /// Which of the kernel's instructions it belongs to.
    pub instruction: u32,
}

/// Where a parameter lies among a kernel's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// From the beginning of all arguments.
    pub offset: usize,
    /// Its size.
    pub bytes: usize,
}

/// A kernel ready to run.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its name in the module.
    pub name: String,
    /// What it does.
    pub steps: Vec<Step>,
    /// The text of its instructions, for errors.
    pub instructions: Vec<String>,
    /// How many slots a warp needs.
    pub slots: usize,
    /// The slots that never change.
    pub constants: Vec<(Slot, u64)>,
    /// The slots that depend on the thread alone.
    pub specials: Vec<(Slot, Special)>,
    /// Where its arguments lie.
    pub parameters: Vec<Parameter>,
    /// Bytes of a thread's own memory.
    pub local_bytes: usize,
    /// Bytes of shared memory that every launch has.
    pub shared_bytes: usize,
    /// The largest number of threads of a block.
    pub max_threads: u32,
}
