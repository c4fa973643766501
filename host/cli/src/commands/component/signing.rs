//! `espalier component keygen` and `sign`: keys, and detached signatures of components. No host takes part.

use std::fs;
use std::io::{Write as _, stdout};
use std::path::Path;

use anyhow::{Context as _, Result};
use espalier_components::{Signature, SigningKey, read_component};
use espalier_state::Digest;

/// Writes `NAME.key` and `NAME.pub`.
pub(super) fn keygen(name: &str, folder: &Path) -> Result<()> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the system gives no random numbers")?;
    let key = SigningKey::from_seed(&seed);
    let line = key.public().line(name)?;
    let (private, public) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pub")));
    key.write(&private)?;
    fs::write(&public, line).with_context(|| format!("cannot write {}", public.display()))?;
    writeln!(
        stdout(),
        "{} signs: keep it to yourself\n{} is the line for the file of a host's --component-keys",
        private.display(),
        public.display()
    )?;
    Ok(())
}

/// Writes the signature beside the component.
pub(super) fn sign(component: &Path, key: &Path) -> Result<()> {
    let digest = Digest::of(&read_component(component)?);
    let signature = SigningKey::read(key)?.sign(digest);
    let path = Signature::path_of(component);
    signature.write(&path)?;
    writeln!(stdout(), "{} vouches for {digest}", path.display())?;
    Ok(())
}
