//! The program from outside: what it prints and how it exits.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod copies;
mod errors;
mod models;
mod program;
mod recipes;
