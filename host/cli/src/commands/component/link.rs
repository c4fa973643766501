//! `espalier component link`: a component of a core module, for languages whose linker stops at modules.
//!
//! The module says what world it has: the interfaces in C that `component new` writes come with an object file that does.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use wit_component::ComponentEncoder;

/// Options of `component link`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The core module.
    #[arg(value_name = "FILE.wasm")]
    module: PathBuf,
    /// Receives the component; is overwritten.
    #[arg(long, value_name = "FILE.wasm")]
    out: PathBuf,
}

/// Runs `component link`.
pub(super) fn run(args: &Args) -> Result<()> {
    let module = args.module.display();
    let bytes = fs::read(&args.module).with_context(|| format!("{module} cannot be read"))?;
    let component = ComponentEncoder::default()
        .module(&bytes)
        .and_then(|encoder| encoder.validate(true).encode())
        .with_context(|| format!("{module} is no module that a component can be made of"))?;
    fs::write(&args.out, component).with_context(|| format!("{} cannot be written", args.out.display()))
}
