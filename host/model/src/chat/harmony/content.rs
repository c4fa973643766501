//! The texts of system and developer messages.

use serde_json::Value;

use super::typescript;
use crate::chat::conversation::{FunctionTool, ReasoningEffort};

/// Who the model is and what it is to know about the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemContent {
    /// The sentence that gpt-oss was trained with; other identities belong into the developer message.
    pub identity: String,
    /// When its training data ends, `YYYY-MM`.
    pub knowledge_cutoff: String,
    /// Today, `YYYY-MM-DD`.
    pub current_date: Option<String>,
    /// How long to think.
    pub reasoning_effort: ReasoningEffort,
    /// The channels that a message may be in.
    pub channels: Vec<String>,
    /// Tools that the model was trained on, as text of [`ToolNamespace::describe`].
    pub tools: Vec<String>,
}

impl Default for SystemContent {
    fn default() -> Self {
        Self {
            identity: "You are ChatGPT, a large language model trained by OpenAI.".to_owned(),
            knowledge_cutoff: "2024-06".to_owned(),
            current_date: None,
            reasoning_effort: ReasoningEffort::default(),
            channels: ["analysis", "commentary", "final"].map(str::to_owned).to_vec(),
            tools: Vec::new(),
        }
    }
}

impl SystemContent {
    /// The text; it has one line more if the conversation has functions.
    pub(super) fn to_text(&self, has_functions: bool) -> String {
        let mut facts = format!("{}\nKnowledge cutoff: {}", self.identity, self.knowledge_cutoff);
        if let Some(date) = &self.current_date {
            facts.push_str(&format!("\nCurrent date: {date}"));
        }
        let mut sections = vec![facts, format!("Reasoning: {}", self.reasoning_effort.name())];
        sections.extend(tools_section(&self.tools));
        let mut channels = format!(
            "# Valid channels: {}. Channel must be included for every message.",
            self.channels.join(", ")
        );
        if has_functions {
            channels.push_str("\nCalls to these tools must go to the commentary channel: 'functions'.");
        }
        sections.push(channels);
        sections.join("\n\n")
    }
}

/// What the model is to do, and with what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeveloperContent {
    /// What others call the system prompt.
    pub instructions: Option<String>,
    /// The functions that it may call.
    pub functions: Vec<FunctionTool>,
    /// The forms that its answer may be asked to have.
    pub response_formats: Vec<ResponseFormat>,
}

/// A form of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseFormat {
    /// What instructions call it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Its JSON schema.
    pub schema: Value,
}

impl DeveloperContent {
    pub(super) fn to_text(&self) -> String {
        let mut sections = Vec::new();
        if let Some(instructions) = &self.instructions {
            sections.push(format!("# Instructions\n\n{instructions}"));
        }
        if !self.functions.is_empty() {
            let functions =
                ToolNamespace { name: "functions", description: None, functions: &self.functions };
            sections.extend(tools_section(&[functions.describe()]));
        }
        if !self.response_formats.is_empty() {
            sections.push("# Response Formats".to_owned());
            sections.extend(self.response_formats.iter().map(ResponseFormat::to_text));
        }
        sections.join("\n\n")
    }
}

impl ResponseFormat {
    fn to_text(&self) -> String {
        let description: String = self
            .description
            .iter()
            .flat_map(|text| text.lines())
            .map(|line| format!("// {line}\n"))
            .collect();
        format!("## {}\n\n{description}{}", self.name, self.schema)
    }
}

/// Functions under one name.
#[derive(Clone, Copy, Debug)]
pub struct ToolNamespace<'a> {
    /// The name: `functions` for those of the API's users.
    pub name: &'a str,
    /// What they are for.
    pub description: Option<&'a str>,
    /// The functions; a tool that takes free text has none.
    pub functions: &'a [FunctionTool],
}

impl ToolNamespace<'_> {
    /// The text that tells the model about them: TypeScript, with descriptions as comments.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut lines = vec![format!("## {}\n", self.name)];
        let prefix = if self.functions.is_empty() { "" } else { "// " };
        lines.extend(
            self.description.iter().flat_map(|text| text.lines()).map(|line| format!("{prefix}{line}")),
        );
        if !self.functions.is_empty() {
            lines.push(format!("namespace {} {{\n", self.name));
            lines.extend(self.functions.iter().map(declaration));
            lines.push(format!("}} // namespace {}", self.name));
        }
        lines.join("\n")
    }
}

fn declaration(function: &FunctionTool) -> String {
    let comment: String = function
        .description
        .iter()
        .flat_map(|text| text.lines())
        .map(|line| format!("// {line}\n"))
        .collect();
    let argument = match &function.parameters {
        Some(schema) => format!("_: {}", typescript::type_of(schema, "")),
        None => String::new(),
    };
    format!("{comment}type {} = ({argument}) => any;\n", function.name)
}

fn tools_section(tools: &[String]) -> Option<String> {
    if tools.is_empty() { None } else { Some(format!("# Tools\n\n{}", tools.join("\n\n"))) }
}
