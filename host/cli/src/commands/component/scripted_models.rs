//! Models that answer what a file says, for the test of an endpoint.

use std::collections::VecDeque;
use std::future;
use std::task::{Context, Poll};

use espalier_components::{
    Answer, AnswerEnd, AnswerStep, Beginning, ServedModels, ServedVariant, SessionPrompt, SessionRefusal,
    SessionRequest,
};
use serde::Deserialize;

/// A variant and its answer to every prompt.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptedVariant {
    /// The model's name.
    model: String,
    /// The variant's name.
    name: String,
    /// The most tokens that a prompt and its answer have together.
    #[serde(default = "default_context_length")]
    context_length: usize,
    /// Whether it takes requests.
    #[serde(default = "default_accepts")]
    accepts: bool,
    /// The pieces that the answer comes in, each of one token.
    answer: Vec<String>,
}

const fn default_context_length() -> usize {
    2048
}

const fn default_accepts() -> bool {
    true
}

impl ScriptedVariant {
    fn address(&self) -> String {
        format!("{}@{}", self.model, self.name)
    }
}

/// The models of a file, each variant in the place that it has there.
pub(super) struct ScriptedModels(Vec<ScriptedVariant>);

impl ScriptedModels {
    pub(super) const fn new(variants: Vec<ScriptedVariant>) -> Self {
        Self(variants)
    }

    /// The variant of an address; of a model alone its first, as without a router.
    fn find(&self, model: &str) -> Option<&ScriptedVariant> {
        self.0.iter().find(|variant| variant.model == model || variant.address() == model)
    }

    fn answer(&self, request: &SessionRequest) -> Result<ScriptedAnswer, SessionRefusal> {
        let Some(variant) = self.find(&request.model) else {
            let known: Vec<_> = self.0.iter().map(ScriptedVariant::address).collect();
            let text = format!("model: found \"{}\", expected one of {}", request.model, known.join(", "));
            return Err(SessionRefusal::UnknownModel(text));
        };
        if !variant.accepts {
            return Err(SessionRefusal::Busy(format!("{} takes no requests", variant.address())));
        }
        let Some(most) = usize::try_from(request.max_tokens).ok().filter(|most| *most > 0) else {
            return Err(SessionRefusal::Invalid("max_tokens: found 0, expected at least 1".to_owned()));
        };
        let pieces: VecDeque<_> = variant.answer.iter().take(most).cloned().collect();
        let end = AnswerEnd {
            cut: pieces.len() < variant.answer.len(),
            prompt_tokens: words(&request.prompt),
            tokens: pieces.len(),
        };
        Ok(ScriptedAnswer { address: variant.address(), pieces, end })
    }
}

/// What counts as the tokens of a prompt.
fn words(prompt: &SessionPrompt) -> usize {
    let words = |text: &String| text.split_whitespace().count();
    match prompt {
        SessionPrompt::Text(text) => words(text),
        SessionPrompt::Messages(messages) => messages.iter().map(|(_, text)| words(text)).sum(),
    }
}

impl ServedModels for ScriptedModels {
    fn variants(&self) -> Vec<ServedVariant> {
        let served = |variant: &ScriptedVariant| ServedVariant {
            model: variant.model.clone(),
            name: variant.name.clone(),
            context_length: variant.context_length,
            accepts: variant.accepts,
        };
        self.0.iter().map(served).collect()
    }

    fn begin(&self, request: SessionRequest) -> Beginning {
        let answer = self.answer(&request).map(|answer| Box::new(answer) as Box<dyn Answer>);
        Box::pin(future::ready(answer))
    }
}

struct ScriptedAnswer {
    address: String,
    /// Those to come.
    pieces: VecDeque<String>,
    end: AnswerEnd,
}

impl Answer for ScriptedAnswer {
    fn answering(&self) -> &str {
        &self.address
    }

    fn poll_step(&mut self, _: &mut Context<'_>) -> Poll<AnswerStep> {
        Poll::Ready(self.pieces.pop_front().map_or(AnswerStep::Finished(self.end), AnswerStep::Text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> ScriptedModels {
        let file = r#"[
            {"model": "m", "name": "a", "answer": ["one", " two"]},
            {"model": "m", "name": "b", "accepts": false, "answer": []}
        ]"#;
        ScriptedModels::new(serde_json::from_str(file).unwrap())
    }

    fn request(model: &str, max_tokens: u32) -> SessionRequest {
        SessionRequest {
            model: model.to_owned(),
            prompt: SessionPrompt::Text("The pear tree".to_owned()),
            max_tokens,
            temperature: None,
            seed: None,
        }
    }

    #[test]
    fn an_answer_ends_at_its_last_piece_or_at_the_most_tokens() {
        for (most, tokens, cut) in [(1, 1, true), (2, 2, false), (9, 2, false)] {
            let answer = models().answer(&request("m", most)).unwrap();
            assert_eq!(answer.address, "m@a");
            assert_eq!(answer.pieces.len(), tokens);
            assert_eq!(answer.end, AnswerEnd { cut, prompt_tokens: 3, tokens });
        }
    }

    #[test]
    fn what_no_variant_answers_is_refused_with_the_reason() {
        let refusal = |model, most| models().answer(&request(model, most)).err().unwrap();
        let unknown = "model: found \"m@c\", expected one of m@a, m@b".to_owned();
        assert_eq!(refusal("m@c", 1), SessionRefusal::UnknownModel(unknown));
        assert_eq!(refusal("m@b", 1), SessionRefusal::Busy("m@b takes no requests".to_owned()));
        let none = "max_tokens: found 0, expected at least 1".to_owned();
        assert_eq!(refusal("m@a", 0), SessionRefusal::Invalid(none));
    }
}
