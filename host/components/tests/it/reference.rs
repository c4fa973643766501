//! The reference pages in `docs/` say what the WIT and the built policies say. `UPDATE_DOCUMENTS=1` writes them.

mod policies;
mod wit;

use std::fs;
use std::path::Path;

/// Compares a page with what it must say, or writes it.
fn check(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(&path, expected).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/{name} is not up to date: run these tests with UPDATE_DOCUMENTS=1");
}
