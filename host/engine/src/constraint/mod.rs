//! Constrained decoding: a text is kept to a grammar while it is generated.
//!
//! A [`Grammar`] is compiled for one vocabulary by a [`ConstraintCompiler`] into a [`Constraint`], which says before each
//! token which tokens may come, and takes the one that came. Grammars come from outside: whatever they say, compiling
//! them and each step have limits of time and memory, and what goes beyond is an error and never a panic.
//!
//! Constraints know text only. Control tokens stand for no text, so they come where a grammar names them and nowhere
//! else; end tokens come where the text may end. How tokens are drawn is left to the sampler, what the end of a grammar
//! means for a request to the sequence.

mod compiler;
mod grammar;
mod intersections;
mod matcher;
mod message;
mod vocabulary;

pub use compiler::ConstraintCompiler;
pub use grammar::{Grammar, Notation};
pub(crate) use matcher::AllowedTokens;
pub use matcher::Constraint;
