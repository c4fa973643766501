//! What a PTX module consists of, as its text says it.

/// A fundamental type of PTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of PTX")]
pub enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
    Tf32,
}

impl Type {
    /// The type of this name, without its point.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "pred" => Self::Pred,
            "b8" => Self::B8,
            "b16" => Self::B16,
            "b32" => Self::B32,
            "b64" => Self::B64,
            "b128" => Self::B128,
            "u8" => Self::U8,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "u64" => Self::U64,
            "s8" => Self::S8,
            "s16" => Self::S16,
            "s32" => Self::S32,
            "s64" => Self::S64,
            "f16" => Self::F16,
            "f16x2" => Self::F16x2,
            "bf16" => Self::Bf16,
            "bf16x2" => Self::Bf16x2,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "tf32" => Self::Tf32,
            _ => return None,
        })
    }

    /// Bytes of one value in memory.
    pub fn bytes(self) -> usize {
        match self {
            Self::Pred | Self::B8 | Self::U8 | Self::S8 => 1,
            Self::B16 | Self::U16 | Self::S16 | Self::F16 | Self::Bf16 => 2,
            Self::B32 | Self::U32 | Self::S32 | Self::F32 | Self::F16x2 | Self::Bf16x2 | Self::Tf32 => 4,
            Self::B64 | Self::U64 | Self::S64 | Self::F64 => 8,
            Self::B128 => 16,
        }
    }

    /// Whether values are signed integers.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }

    /// Whether values are floating point numbers, packed pairs included.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Self::F16 | Self::F16x2 | Self::Bf16 | Self::Bf16x2 | Self::F32 | Self::F64 | Self::Tf32
        )
    }
}

/// Where a variable lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Memory of the device, also through an address that may point anywhere.
    Global,
    /// Memory of the device that kernels only read.
    Const,
    /// Memory of a block.
    Shared,
    /// Memory of a thread.
    Local,
    /// Arguments of a kernel or of a function.
    Param,
}

/// One operand of an instruction.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A register, a special register, a variable, a label or a function.
    Name(String),
    /// `!p`
    Not(String),
    /// An integer, as its two's complement.
    Integer(u64),
    /// `0f…`, the bits of an f32.
    Single(u32),
    /// `0d…`, the bits of an f64.
    Double(u64),
    /// `[base+offset]`; the base may be missing.
    Address(Option<String>, i64),
    /// `{a, b}`
    Vector(Vec<Operand>),
    /// `(a, b)` of a call.
    Arguments(Vec<Operand>),
    /// `d|p`
    Pair(Box<Operand>, Box<Operand>),
}

/// An instruction with its guard.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// The predicate that must hold, and whether it is negated.
    pub guard: Option<(String, bool)>,
    /// The opcode, cut at its points.
    pub opcode: Vec<String>,
    /// The operands in the order of the text.
    pub operands: Vec<Operand>,
}

impl Instruction {
    /// The opcode as the text has it.
    pub fn name(&self) -> String {
        self.opcode.join(".")
    }
}

/// The first value of a variable, element by element.
#[derive(Clone, Debug, PartialEq)]
pub enum Initialiser {
    /// Bits of the element's width.
    Bits(u64),
    /// The address of another variable, with an offset.
    Address(String, i64),
}

/// A variable.
#[derive(Clone, Debug, PartialEq)]
pub struct Declaration {
    /// Where it lives.
    pub space: Space,
    /// Its name.
    pub name: String,
    /// The type of an element.
    pub element: Type,
    /// Bytes of all of it; none where the launch decides (`extern .shared`).
    pub bytes: Option<usize>,
    /// Its address is a multiple of this.
    pub align: usize,
    /// First values; missing ones are zero.
    pub initialisers: Vec<Initialiser>,
}

/// One piece of a function's body.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// A place that branches go to.
    Label(String),
    /// An instruction.
    Instruction(Instruction),
    /// Registers `name0…` of a type, or one register if there is no count.
    Registers(Type, String, Option<usize>),
    /// A variable of this scope.
    Variable(Declaration),
    /// `{`
    Open,
    /// `}`
    Close,
    /// `.branchtargets`: the labels of a table for `brx.idx`.
    Targets(String, Vec<String>),
}

/// A kernel or a device function.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Whether it is a kernel.
    pub is_kernel: bool,
    /// What it gives back, for a device function.
    pub results: Vec<Declaration>,
    /// What it takes.
    pub parameters: Vec<Declaration>,
    /// The largest number of threads that it may be launched with, if it says so.
    pub max_threads: Option<u32>,
    /// Its statements; none of a function that is only declared.
    pub body: Option<Vec<Statement>>,
}

/// A module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// Variables of the module.
    pub variables: Vec<Declaration>,
    /// Kernels and functions.
    pub functions: Vec<Function>,
}
