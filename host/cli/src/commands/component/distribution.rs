//! `espalier component pull`, `push` and `deploy --from`: components in OCI registries.

use std::fs;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;
use espalier_components::{HostConfig, Signature, read_component};

use crate::admin::{Admin, segment};
use crate::oci::{Pulled, Reference, Registry};

/// Which artifact, and how its registry is spoken to.
#[derive(ClapArgs, Debug)]
pub(super) struct PullArgs {
    /// REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:DIGEST.
    reference: Reference,
    /// The file to write [default: the last part of REPOSITORY, with .wasm].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Speak plain HTTP to a registry that is not on this machine.
    #[arg(long)]
    plain_http: bool,
}

/// What is pushed where.
#[derive(ClapArgs, Debug)]
pub(super) struct PushArgs {
    /// A path ending in .wasm, or a component of the running host: a digest, a name, or name@version.
    component: String,
    /// REGISTRY/REPOSITORY:TAG.
    reference: Reference,
    /// Speak plain HTTP to a registry that is not on this machine.
    #[arg(long)]
    plain_http: bool,
}

/// Fetches a component for a deployment.
pub(super) fn fetch(reference: &Reference, plain_http: bool) -> Result<Pulled> {
    Registry::new(reference.clone(), plain_http).pull(HostConfig::default().component_bytes)
}

/// Writes a component's file and, if it was signed, the signature beside it.
pub(super) fn pull(args: &PullArgs) -> Result<()> {
    let path = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.wasm", args.reference.name())));
    let beside = Signature::path_of(&path);
    // Before anything is fetched; a signature that stayed from another file would be a false one.
    for path in [&path, &beside] {
        if path.exists() {
            bail!("{} is there already, expected a new file: choose one with --out", path.display());
        }
    }
    let Pulled { component, signature } = fetch(&args.reference, args.plain_http)?;
    write(&path, &component)?;
    let signed = match &signature {
        Some(signature) => {
            signature.write(&beside)?;
            format!(", signed with the key {}", signature.key())
        }
        None => String::new(),
    };
    writeln!(stdout(), "{} is written: {} bytes{signed}", path.display(), component.len())?;
    Ok(())
}

/// Stores a component in a registry, with its signature.
pub(super) fn push(admin: &Admin, args: &PushArgs) -> Result<()> {
    let (component, signature) = if args.component.ends_with(".wasm") {
        let path = Path::new(&args.component);
        (read_component(path)?, Signature::beside(path)?)
    } else {
        deployed(admin, &args.component)?
    };
    let registry = Registry::new(args.reference.clone(), args.plain_http);
    let digest = registry.push(&args.component, &component, signature.as_ref())?;
    let signed = if signature.is_some() { "signed" } else { "unsigned" };
    writeln!(stdout(), "{} is pushed, {signed}: its manifest is sha256:{digest}", args.reference)?;
    Ok(())
}

/// A component of the running host with its signature.
fn deployed(admin: &Admin, reference: &str) -> Result<(Vec<u8>, Option<Signature>)> {
    let path = format!("components/{}", segment(reference));
    let record = admin.get(&path)?;
    let signature = record["signature"].as_str().map(str::parse).transpose()?;
    let component = admin.download(&format!("{path}/file"), HostConfig::default().component_bytes)?;
    Ok((component, signature))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
