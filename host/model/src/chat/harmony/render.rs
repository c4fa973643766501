//! Messages to tokens.

use super::message::{Author, Content, HarmonyMessage};
use super::tokens::{HarmonyTokens, SpecialToken};
use crate::error::ModelError;
use crate::tokenizer::Tokenizer;

/// A part of a rendered conversation. Texts are encoded one by one: their borders are borders of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HarmonyPiece {
    /// Ordinary text, in which special tokens' texts mean nothing.
    Text(String),
    /// A special token.
    Token(SpecialToken),
}

/// The conversation, and the opening of the assistant's next message.
///
/// Thoughts are left out once the turn that they belong to has ended in a `final` message.
#[must_use]
pub fn pieces_for_completion(messages: &[HarmonyMessage]) -> Vec<HarmonyPiece> {
    // Whatever ended in a final message has ended: the message that is opened here begins another turn.
    let ended = messages.iter().rposition(|message| message.is_in("final")).unwrap_or(0);
    let mut pieces = render(messages, ended);
    pieces.push(HarmonyPiece::Token(SpecialToken::Start));
    pieces.push(HarmonyPiece::Text(Author::Assistant.name().to_owned()));
    pieces
}

/// The conversation as it stands; the thoughts of its last turn stay.
#[must_use]
pub fn pieces_of_conversation(messages: &[HarmonyMessage]) -> Vec<HarmonyPiece> {
    let last_user = messages.iter().rposition(|message| message.author == Author::User).unwrap_or(0);
    let earlier = messages.get(..last_user).unwrap_or_default();
    let ended = earlier.iter().rposition(|message| message.is_in("final")).unwrap_or(0);
    render(messages, ended)
}

/// The text of pieces, special tokens by their texts.
#[must_use]
pub fn text_of(pieces: &[HarmonyPiece]) -> String {
    let text = |piece: &HarmonyPiece| match piece {
        HarmonyPiece::Text(text) => text.clone(),
        HarmonyPiece::Token(token) => token.text().to_owned(),
    };
    pieces.iter().map(text).collect()
}

/// The tokens of pieces.
pub(super) fn encode(
    pieces: &[HarmonyPiece],
    tokenizer: &Tokenizer,
    tokens: &HarmonyTokens,
) -> Result<Vec<u32>, ModelError> {
    let mut ids = Vec::new();
    for piece in pieces {
        match piece {
            HarmonyPiece::Text(text) => ids.extend(tokenizer.encode(text, false)?),
            HarmonyPiece::Token(token) => ids.push(tokens.id(*token)),
        }
    }
    Ok(ids)
}

/// All messages but the thoughts before `ended`.
fn render(messages: &[HarmonyMessage], ended: usize) -> Vec<HarmonyPiece> {
    let has_functions = messages.iter().any(
        |message| matches!(&message.content, Content::Developer(content) if !content.functions.is_empty()),
    );
    let mut pieces = Vec::new();
    for (place, message) in messages.iter().enumerate() {
        if place >= ended || !message.is_in("analysis") {
            render_message(message, has_functions, &mut pieces);
        }
    }
    pieces
}

fn render_message(message: &HarmonyMessage, has_functions: bool, pieces: &mut Vec<HarmonyPiece>) {
    let text = |text: &str| HarmonyPiece::Text(text.to_owned());
    pieces.push(HarmonyPiece::Token(SpecialToken::Start));
    pieces.push(text(message.author.name()));
    if let Some(recipient) = message.recipient.as_deref().filter(|recipient| *recipient != "all") {
        pieces.push(HarmonyPiece::Text(format!(" to={recipient}")));
    }
    if let Some(channel) = &message.channel {
        pieces.push(HarmonyPiece::Token(SpecialToken::Channel));
        pieces.push(text(channel));
    }
    if let Some(content_type) = &message.content_type {
        match content_type.strip_prefix(SpecialToken::Constrain.text()) {
            Some(form) => {
                pieces.push(text(" "));
                pieces.push(HarmonyPiece::Token(SpecialToken::Constrain));
                pieces.extend((!form.is_empty()).then(|| text(form)));
            }
            None => pieces.push(HarmonyPiece::Text(format!(" {content_type}"))),
        }
    }
    pieces.push(HarmonyPiece::Token(SpecialToken::Message));
    pieces.push(HarmonyPiece::Text(match &message.content {
        Content::Text(text) => text.clone(),
        Content::System(content) => content.to_text(has_functions),
        Content::Developer(content) => content.to_text(),
    }));
    let calls = message.author == Author::Assistant && message.recipient.is_some();
    pieces.push(HarmonyPiece::Token(if calls { SpecialToken::Call } else { SpecialToken::End }));
}
