//! Text to tokens and back.
//!
//! Every source ends in one path: a `tokenizer.json`, read from a directory, built from GGUF metadata or from the
//! vocabulary of gpt-oss that this program carries, run by the `tokenizers` crate. Decoding is done here, from a table of each token's bytes, because streaming needs bytes and
//! not strings that have lost the halves of characters.

#![deny(clippy::indexing_slicing)]

mod byte_level;
mod definition;
mod files;
mod harmony_vocabulary;
pub(crate) mod o200k_harmony;
pub(crate) mod pre_tokenizer;
mod stream;

use std::sync::{Arc, OnceLock};

use serde_json::Value;

pub(crate) use self::byte_level::character_of;
pub use self::files::TokenizerFiles;
pub use self::stream::TextStream;
use crate::error::ModelError;

/// Far beyond any vocabulary: the table of tokens has an entry for each id up to the largest.
const MAX_TOKEN_ID: u32 = (1 << 24) - 1;

/// A tokenizer; clones share everything.
#[derive(Clone)]
pub struct Tokenizer {
    shared: Arc<Shared>,
}

struct Shared {
    /// Finds special tokens in the text.
    parsing: tokenizers::Tokenizer,
    /// Takes special tokens in the text for ordinary characters; made when first asked for.
    literal: OnceLock<tokenizers::Tokenizer>,
    table: TokenTable,
    strips_leading_space: bool,
    bos: Option<u32>,
    eos: Vec<u32>,
    adds_bos: bool,
}

/// How a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Whether a special token's text in the input becomes that token. Off for text from outside that must not
    /// steer the model: it is then encoded as the characters it consists of.
    pub parse_special: bool,
    /// Whether the tokenizer's own additions (BOS in front, for models that use it) are made.
    pub add_special: bool,
}

/// Bytes and kind of every token.
struct TokenTable {
    bytes: Vec<u8>,
    /// Token i is `bytes[ends[i - 1]..ends[i]]`.
    ends: Vec<u32>,
    /// Sorted.
    special: Vec<u32>,
}

impl Tokenizer {
    /// Builds the tokenizer that `files` describe. `bos` and `eos` are what the model's configuration says; BOS by
    /// the files goes before it, end tokens are the union of both.
    ///
    /// # Errors
    /// No `tokenizer.json`, or one that the `tokenizers` crate refuses.
    pub fn new(files: &TokenizerFiles, bos: Option<u32>, eos: &[u32]) -> Result<Self, ModelError> {
        let Some(text) = &files.tokenizer_json else {
            return Err(ModelError::missing(
                "tokenizer.json",
                "a tokenizer in the form of the tokenizers library",
            ));
        };
        let mut parsing = definition::parse(text)?;
        // Files made for training may carry them; serving decides about lengths itself.
        parsing.with_padding(None);
        parsing.with_truncation(None).map_err(|error| ModelError::Tokenizer(error.to_string()))?;
        let table = TokenTable::new(&parsing)?;
        let bos = match files.special_token("bos_token") {
            Some(token) => parsing.token_to_id(token).or(bos),
            None => bos,
        };
        let mut eos = eos.to_vec();
        eos.extend(token_ids(files.generation_config.get("eos_token_id")));
        eos.extend(files.special_token("eos_token").and_then(|token| parsing.token_to_id(token)));
        eos.sort_unstable();
        eos.dedup();
        let additions = parsing.encode("", true).map_err(|error| ModelError::Tokenizer(error.to_string()))?;
        let adds_bos = bos.is_some() && additions.get_ids().first().copied() == bos;
        let strips_leading_space = byte_level::strips_leading_space(&parsing);
        let shared =
            Shared { parsing, literal: OnceLock::new(), table, strips_leading_space, bos, eos, adds_bos };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Text to tokens. With `special`, special tokens in the text are parsed and the tokenizer's own are added; a
    /// text that begins with BOS (chat templates write it themselves) doesn't get a second one. Without, every
    /// character is ordinary text and nothing is added.
    ///
    /// # Errors
    /// The `tokenizers` crate refuses the text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, ModelError> {
        self.encode_with(text, EncodeOptions { parse_special: special, add_special: special })
    }

    /// [`Tokenizer::encode`] with both choices apart.
    ///
    /// # Errors
    /// The `tokenizers` crate refuses the text.
    pub fn encode_with(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>, ModelError> {
        let shared = &*self.shared;
        let tokenizer = if options.parse_special {
            &shared.parsing
        } else {
            shared.literal.get_or_init(|| {
                let mut literal = shared.parsing.clone();
                literal.set_encode_special_tokens(true);
                literal
            })
        };
        let encoding = tokenizer.encode_fast(text, options.add_special).map_err(|error| {
            ModelError::Tokenizer(format!("text of {} bytes is refused: {error}", text.len()))
        })?;
        let ids = encoding.get_ids();
        let doubled = shared.adds_bos
            && matches!(ids, [first, second, ..] if first == second && Some(*first) == shared.bos);
        Ok(if options.add_special && doubled { ids.iter().skip(1).copied().collect() } else { ids.to_vec() })
    }

    /// Tokens to text; bytes that aren't UTF-8 become U+FFFD, unknown ids nothing.
    #[must_use]
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let kept = ids.iter().filter(|&&id| !(skip_special && self.is_special(id)));
        let bytes: Vec<u8> = kept.flat_map(|&id| self.token_bytes(id).unwrap_or_default()).copied().collect();
        String::from_utf8_lossy(self.without_leading_space(&bytes)).into_owned()
    }

    /// The bytes that a token stands for; `None` for an id without a token.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.shared.table.get(id)
    }

    /// The id of a token, by its text as `tokenizer.json` spells it.
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.shared.parsing.token_to_id(token)
    }

    /// Whether a token is a control token, which isn't part of the text.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.shared.table.special.binary_search(&id).is_ok()
    }

    /// Beginning-of-sequence token.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.shared.bos
    }

    /// Tokens that end a generation, ascending.
    #[must_use]
    pub fn eos(&self) -> &[u32] {
        &self.shared.eos
    }

    /// Whether [`Tokenizer::encode`] puts BOS in front.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.shared.adds_bos
    }

    /// One more than the largest id that has a token.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.shared.table.ends.len()
    }

    /// SentencePiece-style vocabularies put a space before the first word, which decoding takes away.
    fn without_leading_space<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        if self.shared.strips_leading_space { bytes.strip_prefix(b" ").unwrap_or(bytes) } else { bytes }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shared { bos, eos, adds_bos, .. } = &*self.shared;
        let tokens = self.vocab_size();
        formatter
            .debug_struct("Tokenizer")
            .field("tokens", &tokens)
            .field("bos", bos)
            .field("eos", eos)
            .field("adds_bos", adds_bos)
            .finish_non_exhaustive()
    }
}

impl TokenTable {
    fn new(tokenizer: &tokenizers::Tokenizer) -> Result<Self, ModelError> {
        let added = tokenizer.get_added_tokens_decoder();
        let spelling = byte_level::Spelling::of(tokenizer);
        let mut tokens: Vec<(u32, Vec<u8>)> = tokenizer
            .get_vocab(false)
            .into_iter()
            .filter(|(_, id)| !added.contains_key(id))
            .map(|(token, id)| (id, spelling.bytes(&token)))
            .chain(added.iter().map(|(&id, token)| (id, token.content.clone().into_bytes())))
            .collect();
        tokens.sort_unstable_by_key(|&(id, _)| id);
        if let Some(&(id, _)) = tokens.last().filter(|&&(id, _)| id > MAX_TOKEN_ID) {
            return Err(ModelError::Tokenizer(format!(
                "tokenizer.json is refused: a token has the id {id}, expected at most {MAX_TOKEN_ID}"
            )));
        }
        let mut special: Vec<u32> =
            added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id).collect();
        special.sort_unstable();
        let mut table = Self { bytes: Vec::new(), ends: Vec::new(), special };
        for (id, bytes) in tokens {
            let end = table.bytes.len() as u32;
            table.ends.resize(id as usize, end);
            table.bytes.extend_from_slice(&bytes);
            table.ends.push(table.bytes.len() as u32);
        }
        Ok(table)
    }

    fn get(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)? as usize;
        let start = match id.checked_sub(1) {
            Some(previous) => *self.ends.get(previous)? as usize,
            None => 0,
        };
        self.bytes.get(start..end)
    }
}

/// `eos_token_id` and its like may be one id or a list.
pub(crate) fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}
