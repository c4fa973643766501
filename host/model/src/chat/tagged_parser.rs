//! Answers with `<think>…</think>` and `<tool_call>{json}</tool_call>` in their text, as models of Qwen's line and
//! those distilled from DeepSeek-R1 write them.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer_event::{AnswerEvent, AnswerPart, Malformation};
use crate::tokenizer::{TextStream, Tokenizer};

const THINK: &str = "<think>";
const END_THINK: &str = "</think>";
const CALL: &str = "<tool_call>";
const END_CALL: &str = "</tool_call>";

/// Reads such an answer; any tokens are one. White space next to a tag belongs to the tag.
#[derive(Clone, Debug)]
pub struct TaggedParser {
    tokenizer: Tokenizer,
    text: TextStream,
    reasoning: bool,
    tools: bool,
    /// Whether the answer's text has no tags in it.
    literal: bool,
    place: Place,
    /// Text that may still become a tag, or white space in front of one.
    held: String,
    /// Whether what comes next follows a tag.
    after_tag: bool,
    /// Whether some of the answer's text has been read.
    has_content: bool,
    /// Tokens that no event has counted.
    uncounted: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Content,
    Reasoning,
    Call,
}

/// What stands between the tags of a call.
#[derive(Deserialize)]
struct Call<'a> {
    name: String,
    #[serde(borrow)]
    arguments: &'a RawValue,
}

impl TaggedParser {
    /// A parser of thoughts, calls or both; `in_reasoning` if the prompt opened the thoughts.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer, reasoning: bool, tools: bool, in_reasoning: bool) -> Self {
        Self {
            tokenizer: tokenizer.clone(),
            text: TextStream::new(tokenizer, false),
            reasoning,
            tools,
            literal: false,
            place: if in_reasoning { Place::Reasoning } else { Place::Content },
            held: String::new(),
            after_tag: in_reasoning,
            has_content: false,
            uncounted: 0,
        }
    }

    /// The same for an answer that is kept to a form: where its text has begun, what looks like a tag is text.
    #[must_use]
    pub fn with_literal_content(self) -> Self {
        Self { literal: true, ..self }
    }

    /// Whether thoughts are told from the answer.
    #[must_use]
    pub fn reads_reasoning(&self) -> bool {
        self.reasoning
    }

    /// Whether what comes next is a thought.
    #[must_use]
    pub fn is_in_reasoning(&self) -> bool {
        self.place == Place::Reasoning
    }

    /// Takes the next token. Control and end tokens are left out, unless they are a tag.
    pub fn push(&mut self, id: u32) -> Vec<AnswerEvent> {
        self.uncounted += 1;
        let bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
        let is_tag = [THINK, END_THINK, CALL, END_CALL].iter().any(|tag| tag.as_bytes() == bytes);
        let mut events = Vec::new();
        let is_control = self.tokenizer.is_special(id) || self.tokenizer.eos().contains(&id);
        if is_control && !is_tag {
            return events;
        }
        let text = self.text.push(id);
        self.held.push_str(&text);
        self.read(&mut events);
        events
    }

    /// No more tokens come.
    pub fn finish(&mut self) -> Vec<AnswerEvent> {
        let mut events = Vec::new();
        let rest = self.text.flush();
        self.held.push_str(&rest);
        self.read(&mut events);
        let rest = std::mem::take(&mut self.held);
        match self.place {
            Place::Call => self.end_call(&rest, "", &mut events),
            Place::Content | Place::Reasoning => self.emit(&rest, &mut events),
        }
        if self.uncounted > 0 {
            self.event(AnswerPart::Framing, None, &mut events);
        }
        events
    }

    /// Takes out of `held` what can't change any more.
    fn read(&mut self, events: &mut Vec<AnswerEvent>) {
        while let Some((at, tag)) = self.next_tag() {
            let rest = self.held.split_off(at + tag.len());
            let mut before = std::mem::replace(&mut self.held, rest);
            before.truncate(at);
            self.take_tag(&before, tag, events);
        }
        if self.place == Place::Call {
            return;
        }
        if self.after_tag {
            self.held.drain(..self.held.len() - self.held.trim_start().len());
        }
        let keep = self.undecided();
        let rest = self.held.split_off(self.held.len() - keep);
        let text = std::mem::replace(&mut self.held, rest);
        self.emit(&text, events);
    }

    /// The first tag in `held` that has a meaning here.
    fn next_tag(&self) -> Option<(usize, &'static str)> {
        let found = self.tags().iter().filter_map(|tag| Some((self.held.find(tag)?, *tag)));
        let (at, tag) = found.min_by_key(|(at, _)| *at)?;
        let begins_content = self.held.get(..at).is_some_and(|text| !text.trim_start().is_empty());
        let is_text = self.literal && self.place == Place::Content && begins_content;
        (!is_text).then_some((at, tag))
    }

    fn tags(&self) -> &'static [&'static str] {
        match (self.place, self.reasoning, self.tools) {
            (Place::Call, ..) => &[END_CALL],
            (Place::Reasoning, ..) => &[END_THINK],
            (Place::Content, ..) if self.literal && self.has_content => &[],
            (Place::Content, true, true) => &[THINK, END_THINK, CALL],
            (Place::Content, true, false) => &[THINK, END_THINK],
            (Place::Content, false, true) => &[CALL],
            (Place::Content, false, false) => &[],
        }
    }

    fn take_tag(&mut self, before: &str, tag: &'static str, events: &mut Vec<AnswerEvent>) {
        if tag == END_CALL {
            self.end_call(before, END_CALL, events);
            self.place = Place::Content;
        } else {
            let before = if self.after_tag { before.trim_start() } else { before };
            self.emit(before.trim_end(), events);
            let problem = (tag == END_THINK && self.place == Place::Content).then_some(Malformation::Stray);
            self.event(AnswerPart::Framing, problem, events);
            self.place = match tag {
                THINK => Place::Reasoning,
                CALL => Place::Call,
                _ => Place::Content,
            };
        }
        self.after_tag = true;
    }

    /// Bytes at the end of `held` that may become a tag, with the white space before them.
    fn undecided(&self) -> usize {
        let tag = self
            .tags()
            .iter()
            .flat_map(|tag| (1..tag.len()).rev().filter_map(|length| tag.get(..length)))
            .filter(|beginning| self.held.ends_with(beginning))
            .map(str::len)
            .max()
            .unwrap_or(0);
        let decided = self.held.get(..self.held.len() - tag).unwrap_or_default();
        if self.tags().is_empty() { 0 } else { tag + decided.len() - decided.trim_end().len() }
    }

    fn end_call(&mut self, text: &str, end: &str, events: &mut Vec<AnswerEvent>) {
        let Ok(call) = serde_json::from_str::<Call<'_>>(text.trim()) else {
            let text = format!("{CALL}{text}{end}");
            self.event(AnswerPart::Content(text), Some(Malformation::InvalidToolCall), events);
            return;
        };
        // Some models write the arguments' JSON as a string, as OpenAI's API has it.
        let arguments = serde_json::from_str::<String>(call.arguments.get())
            .unwrap_or_else(|_| call.arguments.get().to_owned());
        let start = AnswerPart::ToolCallStart { recipient: call.name, content_type: None };
        self.event(start, None, events);
        self.event(AnswerPart::ToolCallArguments(arguments), None, events);
        self.event(AnswerPart::ToolCallEnd, None, events);
    }

    fn emit(&mut self, text: &str, events: &mut Vec<AnswerEvent>) {
        if text.is_empty() {
            return;
        }
        self.after_tag = false;
        self.has_content |= self.place != Place::Reasoning;
        let part = match self.place {
            Place::Reasoning => AnswerPart::Reasoning(text.to_owned()),
            Place::Content | Place::Call => AnswerPart::Content(text.to_owned()),
        };
        self.event(part, None, events);
    }

    fn event(&mut self, part: AnswerPart, problem: Option<Malformation>, events: &mut Vec<AnswerEvent>) {
        events.push(AnswerEvent::new(std::mem::take(&mut self.uncounted), part).with(problem));
    }
}
