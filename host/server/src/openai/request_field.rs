//! What this server does with each field of OpenAI's requests, as data.
//!
//! The parser, the OpenAPI document and `docs/openai-compatibility.md` are all made from the two tables here, so a
//! field cannot be documented as one thing and treated as another. A field that is in no table is refused as unknown.

use serde_json::Value;

use crate::api_error::{ApiError, ErrorKind};
use crate::fields::Fields;

/// What happens to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Does what OpenAI's reference says, but for what the note says.
    Implemented,
    /// Not implemented; these values (JSON texts) ask for nothing and are accepted.
    OnlyNeutral(&'static [&'static str]),
    /// For the caller's own bookkeeping: accepted with any value of its type, changes nothing, is kept nowhere.
    Bookkeeping,
    /// Known to OpenAI's reference and refused by name, unless `null`.
    Refused,
}

/// One field of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestField {
    /// Its name.
    pub name: &'static str,
    /// What happens to it.
    pub support: Support,
    /// Its JSON schema, as JSON text.
    pub schema: &'static str,
    /// Default, limits, or the difference from OpenAI's behaviour.
    pub note: &'static str,
}

const fn field(
    name: &'static str,
    support: Support,
    schema: &'static str,
    note: &'static str,
) -> RequestField {
    RequestField { name, support, schema, note }
}

use Support::{Bookkeeping, Implemented, OnlyNeutral, Refused};

const MODEL: RequestField = field(
    "model",
    Implemented,
    r#"{"type":"string"}"#,
    "required; `name` lets the router component choose the variant, `name@variant` pins it",
);
const TEMPERATURE: RequestField = field(
    "temperature",
    Implemented,
    r#"{"type":"number","minimum":0,"maximum":2,"default":1}"#,
    "default 1; 0 is greedy",
);
const TOP_P: RequestField = field(
    "top_p",
    Implemented,
    r#"{"type":"number","exclusiveMinimum":0,"maximum":1,"default":1}"#,
    "default 1; above 0",
);
const SEED: RequestField = field(
    "seed",
    Implemented,
    r#"{"type":"integer"}"#,
    "any 64-bit whole number; the same seed on the same generation gives the same text",
);
const STOP: RequestField = field(
    "stop",
    Implemented,
    r#"{"oneOf":[{"type":"string","minLength":1},{"type":"array","items":{"type":"string","minLength":1},"maxItems":4}]}"#,
    "a string or up to four; the text ends before the match",
);
const STREAM: RequestField = field(
    "stream",
    Implemented,
    r#"{"type":"boolean","default":false}"#,
    "server-sent events, ended by `[DONE]`",
);
const STREAM_OPTIONS: RequestField = field(
    "stream_options",
    Implemented,
    r#"{"type":"object","properties":{"include_usage":{"type":"boolean"},"include_obfuscation":{"const":false}},"additionalProperties":false}"#,
    "only with `stream`; `include_usage` adds a last chunk with the usage; `include_obfuscation` only `false`",
);
const N: RequestField = field(
    "n",
    Implemented,
    r#"{"type":"integer","minimum":1,"maximum":128,"default":1}"#,
    "default 1; choices for each prompt, at most 128 in all; a seed is that of the first choice, each next one's is 1 more",
);
const PRESENCE_PENALTY: RequestField = field(
    "presence_penalty",
    Implemented,
    r#"{"type":"number","minimum":-2,"maximum":2,"default":0}"#,
    "default 0; subtracted once from the logit of each token that the completion has already",
);
const FREQUENCY_PENALTY: RequestField = field(
    "frequency_penalty",
    Implemented,
    r#"{"type":"number","minimum":-2,"maximum":2,"default":0}"#,
    "default 0; subtracted from a token's logit as often as the completion has it",
);
const LOGIT_BIAS: RequestField = field(
    "logit_bias",
    Implemented,
    r#"{"type":"object","additionalProperties":{"type":"number","minimum":-100,"maximum":100}}"#,
    "token ids of the model's vocabulary, as strings, to numbers from -100 to 100 that are added to their logits, before the penalties",
);
const TOP_K: RequestField = field(
    "top_k",
    Implemented,
    r#"{"type":"integer","minimum":-1,"default":0}"#,
    "vLLM's; only the most probable tokens; 0 (the default) or -1 is all",
);
const MIN_P: RequestField = field(
    "min_p",
    Implemented,
    r#"{"type":"number","minimum":0,"maximum":1,"default":0}"#,
    "vLLM's; only tokens at least this many times as probable as the most probable one; default 0",
);
const REPETITION_PENALTY: RequestField = field(
    "repetition_penalty",
    Implemented,
    r#"{"type":"number","exclusiveMinimum":0,"maximum":2,"default":1}"#,
    "vLLM's and transformers'; positive logits of tokens that prompt or completion have already are divided by it, others multiplied; default 1",
);
const USER: RequestField = field(
    "user",
    Implemented,
    r#"{"type":"string"}"#,
    "requests of one priority share the service fairly between users; those that name none are one user; kept nowhere",
);
const PRIORITY: RequestField = field(
    "priority",
    Implemented,
    r#"{"type":"integer","default":0}"#,
    "vLLM's; lower goes first, also at the cost of what runs: that is then computed again later; default 0",
);
const CACHE_SALT: RequestField = field(
    "cache_salt",
    Implemented,
    r#"{"type":"string","minLength":1}"#,
    "vLLM's; only requests with the same one share what was computed for the beginnings of their prompts",
);

/// The fields of `POST /v1/completions`.
pub const COMPLETION_FIELDS: &[RequestField] = &[
    MODEL,
    field(
        "prompt",
        Implemented,
        r#"{"oneOf":[{"type":"string"},{"type":"array","items":{"type":"string"},"minItems":1},{"type":"array","items":{"type":"integer","minimum":0},"minItems":1},{"type":"array","items":{"type":"array","items":{"type":"integer","minimum":0},"minItems":1},"minItems":1}]}"#,
        "required; a text, a list of texts, a list of token ids, or a list of such lists; at most 128 prompts",
    ),
    field(
        "max_tokens",
        Implemented,
        r#"{"type":"integer","minimum":1,"default":16}"#,
        "default 16; prompt and completion together must fit into the context, otherwise 400",
    ),
    field(
        "min_tokens",
        Implemented,
        r#"{"type":"integer","minimum":0,"default":0}"#,
        "vLLM's; at most `max_tokens`; in so many tokens no end token is sampled and no stop text looked for",
    ),
    field(
        "ignore_eos",
        Implemented,
        r#"{"type":"boolean","default":false}"#,
        "vLLM's; the end token ends nothing, as benchmarks want it",
    ),
    TEMPERATURE,
    TOP_P,
    SEED,
    STOP,
    STREAM,
    STREAM_OPTIONS,
    field(
        "echo",
        Implemented,
        r#"{"type":"boolean","default":false}"#,
        "the prompt's text precedes the completion",
    ),
    N,
    field("best_of", OnlyNeutral(&["1"]), r#"{"const":1}"#, ""),
    PRESENCE_PENALTY,
    FREQUENCY_PENALTY,
    LOGIT_BIAS,
    TOP_K,
    MIN_P,
    REPETITION_PENALTY,
    USER,
    PRIORITY,
    CACHE_SALT,
    field(
        "logprobs",
        Implemented,
        r#"{"type":"integer","minimum":0,"maximum":5}"#,
        "alternatives for each token, which is always there itself; with `echo` the prompt's tokens come first; every generated token has an entry, the end token and those of a stop text too",
    ),
    field("suffix", Refused, r#"{"type":"null"}"#, ""),
];

/// The fields of `POST /v1/chat/completions`.
pub const CHAT_FIELDS: &[RequestField] = &[
    MODEL,
    field(
        "messages",
        Implemented,
        r##"{"type":"array","items":{"$ref":"#/components/schemas/ChatMessage"},"minItems":1}"##,
        "required; roles `system`, `developer`, `user`, `assistant`, `tool`; content is a text or a list of `text` parts; assistant messages may have `reasoning_content` and `tool_calls`, whose ids a `tool` message names",
    ),
    field(
        "max_completion_tokens",
        Implemented,
        r#"{"type":"integer","minimum":1}"#,
        "default: what is left of the context",
    ),
    field(
        "max_tokens",
        Implemented,
        r#"{"type":"integer","minimum":1}"#,
        "the older name of `max_completion_tokens`; not both",
    ),
    TEMPERATURE,
    TOP_P,
    SEED,
    STOP,
    STREAM,
    STREAM_OPTIONS,
    N,
    PRESENCE_PENALTY,
    FREQUENCY_PENALTY,
    LOGIT_BIAS,
    TOP_K,
    MIN_P,
    REPETITION_PENALTY,
    field(
        "logprobs",
        Implemented,
        r#"{"type":"boolean","default":false}"#,
        "of the tokens of `content`, and of a stop text after it; thoughts, calls and control tokens have no entries",
    ),
    field(
        "top_logprobs",
        Implemented,
        r#"{"type":"integer","minimum":0,"maximum":20}"#,
        "alternatives for each token; only with `logprobs`",
    ),
    field("response_format", OnlyNeutral(&[r#"{"type":"text"}"#]), r#"{"const":{"type":"text"}}"#, ""),
    field(
        "tools",
        Implemented,
        r##"{"type":"array","items":{"$ref":"#/components/schemas/Tool"},"maxItems":128}"##,
        "functions, for gpt-oss and for models whose template takes them and writes `<tool_call>`; otherwise refused; `strict` only `false`",
    ),
    field(
        "tool_choice",
        Implemented,
        r#"{"oneOf":[{"enum":["none","auto","required"]},{"type":"object","properties":{"type":{"const":"function"},"function":{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}},"required":["type","function"]}]}"#,
        "default `auto`; a function's name, and `required` with one tool, only for gpt-oss, where the prompt opens the call; otherwise refused",
    ),
    field(
        "parallel_tool_calls",
        Implemented,
        r#"{"type":"boolean","default":true}"#,
        "only with `tools`; `false` ends the answer with its first call",
    ),
    field(
        "reasoning_effort",
        Implemented,
        r#"{"enum":["minimal","low","medium","high"]}"#,
        "for gpt-oss, default `medium`, and for models whose template reads it; otherwise refused; `minimal` is `low`",
    ),
    field("modalities", OnlyNeutral(&[r#"["text"]"#]), r#"{"const":["text"]}"#, ""),
    field("store", OnlyNeutral(&["false"]), r#"{"const":false}"#, "nothing is stored"),
    field(
        "service_tier",
        OnlyNeutral(&[r#""auto""#, r#""default""#]),
        r#"{"enum":["auto","default"]}"#,
        "there is one tier",
    ),
    USER,
    PRIORITY,
    CACHE_SALT,
    field("metadata", Bookkeeping, r#"{"type":"object"}"#, ""),
    field("safety_identifier", Bookkeeping, r#"{"type":"string"}"#, ""),
    field("prompt_cache_key", Bookkeeping, r#"{"type":"string"}"#, ""),
    field("function_call", Refused, r#"{"type":"null"}"#, ""),
    field("functions", Refused, r#"{"type":"null"}"#, ""),
    field("audio", Refused, r#"{"type":"null"}"#, ""),
    field("prediction", Refused, r#"{"type":"null"}"#, ""),
    field("verbosity", Refused, r#"{"type":"null"}"#, ""),
    field("web_search_options", Refused, r#"{"type":"null"}"#, ""),
];

/// Takes out every field of `table` that is not implemented, refusing each value that asks for something.
pub fn take_unimplemented(fields: &mut Fields, table: &[RequestField]) -> Result<(), ApiError> {
    for entry in table {
        match entry.support {
            Implemented => {}
            OnlyNeutral(values) => {
                let Some(found) = fields.take(entry.name) else { continue };
                if !values.iter().any(|text| is_same(&found, text)) {
                    let expected = values.join(" or ");
                    let error = ApiError::field(
                        fields.path(entry.name),
                        found,
                        format!("{expected}: other values are not implemented"),
                    );
                    return Err(error.of_kind(ErrorKind::UnsupportedParameter));
                }
            }
            Bookkeeping => {
                let Some(found) = fields.take(entry.name) else { continue };
                let (fits, expected) = if entry.schema.contains("object") {
                    (found.is_object(), "an object")
                } else {
                    (found.is_string(), "a string")
                };
                if !fits {
                    return Err(ApiError::field(fields.path(entry.name), found, expected));
                }
            }
            Refused => {
                if fields.take(entry.name).is_some() {
                    let path = fields.path(entry.name);
                    let message = format!("{path} is not implemented by this server");
                    return Err(ApiError::new(ErrorKind::UnsupportedParameter, message).at(path));
                }
            }
        }
    }
    Ok(())
}

/// The names of a table, for the guess in "unknown field".
pub fn names(table: &'static [RequestField]) -> Vec<&'static str> {
    table.iter().map(|entry| entry.name).collect()
}

/// Numbers compare by value (`0`, `0.0`), everything else exactly.
fn is_same(found: &Value, text: &str) -> bool {
    let Ok(neutral) = serde_json::from_str::<Value>(text) else { return false };
    match (found.as_f64(), neutral.as_f64()) {
        (Some(found), Some(neutral)) => found.total_cmp(&neutral).is_eq() || (found == 0.0 && neutral == 0.0),
        _ => *found == neutral,
    }
}

/// The page `docs/openai-compatibility.md`.
#[must_use]
pub fn compatibility_page() -> String {
    let mut page = String::from(
        "# OpenAI compatibility\n\n\
         Generated from `host/server/src/openai/request_field.rs`; a test compares the two.\n\n\
         A field that is in no table below is refused with 400 and its name. Nothing is ignored in silence: a field\n\
         is implemented, or it is accepted only with a value that asks for nothing, or it is refused.\n\
         `null` always means \"not given\".\n",
    );
    for (path, table) in
        [("POST /v1/completions", COMPLETION_FIELDS), ("POST /v1/chat/completions", CHAT_FIELDS)]
    {
        page.push_str(&format!("\n## {path}\n\n| field | what happens |\n| --- | --- |\n"));
        for entry in table {
            let what = match entry.support {
                Implemented => "implemented".to_owned(),
                OnlyNeutral(values) => {
                    let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
                    format!("accepted only as {}", values.join(" or "))
                }
                Bookkeeping => "accepted, changes nothing, kept nowhere".to_owned(),
                Refused => "refused".to_owned(),
            };
            let note = if entry.note.is_empty() { String::new() } else { format!("; {}", entry.note) };
            page.push_str(&format!("| `{}` | {what}{note} |\n", entry.name));
        }
    }
    page.push_str(
        "\n## Answers\n\n\
         `model` is the address that answered, as `name@variant`. Beside OpenAI's fields each answer (and each chunk)\n\
         has `espalier: {variant, generation}`, the headers `x-espalier-variant` and `x-espalier-generation`, and a\n\
         `system_fingerprint` of the form `espalier-VERSION/MODEL@VARIANT#GENERATION`.\n\n\
         Tokens are chosen in vLLM's order: `logit_bias`, then `repetition_penalty`, `frequency_penalty` and\n\
         `presence_penalty` change the logits; they are divided by `temperature`; `min_p`, `top_k` and `top_p` cut the\n\
         distribution, each what the one before left. With temperature 0 the most probable token after bias and penalties is\n\
         taken. A seed gives the same tokens whatever else the host is doing.\n\n\
         Log-probabilities are of the model's own distribution, before bias, penalties, temperature and cuts. The\n\
         `text_offset` of a completion counts characters of the choice's `text`; a token that is no whole character is named\n\
         `bytes:` and its bytes, as in `bytes:\\xe2\\x80`.\n\n\
         A chat answer's `content` is the answer alone. What the model thought is in `reasoning_content`, of the message\n\
         or of the deltas (Harmony's `analysis`, the inside of `<think>`); calls are in `tool_calls`, with the finish reason\n\
         `tool_calls`. Stop texts end the answer, not the thoughts. `usage.completion_tokens_details.reasoning_tokens` counts\n\
         the tokens of the thoughts. gpt-oss always speaks Harmony, whatever template its checkpoint has; a call of\n\
         another tool than a function, or of a function where none is offered, counts as thought.\n\n\
         Errors are `{\"error\": {message, type, param, code}}`, with `found` and `expected` where both are known.\n\
         A full queue is 429 with `Retry-After`; a failure in the middle of a stream is an `error` event, after which\n\
         the stream ends without `[DONE]`.\n",
    );
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_and_neutral_values_are_json() {
        for entry in COMPLETION_FIELDS.iter().chain(CHAT_FIELDS) {
            serde_json::from_str::<Value>(entry.schema).unwrap();
            if let OnlyNeutral(values) = entry.support {
                for value in values {
                    serde_json::from_str::<Value>(value).unwrap();
                }
            }
        }
    }

    #[test]
    fn neutral_values_pass_and_others_are_refused_by_name() {
        for (name, neutral, other) in [
            ("store", json!(false), json!(true)),
            ("response_format", json!({"type": "text"}), json!({"type": "json_object"})),
            ("metadata", json!({"a": "b"}), json!("x")),
            ("verbosity", json!(null), json!("low")),
        ] {
            let mut fields = Fields::of_body(json!({ name: neutral })).unwrap();
            take_unimplemented(&mut fields, CHAT_FIELDS).unwrap();
            fields.finish(&[]).unwrap();
            let mut fields = Fields::of_body(json!({ name: other })).unwrap();
            let error = take_unimplemented(&mut fields, CHAT_FIELDS).unwrap_err();
            assert_eq!(error.param(), Some(name));
        }
    }
}
