//! Log-probabilities as the two endpoints write them.
//!
//! Completions name tokens by their text, and by `bytes:\xNN…` where they are no whole characters, as OpenAI's do. Chats
//! give the bytes beside the text, which then has U+FFFD for what is no character.

use espalier_engine::TokenLogprobs;
use espalier_model::Tokenizer;
use serde_json::{Map, Value, json};

/// A token of a choice.
#[derive(Clone, Debug, PartialEq)]
pub struct LogprobEntry {
    bytes: Vec<u8>,
    /// A control token, which is no part of the text.
    is_special: bool,
    /// With the alternatives; `None` for the first token of a prompt, which nothing precedes.
    score: Option<Score>,
    /// Characters of the choice's text before it.
    offset: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Score {
    logprob: f32,
    /// Bytes and log-probabilities of the most probable tokens.
    top: Vec<(Vec<u8>, f32)>,
}

/// A prompt that precedes its completion.
#[derive(Clone, Debug)]
pub struct EchoedPrompt {
    /// Its first token.
    pub first: u32,
    /// Its text.
    pub text: String,
}

/// Gives the tokens of one choice their bytes and their places in its text.
#[derive(Clone, Debug)]
pub struct LogprobReader {
    tokenizer: Tokenizer,
    echo: Option<EchoedPrompt>,
    /// Whether a token of the completion has been read.
    has_begun: bool,
    /// Characters before the next token.
    offset: usize,
}

impl LogprobReader {
    /// At the beginning of a choice.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer, echo: Option<EchoedPrompt>) -> Self {
        Self { tokenizer: tokenizer.clone(), echo, has_begun: false, offset: 0 }
    }

    /// The entries of an echoed prompt, from the engine's scores of its second and later tokens.
    pub fn read_prompt(&mut self, scores: &[TokenLogprobs]) -> Vec<LogprobEntry> {
        let Some(EchoedPrompt { first, text }) = self.echo.take() else { return Vec::new() };
        let mut rest = text.as_bytes();
        let tokens =
            std::iter::once((first, None)).chain(scores.iter().map(|score| (score.token, Some(score))));
        let mut entries = Vec::with_capacity(scores.len() + 1);
        for (token, score) in tokens {
            let entry = self.entry(token, score);
            // BOS is not in a text that was tokenized, nor is the space that some tokenizers put in front of it.
            let bytes = entry.bytes.as_slice();
            let spaceless = bytes.strip_prefix(b" ").filter(|_| rest.len() == text.len());
            if let Some(left) = rest.strip_prefix(bytes).or_else(|| rest.strip_prefix(spaceless?)) {
                self.offset += characters(rest.get(..rest.len() - left.len()).unwrap_or_default());
                rest = left;
            }
            entries.push(entry);
        }
        self.offset = text.chars().count();
        entries
    }

    /// The entries of tokens of the completion.
    pub fn read(&mut self, scores: &[TokenLogprobs]) -> Vec<LogprobEntry> {
        scores
            .iter()
            .map(|score| {
                let entry = self.entry(score.token, Some(score));
                if !entry.is_special {
                    self.offset += if self.has_begun {
                        characters(&entry.bytes)
                    } else {
                        // Decoding takes away the space that some tokenizers put in front of a text.
                        self.tokenizer.decode(&[score.token], true).chars().count()
                    };
                    self.has_begun = true;
                }
                entry
            })
            .collect()
    }

    fn entry(&self, token: u32, score: Option<&TokenLogprobs>) -> LogprobEntry {
        let bytes = |token| self.tokenizer.token_bytes(token).unwrap_or_default().to_vec();
        let score = score.map(|score| Score {
            logprob: score.logprob,
            top: score.top.iter().map(|&(token, logprob)| (bytes(token), logprob)).collect(),
        });
        let is_special = self.tokenizer.is_special(token);
        LogprobEntry { bytes: bytes(token), is_special, score, offset: self.offset }
    }
}

/// The `logprobs` of a completion's choice or of a piece of it; `null` without entries.
#[must_use]
pub fn completion_logprobs(entries: &[&LogprobEntry]) -> Value {
    if entries.is_empty() {
        return Value::Null;
    }
    let tops = entries.iter().map(|entry| {
        let Some(score) = &entry.score else { return Value::Null };
        let mut top = Map::new();
        // The token itself is always there, also where it isn't among the most probable.
        let own = (&entry.bytes, score.logprob);
        for (bytes, logprob) in score.top.iter().map(|(bytes, logprob)| (bytes, *logprob)).chain([own]) {
            top.entry(completion_token(bytes)).or_insert_with(|| json!(logprob));
        }
        Value::Object(top)
    });
    json!({
        "tokens": entries.iter().map(|entry| completion_token(&entry.bytes)).collect::<Vec<_>>(),
        "token_logprobs": entries.iter().map(|entry| entry.score.as_ref().map(|score| score.logprob)).collect::<Vec<_>>(),
        "top_logprobs": tops.collect::<Vec<_>>(),
        "text_offset": entries.iter().map(|entry| entry.offset).collect::<Vec<_>>(),
    })
}

/// The `logprobs` of a chat's choice or of a piece of it, without control tokens; `null` without entries.
#[must_use]
pub fn chat_logprobs(entries: &[&LogprobEntry]) -> Value {
    let token = |bytes: &[u8], logprob: f32| json!({"token": String::from_utf8_lossy(bytes), "logprob": logprob, "bytes": bytes});
    let content: Vec<Value> = entries
        .iter()
        .filter(|entry| !entry.is_special)
        .filter_map(|entry| {
            let score = entry.score.as_ref()?;
            let mut written = token(&entry.bytes, score.logprob);
            if let Value::Object(written) = &mut written {
                let top = score.top.iter().map(|(bytes, logprob)| token(bytes, *logprob)).collect();
                written.insert("top_logprobs".into(), top);
            }
            Some(written)
        })
        .collect();
    if content.is_empty() { Value::Null } else { json!({"content": content, "refusal": null}) }
}

fn completion_token(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |text, byte| format!("{text}\\x{byte:02x}")),
    }
}

/// Characters that begin in `bytes`.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| *byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use espalier_model::TokenizerFiles;

    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::new(&TokenizerFiles::o200k_harmony().unwrap(), None, &[]).unwrap()
    }

    fn score(token: u32, top: &[u32]) -> TokenLogprobs {
        TokenLogprobs { token, logprob: -1.0, top: top.iter().map(|&token| (token, -0.5)).collect() }
    }

    #[test]
    fn offsets_are_places_of_characters_and_parts_of_characters_are_bytes() {
        let tokenizer = tokenizer();
        // The sign is of several tokens, none of which is a character.
        let text = "né ꙮ is<|end|>";
        let tokens = tokenizer.encode(text, true).unwrap();
        let scores: Vec<_> = tokens.iter().map(|&token| score(token, &[tokens[0]])).collect();
        let entries = LogprobReader::new(&tokenizer, None).read(&scores);
        let written = completion_logprobs(&entries.iter().collect::<Vec<_>>());
        let names: Vec<_> =
            written["tokens"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert!(names.iter().any(|name| name.starts_with("bytes:")), "{names:?}");
        for (name, offset) in names.iter().zip(written["text_offset"].as_array().unwrap()) {
            let offset = usize::try_from(offset.as_u64().unwrap()).unwrap();
            let rest: String = text.chars().skip(offset).collect();
            assert!(name.starts_with("bytes:") || rest.starts_with(name), "{name:?} at {offset}");
        }
        assert_eq!(names.last().unwrap(), &"<|end|>");
        let top = written["top_logprobs"].as_array().unwrap();
        assert_eq!(top[0].as_object().unwrap().len(), 1);
        assert_eq!(top[1].as_object().unwrap().len(), 2, "the token itself is added");
    }

    #[test]
    fn chats_have_bytes_and_no_control_tokens() {
        let tokenizer = tokenizer();
        let tokens = tokenizer.encode("é<|end|>", true).unwrap();
        let scores: Vec<_> = tokens.iter().map(|&token| score(token, &[tokens[0]])).collect();
        let entries = LogprobReader::new(&tokenizer, None).read(&scores);
        let written = chat_logprobs(&entries.iter().collect::<Vec<_>>());
        let top = json!([{"token": "é", "logprob": -0.5, "bytes": [0xc3, 0xa9]}]);
        let token = json!({"token": "é", "logprob": -1.0, "bytes": [0xc3, 0xa9], "top_logprobs": top});
        assert_eq!(written, json!({"content": [token], "refusal": null}));
    }

    #[test]
    fn an_echoed_prompt_comes_first_and_its_first_token_has_no_score() {
        let tokenizer = tokenizer();
        let tokens = tokenizer.encode("one two three", false).unwrap();
        let (first, rest) = tokens.split_first().unwrap();
        let echo = EchoedPrompt { first: *first, text: "one two three".into() };
        let mut reader = LogprobReader::new(&tokenizer, Some(echo));
        let scores: Vec<_> = rest.iter().map(|&token| score(token, &[])).collect();
        let mut entries = reader.read_prompt(&scores);
        entries.extend(reader.read(&[score(tokens[1], &[])]));
        let written = completion_logprobs(&entries.iter().collect::<Vec<_>>());
        assert_eq!(written["tokens"], json!(["one", " two", " three", " two"]));
        assert_eq!(written["token_logprobs"], json!([null, -1.0, -1.0, -1.0]));
        assert_eq!(written["top_logprobs"][0], Value::Null);
        assert_eq!(written["text_offset"], json!([0, 3, 7, 13]));
    }
}
