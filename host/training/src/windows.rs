//! Texts as windows of tokens, and the order in which a run sees them.
//!
//! Each file is tokenised on its own and cut into disjoint windows, so that no window mixes files; what is left at the end
//! of a file is less than a window and is not used. Every pass over the windows has an order of its own, which depends on
//! the seed and the number of the pass alone, so that a run can go on anywhere.

use std::path::{Path, PathBuf};

use espalier_model::{ModelSpec, Tokenizer};
use sha2::{Digest, Sha256};

use crate::error::TrainingError;
use crate::random::{generator, permutation};

/// All windows of a run.
#[derive(Clone, Debug)]
pub struct Windows {
    windows: Vec<Vec<u32>>,
    seed: u64,
}

impl Windows {
    /// Reads and tokenises `files`; a window has `window_tokens` tokens, a leading beginning-of-sequence token included
    /// for models that have one.
    ///
    /// # Errors
    /// A file that cannot be read or is not UTF-8, less text than one window.
    pub fn read(
        files: &[PathBuf],
        tokenizer: &Tokenizer,
        spec: &ModelSpec,
        window_tokens: usize,
        seed: u64,
    ) -> Result<Self, TrainingError> {
        let lead = if spec.add_bos { spec.bos } else { None };
        let text_tokens = window_tokens.saturating_sub(usize::from(lead.is_some())).max(1);
        let mut windows = Vec::new();
        for path in files {
            let tokens = tokenizer.encode(&read_text(path)?, false)?;
            let cut = tokens.chunks_exact(text_tokens);
            windows.extend(cut.map(|tokens| lead.iter().chain(tokens).copied().collect()));
        }
        Self::new(windows, seed).ok_or_else(|| {
            let expected = format!("at least one of {window_tokens} tokens");
            TrainingError::argument("windows of the texts", 0, expected)
        })
    }

    /// Windows that are there already; `None` if there are none.
    #[must_use]
    pub fn new(windows: Vec<Vec<u32>>, seed: u64) -> Option<Self> {
        (!windows.is_empty()).then_some(Self { windows, seed })
    }

    /// The first `kept` of these windows and `others`.
    #[must_use]
    pub(crate) fn mixed_with(mut self, kept: usize, others: Vec<Vec<u32>>) -> Self {
        self.windows.truncate(kept);
        self.windows.extend(others);
        self
    }

    /// Windows in one pass.
    #[must_use]
    pub fn count(&self) -> usize {
        self.windows.len()
    }

    /// The windows with the numbers `first..first + count` of the run, which are drawn without replacement within a pass.
    #[must_use]
    pub fn take(&self, first: u64, count: usize) -> Vec<Vec<u32>> {
        let length = self.windows.len() as u64;
        let mut order: (u64, Vec<usize>) = (u64::MAX, Vec::new());
        let mut taken = Vec::with_capacity(count);
        for number in first..first + count as u64 {
            let pass = number / length;
            if order.0 != pass {
                let random = &mut generator(&format!("pass {pass}"), self.seed);
                order = (pass, permutation(random, self.windows.len()));
            }
            let place = order.1.get((number % length) as usize);
            taken.extend(place.and_then(|place| self.windows.get(*place)).cloned());
        }
        taken
    }

    /// A hash of all tokens.
    pub(crate) fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for window in &self.windows {
            for token in window {
                hash.update(token.to_le_bytes());
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A text file.
pub(crate) fn read_text(path: &Path) -> Result<String, TrainingError> {
    let bytes = std::fs::read(path).map_err(TrainingError::file("read", path))?;
    String::from_utf8(bytes).map_err(|error| {
        let found = format!("a byte that is not UTF-8 at {}", error.utf8_error().valid_up_to());
        TrainingError::argument(path.display().to_string(), found, "UTF-8 text")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_comes_once_in_each_pass_and_passes_differ() {
        let windows = Windows::new((0..10).map(|token| vec![token]).collect(), 3).unwrap();
        let run: Vec<u32> = windows.take(0, 30).concat();
        for pass in run.chunks(10) {
            let mut sorted = pass.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(run[..10], run[10..20]);
        assert_eq!(windows.take(7, 8).concat(), run[7..15], "a run goes on anywhere");
        assert!(Windows::new(Vec::new(), 0).is_none());
    }
}
