//! The model that is served where none is named: a tiny gpt-oss inside the program.
//!
//! It is there so that a new user sees a host that answers, and has the whole architecture (experts in MXFP4, sinks,
//! windows, YaRN, Harmony) in 6 MB. `cargo xtask train-tiny` makes it. Weights are mapped from files, so it is unpacked into
//! the state directory once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use espalier_state::Digest;

/// The name under which it is served.
pub(crate) const NAME: &str = "tiny-gpt-oss";

/// The files of its directory.
const FILES: [(&str, &[u8]); 6] = [
    ("config.json", include_bytes!("../built-in-model/model/config.json")),
    ("generation_config.json", include_bytes!("../built-in-model/model/generation_config.json")),
    ("model.safetensors", include_bytes!("../built-in-model/model/model.safetensors")),
    ("special_tokens_map.json", include_bytes!("../built-in-model/model/special_tokens_map.json")),
    ("tokenizer.json", include_bytes!("../built-in-model/model/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../built-in-model/model/tokenizer_config.json")),
];

/// Where its directory is below `state_directory`, after unpacking it if it is not there. The directory's name has the
/// contents' hash, so that another version of the program gets another one.
///
/// # Errors
/// The disk.
pub(crate) fn unpack(state_directory: &Path) -> Result<PathBuf> {
    let digest = Digest::of(&FILES.map(|(_, bytes)| bytes).concat()).to_string();
    let parent = state_directory.join("built-in-models");
    let directory = parent.join(format!("{NAME}-{}", digest.get(..16).unwrap_or(&digest)));
    let whole = FILES.iter().all(|(name, bytes)| {
        fs::metadata(directory.join(name)).is_ok_and(|facts| facts.len() == bytes.len() as u64)
    });
    if whole {
        return Ok(directory);
    }
    let partial = parent.join(format!(".{NAME}-{}", std::process::id()));
    let write = || {
        fs::create_dir_all(&partial)?;
        for (name, bytes) in FILES {
            fs::write(partial.join(name), bytes)?;
        }
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::rename(&partial, &directory)
    };
    write().with_context(|| format!("can't unpack the built-in model to {}", directory.display()))?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use espalier_evaluation::log_probability;
    use espalier_kernels::{Cpu, Precision, WeightFormat};
    use espalier_model::{Architecture, Checkpoint, Model};

    use super::*;

    #[test]
    fn it_is_unpacked_once_and_again_when_a_file_is_cut_off() {
        let state = tempfile::tempdir().unwrap();
        let directory = unpack(state.path()).unwrap();
        let file = directory.join("model.safetensors");
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        assert_eq!(unpack(state.path()).unwrap(), directory);
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);
        fs::write(&file, [1, 2, 3]).unwrap();
        Checkpoint::open(&unpack(state.path()).unwrap()).unwrap();
        assert_eq!(fs::read_dir(state.path().join("built-in-models")).unwrap().count(), 1);
    }

    #[test]
    fn it_has_the_whole_architecture_in_8_mb_and_has_learnt_something() {
        let state = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(&unpack(state.path()).unwrap()).unwrap();
        let spec = checkpoint.spec();
        assert_eq!(spec.architecture, Architecture::GptOss);
        assert!(spec.layers.iter().all(|layer| layer.attention_sinks && layer.experts.unwrap().count >= 16));
        let gate = checkpoint.tensor("model.layers.0.mlp.experts.gate_proj.weight").unwrap();
        assert_eq!(gate.format, WeightFormat::Mxfp4);
        assert!(FILES.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() <= 8_000_000);
        let tokenizer = checkpoint.tokenizer().unwrap();
        assert!(checkpoint.chat_format(&tokenizer).unwrap().is_some());
        let text =
            "The people of the United States have the right to expect that the Congress will pass this law.";
        let tokens = tokenizer.encode(text, false).unwrap();
        let model = Model::load(&checkpoint, Cpu::new(1).unwrap()).unwrap();
        let mut loss = 0.0;
        let mut sum = |first: usize, rows: &[f32]| {
            for (row, logits) in rows.chunks_exact(spec.vocab_size).enumerate() {
                let Some(&target) = tokens.get(first + row + 1) else { continue };
                loss -= log_probability(logits, target).unwrap();
            }
        };
        model.score(&tokens, Precision::Exact, None, Some(&mut sum)).unwrap();
        let uniform = (spec.vocab_size as f64).ln();
        let mean = loss / (tokens.len() - 1) as f64;
        assert!(mean < 0.7 * uniform, "{mean} nats per token, {uniform} without learning");
    }
}
