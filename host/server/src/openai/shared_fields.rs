//! The fields that both completion endpoints have.

use crate::openai::request_field::Support::Implemented;
use crate::openai::request_field::{RequestField, field};

pub(super) const MODEL: RequestField = field(
    "model",
    Implemented,
    r#"{"type":"string"}"#,
    "required; `name` lets the router component choose the variant, `name@variant` pins it",
);
pub(super) const TEMPERATURE: RequestField = field(
    "temperature",
    Implemented,
    r#"{"type":"number","minimum":0,"maximum":2,"default":1}"#,
    "default 1; 0 is greedy",
);
pub(super) const TOP_P: RequestField = field(
    "top_p",
    Implemented,
    r#"{"type":"number","exclusiveMinimum":0,"maximum":1,"default":1}"#,
    "default 1; above 0",
);
pub(super) const SEED: RequestField = field(
    "seed",
    Implemented,
    r#"{"type":"integer"}"#,
    "any 64-bit whole number; the same seed on the same generation gives the same text",
);
pub(super) const STOP: RequestField = field(
    "stop",
    Implemented,
    r#"{"oneOf":[{"type":"string","minLength":1},{"type":"array","items":{"type":"string","minLength":1},"maxItems":4}]}"#,
    "a string or up to four; the text ends before the match",
);
pub(super) const STREAM: RequestField = field(
    "stream",
    Implemented,
    r#"{"type":"boolean","default":false}"#,
    "server-sent events, ended by `[DONE]`",
);
pub(super) const STREAM_OPTIONS: RequestField = field(
    "stream_options",
    Implemented,
    r#"{"type":"object","properties":{"include_usage":{"type":"boolean"},"include_obfuscation":{"const":false}},"additionalProperties":false}"#,
    "only with `stream`; `include_usage` adds a last chunk with the usage; `include_obfuscation` only `false`",
);
pub(super) const N: RequestField = field(
    "n",
    Implemented,
    r#"{"type":"integer","minimum":1,"maximum":128,"default":1}"#,
    "default 1; choices for each prompt, at most 128 in all; a seed is that of the first choice, each next one's is 1 more",
);
pub(super) const PRESENCE_PENALTY: RequestField = field(
    "presence_penalty",
    Implemented,
    r#"{"type":"number","minimum":-2,"maximum":2,"default":0}"#,
    "default 0; subtracted once from the logit of each token that the completion has already",
);
pub(super) const FREQUENCY_PENALTY: RequestField = field(
    "frequency_penalty",
    Implemented,
    r#"{"type":"number","minimum":-2,"maximum":2,"default":0}"#,
    "default 0; subtracted from a token's logit as often as the completion has it",
);
pub(super) const LOGIT_BIAS: RequestField = field(
    "logit_bias",
    Implemented,
    r#"{"type":"object","additionalProperties":{"type":"number","minimum":-100,"maximum":100}}"#,
    "token ids of the model's vocabulary, as strings, to numbers from -100 to 100 that are added to their logits, before the penalties",
);
pub(super) const TOP_K: RequestField = field(
    "top_k",
    Implemented,
    r#"{"type":"integer","minimum":-1,"default":0}"#,
    "vLLM's; only the most probable tokens; 0 (the default) or -1 is all",
);
pub(super) const MIN_P: RequestField = field(
    "min_p",
    Implemented,
    r#"{"type":"number","minimum":0,"maximum":1,"default":0}"#,
    "vLLM's; only tokens at least this many times as probable as the most probable one; default 0",
);
pub(super) const REPETITION_PENALTY: RequestField = field(
    "repetition_penalty",
    Implemented,
    r#"{"type":"number","exclusiveMinimum":0,"maximum":2,"default":1}"#,
    "vLLM's and transformers'; positive logits of tokens that prompt or completion have already are divided by it, others multiplied; default 1",
);
pub(super) const USER: RequestField = field(
    "user",
    Implemented,
    r#"{"type":"string"}"#,
    "requests of one priority share the service fairly between users; those that name none are one user; kept nowhere",
);
pub(super) const PRIORITY: RequestField = field(
    "priority",
    Implemented,
    r#"{"type":"integer","default":0}"#,
    "vLLM's; lower goes first, also at the cost of what runs: that is then computed again later; default 0",
);
pub(super) const CACHE_SALT: RequestField = field(
    "cache_salt",
    Implemented,
    r#"{"type":"string","minLength":1}"#,
    "vLLM's; only requests with the same one share what was computed for the beginnings of their prompts",
);
pub(super) const SESSION_ID: RequestField = field(
    "session_id",
    Implemented,
    r#"{"type":"string","minLength":1}"#,
    "Espalier's; a router that splits sessions keeps requests with the same one on one variant; where there is none, those of one `user`; a component sees a hash of it only",
);
pub(super) const QUALITY: RequestField = field(
    "quality",
    Implemented,
    r#"{"type":"number","minimum":0,"maximum":1}"#,
    "Espalier's; what a router may choose the variant by: 0, anything will do, to 1, the best that there is; changes nothing where no router goes by it",
);
pub(super) const STRUCTURED_OUTPUTS: RequestField = field(
    "structured_outputs",
    Implemented,
    r#"{"type":"object","properties":{"json":{"type":["object","string"]},"regex":{"type":"string","minLength":1},"choice":{"type":"array","items":{"type":"string","minLength":1},"minItems":1},"grammar":{"type":"string","minLength":1}},"minProperties":1,"maxProperties":1,"additionalProperties":false}"#,
    "vLLM's; the text is kept to one of: `json`, a JSON schema; `regex`, a regular expression that matches all of it; `choice`, a list of texts; `grammar`, Lark in llguidance's dialect",
);
pub(super) const GUIDED_JSON: RequestField = field(
    "guided_json",
    Implemented,
    r#"{"type":["object","string"]}"#,
    "vLLM's older name of `structured_outputs.json`",
);
pub(super) const GUIDED_REGEX: RequestField = field(
    "guided_regex",
    Implemented,
    r#"{"type":"string","minLength":1}"#,
    "vLLM's older name of `structured_outputs.regex`",
);
pub(super) const GUIDED_CHOICE: RequestField = field(
    "guided_choice",
    Implemented,
    r#"{"type":"array","items":{"type":"string","minLength":1},"minItems":1}"#,
    "vLLM's older name of `structured_outputs.choice`",
);
pub(super) const GUIDED_GRAMMAR: RequestField = field(
    "guided_grammar",
    Implemented,
    r#"{"type":"string","minLength":1}"#,
    "vLLM's older name of `structured_outputs.grammar`",
);
