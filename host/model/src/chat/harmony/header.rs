//! A message's header, while the model writes it.
//!
//! Models put the recipient before or behind the channel, with or without a space before `<|constrain|>`, and now and
//! then forget `<|message|>`. A header therefore keeps the texts between its tokens and is read at the end.

use super::tokens::SpecialToken;
use crate::chat::answer_event::Malformation;

/// A header in tokens; more is no header.
const MOST_TOKENS: usize = 64;
/// The longest name of a recipient that is taken for one.
const MOST_RECIPIENT_BYTES: usize = 256;

/// What has been read of a header.
#[derive(Clone, Debug, Default)]
pub(super) struct Header {
    /// Whether it began with `<|start|>`; an answer's first header begins behind the author.
    started: bool,
    /// The text before the channel: author and recipient.
    front: String,
    /// The text behind `<|channel|>`: channel, recipient, form.
    channel: Option<String>,
    /// The text behind `<|constrain|>`: form.
    form: Option<String>,
    /// Tokens that it consists of and that no event has counted.
    pub(super) tokens: usize,
    /// What is wrong with it so far.
    pub(super) problem: Option<Malformation>,
}

/// What a text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TextKind {
    Reasoning,
    Commentary,
    Content,
    Call { recipient: String, content_type: Option<String> },
}

impl Header {
    /// A header behind `<|start|>`, which is its first token.
    pub(super) fn started() -> Self {
        Self { started: true, tokens: 1, ..Self::default() }
    }

    pub(super) fn push_text(&mut self, text: &str) {
        let part = match (&mut self.form, &mut self.channel) {
            (Some(form), _) => form,
            (None, Some(channel)) => channel,
            (None, None) => &mut self.front,
        };
        part.push_str(text);
    }

    /// `<|channel|>`; of several the last one counts.
    pub(super) fn begin_channel(&mut self) {
        if self.channel.replace(String::new()).is_some() || self.form.take().is_some() {
            self.problem = Some(Malformation::Stray);
        }
    }

    /// `<|constrain|>`.
    pub(super) fn begin_form(&mut self) {
        self.form.get_or_insert_default();
    }

    /// Whether this can still become a header, or is text already.
    pub(super) fn is_plausible(&self) -> bool {
        if self.tokens > MOST_TOKENS {
            return false;
        }
        let sections = [Some(&self.front), self.channel.as_ref(), self.form.as_ref()];
        if sections.into_iter().flatten().any(|section| section.trim_start().contains('\n')) {
            return false;
        }
        let mut words = self.front.split_ascii_whitespace();
        let Some(first) = words.next() else { return true };
        // Behind `<|start|>` the first word is an author, whoever it is.
        (self.started || begins("assistant", first) || begins_recipient(first)) && words.all(begins_recipient)
    }

    /// What the text behind `<|message|>` is, and what is wrong about it.
    pub(super) fn read(&self) -> (TextKind, Option<Malformation>) {
        let (channel, rest) = self.channel_and_rest();
        let mut recipient = None;
        let mut content_type = self.form.as_deref().and_then(|form| form.split_ascii_whitespace().next());
        let front = self.front.split_ascii_whitespace().skip(usize::from(self.author().is_some()));
        for word in front.chain(rest.split_ascii_whitespace()) {
            match word.strip_prefix("to=") {
                Some(name) => recipient = Some(name),
                None => content_type = content_type.or(Some(word)),
            }
        }
        let foreign =
            self.author().filter(|author| *author != "assistant").map(|_| Malformation::ForeignAuthor);
        if let Some(name) = recipient.filter(|name| !matches!(*name, "all" | "user" | "assistant")) {
            if foreign.is_none() && is_recipient(name) {
                let content_type = content_type.map(str::to_owned);
                return (TextKind::Call { recipient: name.to_owned(), content_type }, self.problem);
            }
            let problem = foreign.unwrap_or(Malformation::InvalidRecipient);
            return (TextKind::Reasoning, Some(problem));
        }
        let (kind, problem) = kind_of(channel);
        (kind, foreign.or(problem).or(self.problem))
    }

    /// The text of what turned out not to be a header, and what kind it is.
    pub(super) fn salvage(&self) -> (TextKind, String) {
        let (channel, rest) = self.channel_and_rest();
        let front = self.front.trim_start();
        let front = front.strip_prefix(self.author().unwrap_or_default()).unwrap_or(front);
        let mut text = front.to_owned();
        text.push_str(rest);
        if let Some(form) = &self.form {
            text.push_str(SpecialToken::Constrain.text());
            text.push_str(form);
        }
        let known = matches!(channel, Some("analysis" | "commentary" | "final"));
        if let Some(unknown) = channel.filter(|_| !known) {
            text.insert_str(front.len(), unknown);
        }
        (kind_of(channel).0, text.trim_start().to_owned())
    }

    /// The author's word, if the header has one.
    fn author(&self) -> Option<&str> {
        let first = self.front.split_ascii_whitespace().next()?;
        let named = self.started && !first.starts_with("to=");
        (named || first == "assistant").then_some(first)
    }

    /// The channel's name and the text behind it. In `to=x commentary` the name comes second.
    fn channel_and_rest(&self) -> (Option<&str>, &str) {
        let Some(section) = &self.channel else { return (None, "") };
        let section = section.trim_start();
        let end = section.find(|character: char| character.is_whitespace() || character == '<');
        let (name, rest) = section.split_at(end.unwrap_or(section.len()));
        if name.is_empty() || name.starts_with("to=") { (None, section) } else { (Some(name), rest) }
    }
}

fn kind_of(channel: Option<&str>) -> (TextKind, Option<Malformation>) {
    match channel {
        Some("analysis") => (TextKind::Reasoning, None),
        Some("commentary") => (TextKind::Commentary, None),
        Some("final") => (TextKind::Content, None),
        Some(_) => (TextKind::Content, Some(Malformation::UnknownChannel)),
        None => (TextKind::Content, Some(Malformation::MissingChannel)),
    }
}

fn begins(word: &str, beginning: &str) -> bool {
    word.starts_with(beginning)
}

fn begins_recipient(word: &str) -> bool {
    word.starts_with("to=") || begins("to=", word)
}

/// Letters, digits, `_`, `-` and dots between names.
fn is_recipient(name: &str) -> bool {
    name.len() <= MOST_RECIPIENT_BYTES
        && name.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        })
}
