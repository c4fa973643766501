//! PTX as text: tokens, and the statements they form.
//!
//! Guarantees that every byte of a module was understood as syntax; says nothing about what an instruction means, which
//! is left to [`crate::program`].

mod parse;
mod syntax;
mod token;

pub use parse::{SyntaxError, parse};
pub use syntax::{Declaration, Function, Initialiser, Instruction, Module, Operand, Space, Statement, Type};
