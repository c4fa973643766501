//! The page `docs/openai-compatibility.md`.

use crate::openai::chat_fields::CHAT_FIELDS;
use crate::openai::completion_fields::COMPLETION_FIELDS;
use crate::openai::request_field::Support;

/// The page, made from the tables of fields.
#[must_use]
pub fn compatibility_page() -> String {
    let mut page = String::from(
        "# OpenAI compatibility\n\n\
         Generated from the tables of fields in `host/server/src/openai/`; a test compares the two.\n\n\
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
                Support::Implemented => "implemented".to_owned(),
                Support::OnlyNeutral(values) => {
                    let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
                    format!("accepted only as {}", values.join(" or "))
                }
                Support::Bookkeeping => "accepted, changes nothing, kept nowhere".to_owned(),
                Support::Refused => "refused".to_owned(),
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
         A text that is kept to a grammar is drawn from the tokens that the grammar allows, before any of the cuts. It ends\n\
         with `stop` where the grammar does; `max_tokens` and stop texts may end it earlier. JSON schemas are taken as far as\n\
         [llguidance](https://github.com/guidance-ai/llguidance) enforces them and refused by the keyword otherwise; white space\n\
         in JSON is a space, or a new line and its indentation. A grammar has at most 64 KiB, a schema 256 KiB, and what it takes to\n\
         compile and to follow is limited too; a text whose grammar gets too complex on the way ends with an error.\n\n\
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
