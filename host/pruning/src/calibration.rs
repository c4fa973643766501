//! The text that policies see: files to tokens to windows.
//!
//! Each file is tokenised on its own and cut into disjoint windows, so that no window mixes documents; a seeded draw
//! without replacement takes as many as asked for. The record of a draw names the files by content, so that a plan says
//! exactly what its scores were measured on.

use std::path::{Path, PathBuf};

use espalier_model::{ModelSpec, Tokenizer};
use espalier_state::Digest;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::error::PruningError;

/// The text that is used where none is named: passages of public-domain speeches, one document per line.
pub(crate) const BUILT_IN: &str = include_str!("../data/state-of-the-union.txt");

/// What a record calls it.
const BUILT_IN_NAME: &str = "built-in state-of-the-union.txt";

/// How much text a policy sees, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrationRequest {
    /// Windows to draw; all of them where the text has fewer.
    pub windows: usize,
    /// Tokens in a window, a leading beginning-of-sequence token included.
    pub window_tokens: usize,
    /// Seed of the draw.
    pub seed: u64,
}

impl Default for CalibrationRequest {
    /// 128 windows of 512 tokens, in line with the 128-1024 samples of the literature.
    fn default() -> Self {
        Self { windows: 128, window_tokens: 512, seed: 0 }
    }
}

/// One calibration file, by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationFile {
    /// The file's name without its directory.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its tokens in this model's vocabulary.
    pub tokens: usize,
}

/// What was drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationRecord {
    /// The files, in the order given.
    pub files: Vec<CalibrationFile>,
    /// Windows drawn.
    pub windows: usize,
    /// Tokens in each.
    pub window_tokens: usize,
    /// Seed of the draw.
    pub seed: u64,
}

/// Windows of tokens, ready for a forward pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calibration {
    /// The windows, each of `record.window_tokens` tokens.
    pub windows: Vec<Vec<u32>>,
    /// Where they come from.
    pub record: CalibrationRecord,
}

impl Calibration {
    /// Reads and tokenises `files`, or the built-in text where there are none, and draws windows.
    ///
    /// # Errors
    /// A file that cannot be read or is not UTF-8, no window or an impossible window length asked for, or less text
    /// than one window.
    pub fn draw(
        files: &[PathBuf],
        tokenizer: &Tokenizer,
        spec: &ModelSpec,
        request: &CalibrationRequest,
    ) -> Result<Self, PruningError> {
        let lead = if spec.add_bos { spec.bos } else { None };
        check_request(request, spec, lead.is_some())?;
        let text_tokens = request.window_tokens - usize::from(lead.is_some());
        let mut documents = Vec::new();
        let mut records = Vec::new();
        let mut add = |name: String, text: &str, parts: &mut dyn Iterator<Item = &str>| {
            let before = documents.len();
            for part in parts {
                documents.push(tokenizer.encode(part, false)?);
            }
            let tokens = documents.iter().skip(before).map(Vec::len).sum();
            records.push(CalibrationFile { name, sha256: Digest::of(text.as_bytes()), tokens });
            Ok::<_, PruningError>(())
        };
        for path in files {
            let text = read_text(path)?;
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            add(name, &text, &mut std::iter::once(text.as_str()))?;
        }
        if files.is_empty() {
            add(BUILT_IN_NAME.to_owned(), BUILT_IN, &mut BUILT_IN.lines())?;
        }
        let pool: Vec<&[u32]> =
            documents.iter().flat_map(|tokens| tokens.chunks_exact(text_tokens)).collect();
        if pool.is_empty() {
            return Err(PruningError::CalibrationTooShort {
                found: documents.iter().map(Vec::len).max().unwrap_or(0),
                expected: text_tokens,
            });
        }
        let windows: Vec<Vec<u32>> = draw(pool, request.windows, request.seed)
            .into_iter()
            .map(|tokens| lead.iter().chain(tokens).copied().collect())
            .collect();
        let record = CalibrationRecord {
            files: records,
            windows: windows.len(),
            window_tokens: request.window_tokens,
            seed: request.seed,
        };
        Ok(Self { windows, record })
    }
}

fn check_request(
    request: &CalibrationRequest,
    spec: &ModelSpec,
    leading_token: bool,
) -> Result<(), PruningError> {
    if request.windows == 0 {
        return Err(PruningError::CalibrationShape {
            field: "windows",
            found: 0,
            expected: "at least 1".to_owned(),
        });
    }
    let shortest = 1 + usize::from(leading_token);
    if request.window_tokens < shortest || request.window_tokens > spec.max_positions {
        return Err(PruningError::CalibrationShape {
            field: "window tokens",
            found: request.window_tokens,
            expected: format!("between {shortest} and the model's context of {}", spec.max_positions),
        });
    }
    Ok(())
}

fn read_text(path: &Path) -> Result<String, PruningError> {
    let bytes = std::fs::read(path).map_err(PruningError::file("read", path))?;
    String::from_utf8(bytes).map_err(|error| PruningError::CalibrationNotText {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })
}

/// Takes `count` items, or all, in an order that depends on the seed alone: a Fisher-Yates shuffle cut short.
fn draw<T>(mut items: Vec<T>, count: usize, seed: u64) -> Vec<T> {
    let mut random = Pcg64::seed_from_u64(seed);
    let count = count.min(items.len());
    for index in 0..count {
        let remaining = (items.len() - index) as u64;
        items.swap(index, index + below(&mut random, remaining) as usize);
    }
    items.truncate(count);
    items
}

/// A number in `0..bound`, without the bias of a plain remainder.
fn below(random: &mut Pcg64, bound: u64) -> u64 {
    let rejected = u64::MAX - u64::MAX % bound;
    loop {
        let value = random.next_u64();
        if value < rejected {
            return value % bound;
        }
    }
}
