//! A new model: its vocabulary from the texts, its weights drawn at random.

use espalier_model::chat::harmony::{HarmonyFormat, pieces_of_conversation, text_of};
use espalier_model::chat::{Conversation, Turn};
use espalier_model::{ModelSpec, TensorPart, TensorSpec, Tokenizer, TokenizerFiles};
use rand_pcg::rand_core::Rng;

use crate::configuration::NewModel;
use crate::error::TrainingError;
use crate::parameters::{Parameters, Trainable};
use crate::random::{generator, normal};
use crate::vocabulary::learn_vocabulary;

/// The words of a text that a made-up user quotes.
const QUOTED_WORDS: usize = 12;

/// The shape and the tokenizer of the new model.
///
/// # Errors
/// Texts with too few words for the vocabulary.
pub(crate) fn prepare(
    new: &NewModel,
    texts: &[String],
) -> Result<(ModelSpec, TokenizerFiles, Tokenizer), TrainingError> {
    let files = learn_vocabulary(texts, new.vocabulary)?;
    let tokenizer = Tokenizer::new(&files, None, &[])?;
    if tokenizer.vocab_size() != new.vocabulary {
        let expected = format!("{} pairs of tokens that occur twice", new.vocabulary);
        return Err(TrainingError::argument("vocabulary of the texts", tokenizer.vocab_size(), expected));
    }
    let mut spec = new.shape.spec()?;
    spec.bos = tokenizer.bos();
    spec.eos = tokenizer.eos().to_vec();
    spec.add_bos = false;
    Ok((spec, files, tokenizer))
}

/// Weights to begin with: norms 1, biases and sinks 0, matrices normally distributed, those that add to the residual stream
/// smaller by the root of twice the number of layers (GPT-2's initialisation).
///
/// # Errors
/// The tensor library.
pub(crate) fn parameters(spec: &ModelSpec, seed: u64) -> Result<Parameters, TrainingError> {
    let by_name: std::collections::HashMap<String, TensorSpec> =
        spec.tensors().into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    Parameters::new(spec, Trainable::All, |name, shape| {
        let count = shape.iter().product();
        let part = by_name.get(name).map(|tensor| tensor.part);
        if part == Some(TensorPart::Norm) {
            return Ok(vec![1.0; count]);
        }
        if !name.ends_with(".weight") {
            return Ok(vec![0.0; count]);
        }
        let columns = shape.last().copied().unwrap_or(1) as f32;
        let deviation = match part {
            // Rows of an embedding are normed before anything is multiplied with them.
            Some(TensorPart::Embedding) => 0.1,
            _ if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") => {
                0.7 / (columns * 2.0 * spec.layers.len() as f32).sqrt()
            }
            _ => 0.7 / columns.sqrt(),
        };
        Ok(normal(name, seed, count, deviation))
    })
}

/// Windows that are conversations: a user quotes the beginning of a paragraph, the model goes on with it.
///
/// # Errors
/// The tokenizer refuses a text.
pub(crate) fn conversations(
    texts: &[String],
    tokenizer: &Tokenizer,
    window_tokens: usize,
    count: usize,
    seed: u64,
) -> Result<Vec<Vec<u32>>, TrainingError> {
    let long_enough = |paragraph: &&str| paragraph.split_whitespace().count() > 4 * QUOTED_WORDS;
    let paragraphs: Vec<&str> = texts.iter().flat_map(|text| text.lines()).filter(long_enough).collect();
    let random = &mut generator("conversations", seed);
    let mut windows = Vec::with_capacity(count);
    while windows.len() < count && !paragraphs.is_empty() {
        let mut window = Vec::with_capacity(window_tokens);
        while window.len() < window_tokens {
            let place = (random.next_u64() % paragraphs.len() as u64) as usize;
            let Some(paragraph) = paragraphs.get(place) else { break };
            let words: Vec<&str> = paragraph.split_whitespace().collect();
            let first = (random.next_u64() % (words.len() - 2 * QUOTED_WORDS) as u64) as usize;
            let (quoted, rest) = words.get(first..).unwrap_or_default().split_at(QUOTED_WORDS);
            let day = 1 + random.next_u64() % 28;
            let month = 1 + random.next_u64() % 12;
            let year = 2024 + random.next_u64() % 6;
            let conversation = Conversation {
                turns: vec![
                    Turn::User(quoted.join(" ")),
                    Turn::Assistant { content: answer(rest), reasoning: None, tool_calls: Vec::new() },
                ],
                ..Conversation::default()
            };
            let messages = HarmonyFormat::messages(&conversation, &format!("{year}-{month:02}-{day:02}"));
            window.extend(tokenizer.encode(&text_of(&pieces_of_conversation(&messages)), true)?);
        }
        window.truncate(window_tokens);
        windows.push(window);
    }
    Ok(windows)
}

/// At most so many words, ended with a sentence where one ends.
fn answer(words: &[&str]) -> String {
    const MOST_WORDS: usize = 60;
    let words = words.get(..MOST_WORDS.min(words.len())).unwrap_or_default();
    let end = words.iter().rposition(|word| word.ends_with(['.', '?', '!']));
    words.get(..end.map_or(words.len(), |end| end + 1)).unwrap_or_default().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_fill_their_windows_and_end_their_answers() {
        let text = "One word after another makes a sentence of some length. ".repeat(30);
        let files = TokenizerFiles::harmony(&[]).unwrap();
        let tokenizer = Tokenizer::new(&files, None, &[]).unwrap();
        let windows = conversations(&[text], &tokenizer, 900, 3, 1).unwrap();
        assert_eq!(windows.len(), 3);
        for window in &windows {
            assert_eq!(window.len(), 900);
            let text = tokenizer.decode(window, false);
            assert!(text.starts_with("<|start|>system<|message|>"), "{text}");
            assert!(text.contains("<|start|>assistant<|channel|>final<|message|>"), "{text}");
            assert!(text.contains(".<|return|>") || text.contains(".<|end|>"), "{text}");
        }
        assert_ne!(windows[0], windows[1]);
        assert_eq!(answer(&["a", "b.", "c"]), "a b.");
        assert_eq!(answer(&["a", "b"]), "a b");
    }
}
