//! Tokens of an answer to events, one token at a time.

use super::header::{Header, TextKind};
use super::tokens::{HarmonyTokens, SpecialToken};
use crate::chat::answer_event::{AnswerEvent, AnswerPart, EndOfAnswer, Malformation};
use crate::tokenizer::{TextStream, Tokenizer};

/// Reads an answer behind `<|start|>assistant`. Any tokens are an answer: what is malformed is given as text, or as
/// framing if there is none, and says what is wrong with it.
#[derive(Clone, Debug)]
pub struct HarmonyParser {
    tokenizer: Tokenizer,
    tokens: HarmonyTokens,
    text: TextStream,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// Behind a message: `<|start|>` should follow.
    Between,
    Header(Header),
    Body(Body),
    Ended,
}

/// A message's text.
#[derive(Clone, Debug)]
struct Body {
    kind: TextKind,
    problem: Option<Malformation>,
    /// Tokens whose text isn't complete.
    pending: usize,
}

impl HarmonyParser {
    /// A parser at the beginning of an answer.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer, tokens: HarmonyTokens) -> Self {
        let text = TextStream::new(tokenizer, false);
        Self { tokenizer: tokenizer.clone(), tokens, text, state: State::Header(Header::default()) }
    }

    /// A parser at the arguments of a call that the prompt opened; its first event is the call's beginning.
    #[must_use]
    pub fn in_call(
        tokenizer: &Tokenizer,
        tokens: HarmonyTokens,
        recipient: &str,
        content_type: &str,
    ) -> (Self, AnswerEvent) {
        let kind =
            TextKind::Call { recipient: recipient.to_owned(), content_type: Some(content_type.to_owned()) };
        let mut parser = Self::new(tokenizer, tokens);
        let begin = parser.begin_body(kind, None, 0);
        (parser, begin)
    }

    /// Takes the next token.
    pub fn push(&mut self, id: u32) -> Vec<AnswerEvent> {
        let mut events = Vec::new();
        match self.tokens.token(id) {
            Some(token) => self.control(token, &mut events),
            None if self.is_text(id) => self.ordinary(id, &mut events),
            None => {
                let known = self.tokenizer.token_bytes(id).is_some();
                self.stray(if known { Malformation::Stray } else { Malformation::UnknownToken }, &mut events);
            }
        }
        events
    }

    /// Ends the answer: no more tokens come.
    pub fn finish(&mut self) -> Vec<AnswerEvent> {
        let mut events = Vec::new();
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Header(header) => self.salvage(&header, &mut events),
            State::Body(body) => self.end_body(body, &mut events),
            State::Between | State::Ended => {}
        }
        events
    }

    fn is_text(&self, id: u32) -> bool {
        !self.tokenizer.is_special(id)
            && self.tokenizer.token_bytes(id).is_some_and(|bytes| !bytes.is_empty())
    }

    fn ordinary(&mut self, id: u32, events: &mut Vec<AnswerEvent>) {
        match &mut self.state {
            State::Ended => self.stray(Malformation::AfterEnd, events),
            State::Between => {
                self.begin_text(TextKind::Content, Malformation::MissingStart);
                self.ordinary(id, events);
            }
            State::Header(header) => {
                header.tokens += 1;
                let text = self.text.push(id);
                header.push_text(&text);
                if !header.is_plausible() {
                    let header = std::mem::take(header);
                    let (kind, text) = header.salvage();
                    self.state = State::Body(Body {
                        kind,
                        problem: Some(Malformation::MissingMessage),
                        pending: header.tokens,
                    });
                    self.emit_text(text, events);
                }
            }
            State::Body(body) => {
                body.pending += 1;
                let text = self.text.push(id);
                self.emit_text(text, events);
            }
        }
    }

    fn control(&mut self, token: SpecialToken, events: &mut Vec<AnswerEvent>) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => events.push(framing(1, Some(Malformation::AfterEnd))),
            State::Between => self.control_between(token, events),
            State::Header(header) => self.control_in_header(header, token, events),
            State::Body(body) => self.control_in_body(body, token, events),
        }
    }

    fn control_between(&mut self, token: SpecialToken, events: &mut Vec<AnswerEvent>) {
        match token {
            SpecialToken::Start => self.state = State::Header(Header::started()),
            SpecialToken::Channel | SpecialToken::Message => {
                // The model left `<|start|>assistant` out.
                let mut header = Header::default();
                header.problem = Some(Malformation::MissingStart);
                self.begin_header_with(&mut header, token, events);
            }
            SpecialToken::Return | SpecialToken::Call | SpecialToken::EndOfText => end(token, events),
            SpecialToken::End | SpecialToken::Constrain => {
                self.state = State::Between;
                events.push(framing(1, Some(Malformation::Stray)));
            }
        }
    }

    fn control_in_header(&mut self, mut header: Header, token: SpecialToken, events: &mut Vec<AnswerEvent>) {
        match token {
            SpecialToken::Channel | SpecialToken::Message => {
                self.begin_header_with(&mut header, token, events)
            }
            SpecialToken::Constrain => {
                self.flush_into(&mut header);
                header.tokens += 1;
                header.begin_form();
                self.state = State::Header(header);
            }
            SpecialToken::Start => {
                self.salvage(&header, events);
                self.state = State::Header(Header::started());
            }
            SpecialToken::End => {
                self.salvage(&header, events);
                self.state = State::Between;
                events.push(framing(1, None));
            }
            SpecialToken::Return | SpecialToken::Call | SpecialToken::EndOfText => {
                self.salvage(&header, events);
                self.state = State::Ended;
                end(token, events);
            }
        }
    }

    /// `<|channel|>` or `<|message|>` in a header.
    fn begin_header_with(&mut self, header: &mut Header, token: SpecialToken, events: &mut Vec<AnswerEvent>) {
        self.flush_into(header);
        header.tokens += 1;
        if token == SpecialToken::Channel {
            header.begin_channel();
            self.state = State::Header(std::mem::take(header));
        } else {
            let (kind, problem) = header.read();
            let event = self.begin_body(kind, problem, header.tokens);
            events.push(event);
        }
    }

    fn control_in_body(&mut self, body: Body, token: SpecialToken, events: &mut Vec<AnswerEvent>) {
        match token {
            SpecialToken::End => {
                self.end_body(body, events);
                self.state = State::Between;
                events.push(framing(1, None));
            }
            SpecialToken::Return | SpecialToken::Call | SpecialToken::EndOfText => {
                self.end_body(body, events);
                self.state = State::Ended;
                end(token, events);
            }
            SpecialToken::Start | SpecialToken::Channel => {
                self.end_body(body, events);
                let mut header =
                    if token == SpecialToken::Start { Header::started() } else { Header::default() };
                header.problem = Some(Malformation::MissingEnd);
                if token == SpecialToken::Channel {
                    header.tokens += 1;
                    header.begin_channel();
                }
                self.state = State::Header(header);
            }
            SpecialToken::Message | SpecialToken::Constrain => {
                self.state = State::Body(body);
                self.stray(Malformation::Stray, events);
            }
        }
    }

    /// A token without text and without a meaning here; what is around it goes on.
    fn stray(&mut self, problem: Malformation, events: &mut Vec<AnswerEvent>) {
        events.push(framing(1, Some(problem)));
    }

    fn begin_text(&mut self, kind: TextKind, problem: Malformation) {
        self.state = State::Body(Body { kind, problem: Some(problem), pending: 0 });
    }

    /// The event that counts the header's tokens.
    fn begin_body(&mut self, kind: TextKind, problem: Option<Malformation>, tokens: usize) -> AnswerEvent {
        let part = match &kind {
            TextKind::Call { recipient, content_type } => {
                AnswerPart::ToolCallStart { recipient: recipient.clone(), content_type: content_type.clone() }
            }
            _ => AnswerPart::Framing,
        };
        self.state = State::Body(Body { kind, problem, pending: 0 });
        AnswerEvent::new(tokens, part).with(problem)
    }

    fn end_body(&mut self, body: Body, events: &mut Vec<AnswerEvent>) {
        let rest = self.text.flush();
        let is_call = matches!(body.kind, TextKind::Call { .. });
        let (pending, problem) = (body.pending, body.problem);
        self.state = State::Body(body);
        self.emit_text(rest, events);
        if let State::Body(Body { pending: 1.., .. }) = &self.state {
            events.push(framing(pending, problem));
        }
        if is_call {
            events.push(AnswerEvent::new(0, AnswerPart::ToolCallEnd));
        }
        self.state = State::Ended;
    }

    /// A piece of the body's text, which accounts for all tokens that wait.
    fn emit_text(&mut self, text: String, events: &mut Vec<AnswerEvent>) {
        let State::Body(body) = &mut self.state else { return };
        if text.is_empty() {
            return;
        }
        let part = match body.kind {
            TextKind::Reasoning => AnswerPart::Reasoning(text),
            TextKind::Commentary => AnswerPart::Commentary(text),
            TextKind::Content => AnswerPart::Content(text),
            TextKind::Call { .. } => AnswerPart::ToolCallArguments(text),
        };
        events.push(AnswerEvent::new(std::mem::take(&mut body.pending), part).with(body.problem));
    }

    /// A header that ended without a text: its text is the text.
    fn salvage(&mut self, header: &Header, events: &mut Vec<AnswerEvent>) {
        let mut header = header.clone();
        self.flush_into(&mut header);
        let (kind, text) = header.salvage();
        let problem = Some(Malformation::MissingMessage);
        self.state = State::Body(Body { kind, problem, pending: header.tokens });
        self.emit_text(text, events);
        if let State::Body(Body { pending: pending @ 1.., .. }) = self.state {
            events.push(framing(pending, problem));
        }
        self.state = State::Ended;
    }

    /// A character of a header that a control token cuts off.
    fn flush_into(&mut self, header: &mut Header) {
        let rest = self.text.flush();
        header.push_text(&rest);
    }
}

fn framing(tokens: usize, problem: Option<Malformation>) -> AnswerEvent {
    AnswerEvent::new(tokens, AnswerPart::Framing).with(problem)
}

fn end(token: SpecialToken, events: &mut Vec<AnswerEvent>) {
    let end = match token {
        SpecialToken::Call => EndOfAnswer::Call,
        SpecialToken::EndOfText => EndOfAnswer::EndOfText,
        _ => EndOfAnswer::Return,
    };
    events.push(AnswerEvent::new(1, AnswerPart::End(end)));
}
