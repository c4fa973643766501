//! `POST /v1/completions`, parsed.

use espalier_engine::SamplingParams;
use serde_json::Value;

use crate::api_error::ApiError;
use crate::fields::Fields;
use crate::model_address::ModelAddress;
use crate::openai::completion_fields::COMPLETION_FIELDS;
use crate::openai::output_constraint::{OutputConstraint, structured_outputs};
use crate::openai::preference::Preference;
use crate::openai::request_field::{names, take_unimplemented};
use crate::openai::sampling::{CHOICE_LIMIT, Delivery, alternatives, choice_count, delivery, sampling, stop};
use crate::openai::scheduling::Scheduling;
use crate::openai::selection::Selection;

/// Most alternatives for a token, as in OpenAI's reference.
const LOGPROBS_LIMIT: u64 = 5;
/// OpenAI's default for this endpoint.
const DEFAULT_MAX_TOKENS: usize = 16;

/// One prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A text, tokenized with the model's special tokens recognised.
    Text(String),
    /// Token ids, taken as they are.
    Tokens(Vec<u32>),
}

/// A completion request that says only what this server does.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionRequest {
    /// Whose completion.
    pub address: ModelAddress,
    /// At least one prompt.
    pub prompts: Vec<Prompt>,
    /// Choices for each prompt; with all prompts at most [`CHOICE_LIMIT`] are generated.
    pub selection: Selection,
    /// What the completion is kept to.
    pub constraint: Option<OutputConstraint>,
    /// Most tokens of a completion; 0 only with `echo`.
    pub max_tokens: usize,
    /// Fewest tokens of a completion.
    pub min_tokens: usize,
    /// Whether a completion goes on after an end token.
    pub ignores_end: bool,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Texts that end a completion.
    pub stop: Vec<String>,
    /// How the answer is sent.
    pub delivery: Delivery,
    /// How many alternatives are told with each token's log-probability, if that is told.
    pub logprobs: Option<usize>,
    /// Whether the prompt's text precedes the completion.
    pub echo: bool,
    /// How it stands to other requests.
    pub scheduling: Scheduling,
    /// What the router is told of the client's wishes.
    pub preference: Preference,
}

impl CompletionRequest {
    /// Parses the JSON body.
    pub fn parse(body: Value) -> Result<Self, ApiError> {
        let mut fields = Fields::of_body(body)?;
        let address = address(&mut fields)?;
        let prompts = prompts(&mut fields)?;
        let selection = selection(&mut fields, prompts.len())?;
        let constraint = structured_outputs(&mut fields)?;
        let echo = fields.boolean("echo")?.unwrap_or(false);
        let max_tokens = completion_limit(&mut fields, echo)?;
        let min_tokens = fields.integer("min_tokens", 0..=max_tokens as u64)?.unwrap_or_default();
        let min_tokens = usize::try_from(min_tokens).unwrap_or(max_tokens);
        let ignores_end = fields.boolean("ignore_eos")?.unwrap_or(false);
        let sampling = sampling(&mut fields)?;
        let stop = stop(&mut fields)?;
        let delivery = delivery(&mut fields)?;
        let logprobs = alternatives(&mut fields, "logprobs", LOGPROBS_LIMIT)?;
        let scheduling = Scheduling::parse(&mut fields)?;
        let preference = Preference::parse(&mut fields, scheduling.user())?;
        if let (true, Delivery::Stream { .. }) = (selection.selects(), delivery) {
            let found = format!("{}, with n {} and stream", selection.generated, selection.answered);
            return Err(ApiError::field("best_of", found, "n, since the best are known only at the end"));
        }
        take_unimplemented(&mut fields, COMPLETION_FIELDS)?;
        fields.finish(&names(COMPLETION_FIELDS))?;
        Ok(Self {
            address,
            prompts,
            selection,
            constraint,
            max_tokens,
            min_tokens,
            ignores_end,
            sampling,
            stop,
            delivery,
            logprobs,
            echo,
            scheduling,
            preference,
        })
    }
}

/// Reads `model`.
pub(crate) fn address(fields: &mut Fields) -> Result<ModelAddress, ApiError> {
    let text = fields.required_string("model", "the name of a model from /v1/models")?;
    text.parse().map_err(|_| ApiError::field("model", text, "NAME or NAME@VARIANT as listed by /v1/models"))
}

/// Reads `n` and `best_of`, which are for each of the prompts.
fn selection(fields: &mut Fields, prompts: usize) -> Result<Selection, ApiError> {
    let answered = choice_count(fields, "n")?.unwrap_or(1);
    let best_of = choice_count(fields, "best_of")?;
    let (name, generated) = best_of.map_or(("n", answered), |best_of| ("best_of", best_of));
    if generated < answered {
        return Err(ApiError::field(name, generated, format!("at least n, which is {answered}")));
    }
    if generated.saturating_mul(prompts) > CHOICE_LIMIT {
        let found = format!("{generated} for each of {prompts} prompts");
        return Err(ApiError::field(name, found, format!("at most {CHOICE_LIMIT} choices in all")));
    }
    Ok(Selection { generated, answered })
}

/// Reads `max_tokens`, which may be 0 where there is a prompt to show.
fn completion_limit(fields: &mut Fields, echo: bool) -> Result<usize, ApiError> {
    let limit = fields.integer("max_tokens", 0..=u64::from(u32::MAX))?;
    match limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)) {
        Some(0) if !echo => Err(ApiError::field("max_tokens", 0, "at least 1, or 0 with echo")),
        limit => Ok(limit.unwrap_or(DEFAULT_MAX_TOKENS)),
    }
}

/// Reads a limit on new tokens. Whether it fits the context is known only once the model is.
pub(crate) fn max_tokens(fields: &mut Fields, name: &str) -> Result<Option<usize>, ApiError> {
    let limit = fields.integer(name, 1..=u64::from(u32::MAX))?;
    Ok(limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)))
}

fn prompts(fields: &mut Fields) -> Result<Vec<Prompt>, ApiError> {
    const EXPECTED: &str =
        "a string, a list of strings, a list of token ids, or a list of lists of token ids";
    let value = fields.take("prompt").ok_or_else(|| ApiError::missing("prompt", EXPECTED))?;
    let items = match value {
        Value::String(text) => return Ok(vec![Prompt::Text(text)]),
        Value::Array(items) if !items.is_empty() => items,
        other => return Err(ApiError::field("prompt", other, EXPECTED)),
    };
    if items.iter().all(Value::is_number) {
        return Ok(vec![Prompt::Tokens(token_ids("prompt", &items)?)]);
    }
    if items.len() > CHOICE_LIMIT {
        let found = format!("{} prompts", items.len());
        return Err(ApiError::field("prompt", found, format!("at most {CHOICE_LIMIT} prompts")));
    }
    let texts = items.first().is_some_and(Value::is_string);
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| match item {
            Value::String(text) if texts => Ok(Prompt::Text(text)),
            Value::Array(ids) if !texts && !ids.is_empty() => {
                Ok(Prompt::Tokens(token_ids(&format!("prompt[{index}]"), &ids)?))
            }
            other => Err(ApiError::field(format!("prompt[{index}]"), other, EXPECTED)),
        })
        .collect()
}

fn token_ids(path: &str, items: &[Value]) -> Result<Vec<u32>, ApiError> {
    items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            item.as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| ApiError::field(format!("{path}[{index}]"), item.clone(), "a token id"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<CompletionRequest, ApiError> {
        CompletionRequest::parse(value)
    }

    #[test]
    fn every_form_of_prompt_is_read() {
        for (prompt, parsed) in [
            (json!("a"), vec![Prompt::Text("a".into())]),
            (json!(["a", "b"]), vec![Prompt::Text("a".into()), Prompt::Text("b".into())]),
            (json!([1, 2]), vec![Prompt::Tokens(vec![1, 2])]),
            (json!([[1], [2, 3]]), vec![Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]),
        ] {
            assert_eq!(parse(json!({"model": "m", "prompt": prompt})).unwrap().prompts, parsed);
        }
    }

    #[test]
    fn wrong_prompts_are_refused_where_they_are_wrong() {
        for (prompt, param) in [
            (json!([]), "prompt"),
            (json!({}), "prompt"),
            (json!([1, -2]), "prompt[1]"),
            (json!([1.5]), "prompt[0]"),
            (json!(["a", 1]), "prompt[1]"),
            (json!([["a"]]), "prompt[0][0]"),
            (json!([[1], []]), "prompt[1]"),
            (json!(vec!["a"; 129]), "prompt"),
            (json!(null), "prompt"),
        ] {
            let error = parse(json!({"model": "m", "prompt": prompt})).unwrap_err();
            assert_eq!(error.param(), Some(param));
        }
    }

    #[test]
    fn defaults_are_openais() {
        let request = parse(json!({"model": "m@v", "prompt": "a", "user": "me", "n": 1})).unwrap();
        assert_eq!(request.max_tokens, 16);
        assert_eq!(request.delivery, Delivery::Whole);
        assert_eq!(request.address.variant.as_deref(), Some("v"));
        assert_eq!(request.selection, Selection::all(1));
        assert_eq!((request.logprobs, request.echo, request.constraint), (None, false, None));
    }

    #[test]
    fn choices_of_all_prompts_are_limited() {
        let asked = |n: u64| parse(json!({"model": "m", "prompt": ["a", "b"], "n": n}));
        assert_eq!(asked(64).unwrap().selection, Selection::all(64));
        for n in [0, 65, 129] {
            assert_eq!(asked(n).unwrap_err().param(), Some("n"));
        }
    }

    #[test]
    fn the_best_are_of_at_least_as_many() {
        let asked = |n: u64, best_of: u64, stream: bool| {
            parse(json!({"model": "m", "prompt": ["a", "b"], "n": n, "best_of": best_of, "stream": stream}))
        };
        let selection = Selection { generated: 5, answered: 2 };
        assert_eq!(asked(2, 5, false).unwrap().selection, selection);
        assert_eq!(asked(2, 2, true).unwrap().selection, Selection::all(2));
        for (n, best_of, stream) in [(3, 2, false), (1, 65, false), (1, 0, false), (1, 2, true)] {
            assert_eq!(asked(n, best_of, stream).unwrap_err().param(), Some("best_of"), "{n} {best_of}");
        }
    }

    #[test]
    fn nothing_is_generated_only_where_the_prompt_is_shown() {
        let asked = |echo: bool| parse(json!({"model": "m", "prompt": "a", "max_tokens": 0, "echo": echo}));
        assert_eq!(asked(true).unwrap().max_tokens, 0);
        assert_eq!(asked(false).unwrap_err().param(), Some("max_tokens"));
    }
}
