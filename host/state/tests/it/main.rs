//! The state directory from outside: durability, migrations, compare-and-set, damaged files.
#![expect(clippy::unwrap_used, reason = "tests")]

mod blobs;
mod transactions;
