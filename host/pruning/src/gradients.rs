//! The weights with gradients, for policies that ask for them.
//!
//! A backward pass wants every weight as f32, whatever the checkpoint's format, so room for that is looked for before
//! anything is computed.

use espalier_model::{Checkpoint, ModelSpec};
use espalier_training::{Network, Parameters, Trainable};

use crate::error::PruningError;

/// The model of `checkpoint` with gradients of its activations; no weight trains.
///
/// # Errors
/// A tensor that cannot be read.
pub(crate) fn network(checkpoint: &Checkpoint) -> Result<Network, PruningError> {
    let parameters = Parameters::load(checkpoint, Trainable::Nothing)?;
    Ok(Network::new(checkpoint.spec(), &parameters, None)?)
}

/// Whether the weights fit in memory as f32; if not, why not. A system that does not say what is free is believed to have
/// enough.
pub(crate) fn check_memory(spec: &ModelSpec) -> Result<(), String> {
    let weights: usize = spec.tensors().iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    check_room(weights as u64 * size_of::<f32>() as u64, available_bytes())
}

fn check_room(needed: u64, available: Option<u64>) -> Result<(), String> {
    match available {
        Some(available) if needed > available => Err(format!(
            "its backward pass needs the weights as f32, {needed} bytes, and {available} bytes of memory are available"
        )),
        _ => Ok(()),
    }
}

/// Memory that can be had without swapping, in bytes.
fn available_bytes() -> Option<u64> {
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_beyond_the_memory_is_refused_with_both_sizes() {
        let reason = check_room(80_000_000_000, Some(20_000_000_000)).unwrap_err();
        assert!(reason.contains("80000000000 bytes, and 20000000000"), "{reason}");
        assert_eq!(check_room(80_000_000_000, None), Ok(()));
        assert_eq!(check_room(5, Some(5)), Ok(()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_says_what_is_available() {
        assert!(available_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
