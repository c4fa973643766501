//! A conversation, as all chat formats take it.

use serde_json::Value;

/// What has been said, and what the model may do next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// The turns so far, the oldest first.
    pub turns: Vec<Turn>,
    /// The functions that the model may call.
    pub tools: Vec<FunctionTool>,
    /// The function of `tools` that it must call now.
    pub forced_tool: Option<String>,
    /// How long it should think, for models that were trained to be told.
    pub reasoning_effort: Option<ReasoningEffort>,
}

/// Something said.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// Instructions of whoever runs the model.
    System(String),
    /// Instructions of whoever builds on it.
    Developer(String),
    /// A person's words.
    User(String),
    /// The model's words.
    Assistant {
        /// The answer; empty if there are only calls.
        content: String,
        /// What it thought, if it is known.
        reasoning: Option<String>,
        /// What it called.
        tool_calls: Vec<ToolCall>,
    },
    /// The result of a call.
    Tool {
        /// The function's name.
        name: String,
        /// The call's id.
        call_id: String,
        /// The result.
        content: String,
    },
}

/// A function that was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Made up by whoever received the call; results refer to it.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// The arguments as the model wrote them, which should be JSON.
    pub arguments: String,
}

/// A function that may be called.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionTool {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// A JSON schema of its arguments; `None` if it has none.
    pub parameters: Option<Value>,
}

/// How long a model should think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReasoningEffort {
    /// Briefly.
    Low,
    /// As gpt-oss does if it isn't told.
    #[default]
    Medium,
    /// At length.
    High,
}

impl ReasoningEffort {
    /// The word that models and OpenAI's API know.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}
