//! What a text may look like, as it is written down.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Value, json};

use super::intersections;
use crate::error::EngineError;

/// Longest regular expression, Lark grammar or list of choices, in bytes.
const TEXT_LIMIT: usize = 64 << 10;
/// Longest JSON schema, in bytes of JSON.
const SCHEMA_LIMIT: usize = 256 << 10;
/// Brackets that may be open at one place of a Lark grammar: its parser recurses.
const NESTING_LIMIT: usize = 256;
/// White space between the parts of a JSON text as it is usually written, and never without end: a space, or a new line
/// and its indentation.
const JSON_WHITE_SPACE: &str = r"[ ]|\n[ \t]{0,40}";

/// A way to say what a text may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Notation {
    /// JSON that is valid under a schema.
    JsonSchema(Value),
    /// A text that a regular expression matches as a whole, in the syntax of Rust's `regex` without look-around.
    Regex(String),
    /// One of several texts.
    Choice(Vec<String>),
    /// llguidance's dialect of Lark; the rule `start` is the text.
    Lark(String),
}

/// What a whole text may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Grammar {
    frame: Option<String>,
    parts: Vec<(String, Notation)>,
}

impl Grammar {
    /// The text is what `notation` says.
    #[must_use]
    pub fn new(notation: Notation) -> Self {
        Self { frame: None, parts: vec![("text".to_owned(), notation)] }
    }

    /// The text is what the Lark grammar `frame` says, in which `@name` stands for the part of that name.
    #[must_use]
    pub fn framed(frame: String, parts: Vec<(String, Notation)>) -> Self {
        Self { frame: Some(frame), parts }
    }

    /// In llguidance's form; the frame is the program's own and isn't checked.
    pub(super) fn lowered(&self) -> Result<TopLevelGrammar, EngineError> {
        let mut grammars = Vec::with_capacity(self.parts.len() + 1);
        grammars.extend(self.frame.clone().map(GrammarWithLexer::from_lark));
        for (name, notation) in &self.parts {
            grammars.push(GrammarWithLexer { name: Some(name.clone()), ..notation.lowered()? });
        }
        Ok(TopLevelGrammar { grammars, max_tokens: None })
    }
}

impl Notation {
    fn lowered(&self) -> Result<GrammarWithLexer, EngineError> {
        match self {
            Self::JsonSchema(schema) => json_schema(schema),
            Self::Regex(pattern) => {
                check_length(pattern.len(), TEXT_LIMIT)?;
                Ok(GrammarWithLexer::from_regex(pattern))
            }
            Self::Choice(texts) => choice(texts),
            Self::Lark(text) => {
                check_length(text.len(), TEXT_LIMIT)?;
                check_nesting(text)?;
                check_intersections(intersections::of_lark(text))?;
                Ok(GrammarWithLexer::from_lark(text.clone()))
            }
        }
    }
}

fn json_schema(schema: &Value) -> Result<GrammarWithLexer, EngineError> {
    check_length(schema.to_string().len(), SCHEMA_LIMIT)?;
    check_intersections(intersections::of_json_schema(schema))?;
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        other => other.clone(),
    };
    if let Value::Object(schema) = &mut schema {
        schema.insert("x-guidance".to_owned(), json!({"whitespace_pattern": JSON_WHITE_SPACE}));
    }
    Ok(GrammarWithLexer::from_json_schema(schema))
}

fn choice(texts: &[String]) -> Result<GrammarWithLexer, EngineError> {
    check_length(texts.iter().map(|text| text.len() + 1).sum(), TEXT_LIMIT)?;
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(refused("a choice among no texts, or an empty text among them"));
    }
    // A JSON string is a string of Lark's.
    let texts: Vec<String> = texts.iter().map(|text| Value::from(text.as_str()).to_string()).collect();
    Ok(GrammarWithLexer::from_lark(format!("start: TEXT\nTEXT: {}\n", texts.join(" | "))))
}

fn check_length(found: usize, limit: usize) -> Result<(), EngineError> {
    if found <= limit {
        return Ok(());
    }
    Err(refused(format!("it has {found} bytes, expected at most {limit}")))
}

/// Counts brackets wherever they stand, so it never counts too few.
fn check_nesting(text: &str) -> Result<(), EngineError> {
    let mut depth = 0usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_LIMIT {
            return Err(refused(format!("more than {NESTING_LIMIT} brackets are open at one place")));
        }
    }
    Ok(())
}

fn check_intersections(branches: f64) -> Result<(), EngineError> {
    if branches <= intersections::BRANCH_LIMIT {
        return Ok(());
    }
    Err(refused("too many or too large expressions have to match the same text"))
}

pub(super) fn refused(reason: impl Into<String>) -> EngineError {
    EngineError::GrammarRefused { reason: reason.into() }
}
