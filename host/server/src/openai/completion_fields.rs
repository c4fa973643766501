//! The fields of a completion request.

use crate::openai::request_field::Support::{Implemented, Refused};
use crate::openai::request_field::{RequestField, field};
use crate::openai::shared_fields::{
    CACHE_SALT, FREQUENCY_PENALTY, GUIDED_CHOICE, GUIDED_GRAMMAR, GUIDED_JSON, GUIDED_REGEX, LOGIT_BIAS,
    MIN_P, MODEL, N, PRESENCE_PENALTY, PRIORITY, QUALITY, REPETITION_PENALTY, SEED, SESSION_ID, STOP, STREAM,
    STREAM_OPTIONS, STRUCTURED_OUTPUTS, TEMPERATURE, TOP_K, TOP_P, USER,
};

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
        r#"{"type":"integer","minimum":0,"default":16}"#,
        "default 16; 0 only with `echo`, to score a prompt; prompt and completion together must fit into the context, otherwise 400",
    ),
    field(
        "min_tokens",
        Implemented,
        r#"{"type":"integer","minimum":0,"default":0}"#,
        "vLLM's; at most `max_tokens`; in so many tokens no end token is sampled and no stop text looked for; a constrained text ends earlier where nothing else can follow",
    ),
    field(
        "ignore_eos",
        Implemented,
        r#"{"type":"boolean","default":false}"#,
        "vLLM's; the end token ends nothing, as benchmarks want it; in a constrained text none is sampled",
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
    field(
        "best_of",
        Implemented,
        r#"{"type":"integer","minimum":1,"maximum":128}"#,
        "default `n`; so many choices are generated and counted in `usage`, and the `n` whose tokens have the greatest mean log-probability are answered, the best first; more than `n` not with `stream`",
    ),
    PRESENCE_PENALTY,
    FREQUENCY_PENALTY,
    LOGIT_BIAS,
    TOP_K,
    MIN_P,
    REPETITION_PENALTY,
    STRUCTURED_OUTPUTS,
    GUIDED_JSON,
    GUIDED_REGEX,
    GUIDED_CHOICE,
    GUIDED_GRAMMAR,
    USER,
    PRIORITY,
    CACHE_SALT,
    SESSION_ID,
    QUALITY,
    field(
        "logprobs",
        Implemented,
        r#"{"type":"integer","minimum":0,"maximum":5}"#,
        "alternatives for each token, which is always there itself; with `echo` the prompt's tokens come first; every generated token has an entry, the end token and those of a stop text too",
    ),
    field("suffix", Refused, r#"{"type":"null"}"#, ""),
];
