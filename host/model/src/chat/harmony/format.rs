//! A conversation in Harmony.

use super::content::{DeveloperContent, SystemContent};
use super::message::{Author, Content, HarmonyMessage};
use super::parser::HarmonyParser;
use super::render::{HarmonyPiece, encode, pieces_for_completion};
use super::tokens::{HarmonyTokens, SpecialToken};
use crate::chat::answer_parser::AnswerParser;
use crate::chat::conversation::{Conversation, ToolCall, Turn};
use crate::chat::date;
use crate::chat::format::ChatPrompt;
use crate::error::ModelError;
use crate::tokenizer::Tokenizer;

/// The namespace of the functions that a conversation offers.
const NAMESPACE: &str = "functions";

/// Harmony with the ids of one vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct HarmonyFormat {
    tokens: HarmonyTokens,
}

impl HarmonyFormat {
    /// Harmony for a vocabulary that has its tokens.
    #[must_use]
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        HarmonyTokens::of(tokenizer).map(|tokens| Self { tokens })
    }

    /// The conversation's messages. `today` is the date that the model is told, `YYYY-MM-DD`.
    ///
    /// System and developer turns are instructions: those at the beginning become the developer message, which has
    /// the tools, later ones developer messages at their place.
    #[must_use]
    pub fn messages(conversation: &Conversation, today: &str) -> Vec<HarmonyMessage> {
        let system = SystemContent {
            current_date: Some(today.to_owned()),
            reasoning_effort: conversation.reasoning_effort.unwrap_or_default(),
            ..SystemContent::default()
        };
        let mut messages = vec![HarmonyMessage::new(Author::System, Content::System(system))];
        let leading: Vec<&str> = conversation.turns.iter().map_while(instructions).collect();
        if !leading.is_empty() || !conversation.tools.is_empty() {
            let developer = DeveloperContent {
                instructions: (!leading.is_empty()).then(|| leading.join("\n\n")),
                functions: conversation.tools.clone(),
                response_formats: Vec::new(),
            };
            messages.push(HarmonyMessage::new(Author::Developer, Content::Developer(developer)));
        }
        messages.extend(conversation.turns.iter().skip(leading.len()).flat_map(turn_messages));
        messages
    }

    /// The tokens that ask for the next answer, and the parser of that answer.
    ///
    /// # Errors
    /// The tokenizer refuses a text.
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        conversation: &Conversation,
    ) -> Result<ChatPrompt, ModelError> {
        let mut pieces = pieces_for_completion(&Self::messages(conversation, &date::today()));
        let (parser, opening) = match &conversation.forced_tool {
            None => (HarmonyParser::new(tokenizer, self.tokens), Vec::new()),
            Some(function) => {
                let recipient = format!("{NAMESPACE}.{function}");
                pieces.extend(call_header(&recipient));
                let (parser, begin) = HarmonyParser::in_call(tokenizer, self.tokens, &recipient, "json");
                (parser, vec![begin])
            }
        };
        let tokens = encode(&pieces, tokenizer, &self.tokens)?;
        Ok(ChatPrompt { tokens, parser: AnswerParser::Harmony(Box::new(parser)), opening })
    }
}

/// The rest of the header of a call, behind `<|start|>assistant`.
fn call_header(recipient: &str) -> [HarmonyPiece; 7] {
    [
        HarmonyPiece::Text(format!(" to={recipient}")),
        HarmonyPiece::Token(SpecialToken::Channel),
        HarmonyPiece::Text("commentary".to_owned()),
        HarmonyPiece::Text(" ".to_owned()),
        HarmonyPiece::Token(SpecialToken::Constrain),
        HarmonyPiece::Text("json".to_owned()),
        HarmonyPiece::Token(SpecialToken::Message),
    ]
}

fn instructions(turn: &Turn) -> Option<&str> {
    match turn {
        Turn::System(text) | Turn::Developer(text) => Some(text),
        _ => None,
    }
}

fn turn_messages(turn: &Turn) -> Vec<HarmonyMessage> {
    match turn {
        Turn::System(text) | Turn::Developer(text) => {
            let content =
                DeveloperContent { instructions: Some(text.clone()), ..DeveloperContent::default() };
            vec![HarmonyMessage::new(Author::Developer, Content::Developer(content))]
        }
        Turn::User(text) => vec![HarmonyMessage::text(Author::User, text)],
        Turn::Assistant { content, reasoning, tool_calls } => {
            assistant_messages(content, reasoning.as_deref(), tool_calls)
        }
        Turn::Tool { name, content, .. } => {
            let author = Author::Tool(format!("{NAMESPACE}.{name}"));
            vec![HarmonyMessage::text(author, content).to("assistant").in_channel("commentary")]
        }
    }
}

fn assistant_messages(
    content: &str,
    reasoning: Option<&str>,
    tool_calls: &[ToolCall],
) -> Vec<HarmonyMessage> {
    let message = |text: &str| HarmonyMessage::text(Author::Assistant, text);
    let mut messages = Vec::new();
    if let Some(reasoning) = reasoning.filter(|text| !text.is_empty()) {
        messages.push(message(reasoning).in_channel("analysis"));
    }
    if tool_calls.is_empty() {
        messages.push(message(content).in_channel("final"));
    } else if !content.is_empty() {
        messages.push(message(content).in_channel("commentary"));
    }
    messages.extend(tool_calls.iter().map(|call| {
        message(&call.arguments)
            .to(format!("{NAMESPACE}.{}", call.name))
            .in_channel("commentary")
            .of_type("<|constrain|>json")
    }));
    messages
}
