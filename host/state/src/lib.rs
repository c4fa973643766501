//! The host's state directory: one SQLite database and a store of content-addressed blobs.
//!
//! Guarantees: what a returned call has written survives a kill and a power cut; a call that was cut short leaves the
//! state as it was before; a blob's bytes always match its digest. Several threads, and several processes, may share
//! one directory.
//!
//! This crate knows no tables of its own but the bookkeeping of migrations and revisions. Tables live with the crates
//! that own them, which create them through [`State::migrate`].

mod blobs;
mod digest;
mod error;
mod migrations;
mod revision;
mod store;

pub use blobs::Blobs;
pub use digest::Digest;
pub use error::StateError;
pub use revision::{Revision, advance_revision, current_revision};
pub use rusqlite;
pub use store::State;
