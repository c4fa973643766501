//! The built-in policies, as components.

use std::path::{Path, PathBuf};

use espalier_components::{Component, DIRECTORY_VARIABLE, Host, HostConfig, ScoringPolicy};

/// The policy of this name.
pub(crate) fn policy(name: &str) -> ScoringPolicy {
    let host = Host::new(HostConfig::default()).unwrap();
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/components");
    let folder = std::env::var_os(DIRECTORY_VARIABLE).map_or_else(default, PathBuf::from);
    let bytes = std::fs::read(folder.join(format!("{name}.wasm")))
        .expect("build the guests with `cargo xtask setup`");
    let component: Component = host.load(name, &bytes, None).unwrap();
    ScoringPolicy::new(component).unwrap()
}
