//! A conversation by a checkpoint's chat template.

use serde_json::{Map, Value, json};

use super::answer_parser::AnswerParser;
use super::conversation::{Conversation, FunctionTool, ToolCall, Turn};
use super::format::ChatPrompt;
use super::tagged_parser::TaggedParser;
use super::template::ChatTemplate;
use crate::error::ModelError;
use crate::tokenizer::Tokenizer;

/// A template, and what it says about the model's answers.
#[derive(Debug)]
pub struct TemplateFormat {
    template: ChatTemplate,
    reasoning: bool,
    tools: bool,
}

impl TemplateFormat {
    /// The format of `template` with this `source`. Answers are split at `<think>` and `</think>` if the template or
    /// the vocabulary knows them. Tools are supported if the template takes them and has calls written as
    /// `<tool_call>{json}</tool_call>`.
    #[must_use]
    pub fn new(template: ChatTemplate, source: &str, tokenizer: &Tokenizer) -> Self {
        let reasoning = source.contains("</think>")
            || source.contains("<think>")
            || tokenizer.token_id("</think>").is_some();
        // `<function=` is another form between the same tags.
        let tools =
            template.reads("tools") && source.contains("<tool_call>") && !source.contains("<function=");
        Self { template, reasoning, tools }
    }

    pub(super) fn supports_tools(&self) -> bool {
        self.tools
    }

    pub(super) fn supports_reasoning_effort(&self) -> bool {
        self.template.reads("reasoning_effort")
    }

    pub(super) fn prompt(
        &self,
        tokenizer: &Tokenizer,
        conversation: &Conversation,
    ) -> Result<ChatPrompt, ModelError> {
        let mut variables = Map::new();
        variables.insert("messages".into(), conversation.turns.iter().map(message).collect());
        variables.insert("add_generation_prompt".into(), true.into());
        if !conversation.tools.is_empty() {
            variables.insert("tools".into(), conversation.tools.iter().map(tool).collect());
        }
        if let Some(effort) = conversation.reasoning_effort {
            variables.insert("reasoning_effort".into(), effort.name().into());
        }
        let text = self.template.render_with(&variables)?;
        let tools = !conversation.tools.is_empty();
        let parser = if self.reasoning || tools {
            let in_reasoning = self.reasoning && text.trim_end().ends_with("<think>");
            let parser = TaggedParser::new(tokenizer, self.reasoning, tools, in_reasoning);
            AnswerParser::Tagged(Box::new(parser))
        } else {
            AnswerParser::Plain
        };
        Ok(ChatPrompt { tokens: tokenizer.encode(&text, true)?, parser, opening: Vec::new() })
    }
}

/// A turn as HF's templates know messages; what doesn't apply is absent.
fn message(turn: &Turn) -> Value {
    match turn {
        Turn::System(text) | Turn::Developer(text) => json!({ "role": "system", "content": text }),
        Turn::User(text) => json!({ "role": "user", "content": text }),
        Turn::Assistant { content, reasoning, tool_calls } => {
            let mut message = json!({ "role": "assistant", "content": content });
            if let Value::Object(message) = &mut message {
                if let Some(reasoning) = reasoning {
                    message.insert("reasoning_content".into(), reasoning.as_str().into());
                }
                if !tool_calls.is_empty() {
                    message.insert("tool_calls".into(), tool_calls.iter().map(call).collect());
                }
            }
            message
        }
        Turn::Tool { name, call_id, content } => {
            json!({ "role": "tool", "name": name, "tool_call_id": call_id, "content": content })
        }
    }
}

/// Templates expect the arguments as an object and write them as JSON themselves.
fn call(call: &ToolCall) -> Value {
    let arguments: Value =
        serde_json::from_str(&call.arguments).unwrap_or_else(|_| call.arguments.as_str().into());
    json!({
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": arguments },
    })
}

fn tool(tool: &FunctionTool) -> Value {
    let mut function = Map::new();
    function.insert("name".into(), tool.name.as_str().into());
    function.insert("description".into(), tool.description.as_deref().unwrap_or_default().into());
    function.insert(
        "parameters".into(),
        tool.parameters.clone().unwrap_or_else(|| json!({ "type": "object", "properties": {} })),
    );
    json!({ "type": "function", "function": function })
}
