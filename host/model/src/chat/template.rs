//! Chat templates: a conversation to the text that the model was trained on.
//!
//! Templates are Jinja programs that come with a model. They run with the settings and the extra names that HF
//! transformers gives them (`trim_blocks`, `lstrip_blocks`, `raise_exception`, `strftime_now`, Python's `json.dumps`
//! as `tojson`, Python's string methods, `break` and `continue`), and with a bound on their work, since a model file
//! is input like any other.

use std::collections::HashSet;
use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{date, json};
use crate::error::ModelError;

/// Steps that a rendering may take; long conversations with tools stay far below.
const FUEL: u64 = 20_000_000;
const NAME: &str = "chat_template";

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    /// Names that it reads from outside.
    variables: HashSet<String>,
}

impl ChatTemplate {
    /// Compiles `source`; `bos` and `eos` are the texts of the tokens that templates write as `bos_token` and
    /// `eos_token`.
    ///
    /// # Errors
    /// A syntax error, with its line.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, ModelError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| failure(&error))?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", date::strftime_now);
        environment.add_filter("tojson", json::tojson);
        let source = without_generation_tags(source);
        environment.add_template_owned(NAME, source).map_err(|error| failure(&error))?;
        let template = environment.get_template(NAME).map_err(|error| failure(&error))?;
        let variables = template.undeclared_variables(false);
        Ok(Self { environment, bos: bos.to_owned(), eos: eos.to_owned(), variables })
    }

    /// Whether the template reads a variable: `tools`, `reasoning_effort`.
    #[must_use]
    pub fn reads(&self, variable: &str) -> bool {
        self.variables.contains(variable)
    }

    /// The conversation as text, with the opening of the assistant's answer if `add_generation_prompt`.
    ///
    /// # Errors
    /// What the template itself raises (roles out of order, an unknown role) or runs into.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<String, ModelError> {
        self.render_value(context! { messages => Serde(messages), add_generation_prompt })
    }

    /// [`ChatTemplate::render`] with any variables: `messages` of other forms, `tools`, `documents`, a template's own
    /// switches. `bos_token` and `eos_token` are added.
    ///
    /// # Errors
    /// See [`ChatTemplate::render`].
    pub fn render_with(&self, variables: &Map<String, Json>) -> Result<String, ModelError> {
        self.render_value(Value::from(Serde(variables)))
    }

    fn render_value(&self, variables: Value) -> Result<String, ModelError> {
        let tokens = context! { bos_token => self.bos.as_str(), eos_token => self.eos.as_str() };
        let context = context! { ..variables, ..tokens };
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|error| failure(&error))
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ChatTemplate")
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .finish_non_exhaustive()
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn failure(error: &Error) -> ModelError {
    let place = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    ModelError::ChatTemplate(format!("{detail}{place}"))
}

/// HF's `{% generation %}` marks the assistant's text for training; it leaves the text as it is.
fn without_generation_tags(source: &str) -> String {
    let mut rest = source;
    let mut cleaned = String::with_capacity(source.len());
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        let Some(end) = tag.find("%}") else { break };
        let (tag, after) = tag.split_at(end + 2);
        cleaned.push_str(before);
        let inner = tag.trim_start_matches("{%").trim_end_matches("%}");
        let word = inner.trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        // An `if true` keeps what the tag's position does to the white space around it.
        match word {
            "generation" => cleaned.push_str(&tag.replacen(word, "if true", 1)),
            "endgeneration" => cleaned.push_str(&tag.replacen(word, "endif", 1)),
            _ => cleaned.push_str(tag),
        }
        rest = after;
    }
    cleaned.push_str(rest);
    cleaned
}
