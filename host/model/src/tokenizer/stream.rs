//! Tokens to text, one token at a time.

use super::Tokenizer;

/// Turns a growing sequence of tokens into text of whole characters.
///
/// A character may be spread over several tokens; its bytes are held until the last one is there. The concatenation
/// of all [`TextStream::push`] results and [`TextStream::flush`] is what [`Tokenizer::decode`] gives for the whole
/// sequence, bytes that aren't UTF-8 becoming U+FFFD in the same places.
#[derive(Clone, Debug)]
pub struct TextStream {
    tokenizer: Tokenizer,
    skip_special: bool,
    pending: Vec<u8>,
    started: bool,
}

impl TextStream {
    /// A stream at the beginning of a sequence.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer: tokenizer.clone(), skip_special, pending: Vec::new(), started: false }
    }

    /// Adds a token; returns the characters that it completes, often none.
    pub fn push(&mut self, id: u32) -> String {
        if self.skip_special && self.tokenizer.is_special(id) {
            return String::new();
        }
        let mut bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
        if !self.started && !bytes.is_empty() {
            self.started = true;
            bytes = self.tokenizer.without_leading_space(bytes);
        }
        self.pending.extend_from_slice(bytes);
        self.take_whole_characters()
    }

    /// Ends the sequence: what is still held can't become a character any more and is returned as U+FFFD.
    pub fn flush(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }

    fn take_whole_characters(&mut self) -> String {
        let mut text = String::new();
        let mut unfinished = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            unfinished = chunk.invalid().len();
            if unfinished > 0 {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        let keep = self.pending.len() - unfinished;
        // Only the last chunk can be unfinished, and only if more bytes could still complete it.
        let tail = self.pending.get(keep..).unwrap_or_default();
        if matches!(std::str::from_utf8(tail), Err(error) if error.error_len().is_none()) {
            text.pop();
            self.pending.drain(..keep);
        } else {
            self.pending.clear();
        }
        text
    }
}
