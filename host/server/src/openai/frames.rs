//! The events of a streamed answer: what the engine reports for each choice, merged into one stream of frames.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use espalier_engine::{Event, EventStream, Satisfied};
use futures_core::Stream;

use crate::api_error::{ApiError, ErrorKind};
use crate::event_stream::{DONE, data};
use crate::openai::answer::{Answer, Shape};
use crate::openai::choice::ChoiceReader;
use crate::openai::delta::{ChoiceUsage, Delta};

/// A choice that is being generated.
pub struct Choice {
    /// The engine's events.
    pub stream: EventStream,
    /// What reads them.
    pub reader: ChoiceReader,
    /// What is known of the answer before the first event.
    pub opening: Vec<Delta>,
    /// Set when the choice ends before the engine ends it.
    pub satisfied: Satisfied,
}

/// Yields the frames of an answer and ends after `[DONE]`, or after an error. Dropping it cancels every choice.
pub struct Frames {
    answer: Answer,
    include_usage: bool,
    choices: Vec<Option<Choice>>,
    usage: ChoiceUsage,
    ready: VecDeque<String>,
    ended: bool,
    /// Which choice is asked first; it moves, so that one that talks fast does not silence the others.
    turn: usize,
}

impl Frames {
    /// Merges an answer's choices.
    #[must_use]
    pub fn new(answer: Answer, include_usage: bool, mut choices: Vec<Choice>) -> Self {
        let mut ready = VecDeque::new();
        for (index, choice) in choices.iter_mut().enumerate() {
            if answer.shape() == Shape::Chat {
                ready.push_back(data(&answer.chunk(vec![answer.opening(index)], include_usage, None)));
            }
            for delta in std::mem::take(&mut choice.opening) {
                ready.push_back(data(&answer.chunk(vec![answer.piece(index, &delta)], include_usage, None)));
            }
        }
        Self {
            answer,
            include_usage,
            choices: choices.into_iter().map(Some).collect(),
            usage: ChoiceUsage::default(),
            ready,
            ended: false,
            turn: 0,
        }
    }

    /// Turns one event of a choice into frames; `false` when the choice is over.
    fn take(&mut self, index: usize, event: Option<Event>) -> bool {
        let Some(choice) = self.choices.get_mut(index).and_then(Option::as_mut) else { return false };
        let deltas = match event.map(|event| choice.reader.take(event)) {
            Some(Ok(deltas)) => deltas,
            Some(Err(error)) => {
                self.fail(&error);
                return false;
            }
            None => {
                self.fail(&ApiError::new(ErrorKind::Internal, "the engine ended before the answer did"));
                return false;
            }
        };
        for delta in deltas {
            let piece = self.answer.piece(index, &delta);
            self.ready.push_back(data(&self.answer.chunk(vec![piece], self.include_usage, None)));
            if let Delta::Finished(ending) = delta {
                self.usage += ending.usage;
                choice.satisfied.set();
                return false;
            }
        }
        true
    }

    fn fail(&mut self, error: &ApiError) {
        self.ready.push_back(data(&error.to_json()));
        self.choices.clear();
        self.ended = true;
    }

    /// The frames after the last choice has ended.
    fn end(&mut self) {
        if self.include_usage {
            self.ready.push_back(data(&self.answer.chunk(Vec::new(), true, Some(self.usage))));
        }
        self.ready.push_back(DONE.to_owned());
        self.ended = true;
    }
}

impl Stream for Frames {
    type Item = String;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<String>> {
        let this = self.get_mut();
        loop {
            if let Some(frame) = this.ready.pop_front() {
                return Poll::Ready(Some(frame));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if this.choices.iter().all(Option::is_none) {
                this.end();
                continue;
            }
            let count = this.choices.len();
            let mut progressed = false;
            for offset in 0..count {
                let index = (this.turn + offset) % count;
                let Some(choice) = this.choices.get_mut(index).and_then(Option::as_mut) else { continue };
                if let Poll::Ready(event) = choice.stream.poll_recv(context) {
                    if !this.take(index, event)
                        && let Some(choice) = this.choices.get_mut(index)
                    {
                        *choice = None;
                    }
                    this.turn = (index + 1) % count;
                    progressed = true;
                    break;
                }
            }
            if !progressed {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use espalier_engine::{FinishReason, GenerationId, RequestTimes, Usage};
    use espalier_model::chat::AnswerParser;
    use espalier_model::chat::harmony::{HarmonyParser, HarmonyTokens};
    use espalier_model::{Tokenizer, TokenizerFiles};
    use tokio::sync::mpsc::unbounded_channel;
    use tokio_stream::StreamExt as _;

    use super::*;

    fn answer(shape: Shape) -> Answer {
        Answer::new(shape, GenerationId { model: "m".into(), variant: "v".into(), number: 1 })
    }

    fn text(text: &str) -> Event {
        Event::Text { text: text.into(), token_ids: vec![1], logprobs: Vec::new() }
    }

    fn choice(stream: EventStream) -> Choice {
        Choice {
            stream,
            reader: ChoiceReader::plain(2),
            opening: Vec::new(),
            satisfied: Satisfied::default(),
        }
    }

    fn finished() -> Event {
        let usage = Usage { prompt_tokens: 2, cached_tokens: 0, completion_tokens: 1 };
        Event::Finished { reason: FinishReason::Stop, usage, times: RequestTimes::default() }
    }

    #[tokio::test]
    async fn choices_are_merged_and_usage_is_summed() {
        let (first, first_events) = unbounded_channel();
        let (second, second_events) = unbounded_channel();
        for sender in [&first, &second] {
            sender.send(text("a")).unwrap();
            sender.send(finished()).unwrap();
        }
        let mut choices = [first_events, second_events].map(choice);
        choices[0].opening.push(Delta::content("p".into()));
        let frames: Vec<String> =
            Frames::new(answer(Shape::Completion), true, choices.into()).collect().await;
        assert_eq!(frames.last().unwrap(), DONE);
        let usage = frames.get(frames.len() - 2).unwrap();
        assert!(usage.contains(r#""total_tokens":6"#) && usage.contains(r#""choices":[]"#), "{usage}");
        assert_eq!(frames.len(), 1 + 2 + 2 + 2);
        assert_eq!(frames.iter().filter(|frame| frame.contains(r#""finish_reason":"stop""#)).count(), 2);
    }

    #[tokio::test]
    async fn parts_of_an_answer_come_in_fields_of_their_own() {
        let tokenizer = Tokenizer::new(&TokenizerFiles::o200k_harmony().unwrap(), None, &[]).unwrap();
        let tokens = HarmonyTokens::of(&tokenizer).unwrap();
        let parser = AnswerParser::Harmony(Box::new(HarmonyParser::new(&tokenizer, tokens)));
        let reader = ChoiceReader::new(parser, Vec::new(), vec!["f".into()], true, 2);
        let (sender, stream) = unbounded_channel();
        let answer_text = "<|channel|>analysis<|message|>hm<|end|>\
            <|start|>assistant<|channel|>commentary to=functions.f<|message|>{}<|call|>";
        for id in tokenizer.encode(answer_text, true).unwrap() {
            sender
                .send(Event::Text { text: String::new(), token_ids: vec![id], logprobs: Vec::new() })
                .unwrap();
        }
        sender.send(finished()).unwrap();
        let choice = Choice { reader, ..choice(stream) };
        let frames: Vec<String> = Frames::new(answer(Shape::Chat), true, vec![choice]).collect().await;
        let position = |part: &str| frames.iter().position(|frame| frame.contains(part)).expect(part);
        let places = [
            position(r#""role":"assistant""#),
            position(r#""reasoning_content":"hm""#),
            position(r#""function":{"name":"f","arguments":""}"#),
            position(r#""function":{"arguments":"{}"}"#),
            position(r#""finish_reason":"tool_calls""#),
            position(r#""reasoning_tokens":1"#),
        ];
        assert!(places.is_sorted(), "{frames:?}");
        assert_eq!(frames.last().unwrap(), DONE);
    }

    #[tokio::test]
    async fn a_failure_ends_the_stream_without_done() {
        let (sender, events) = unbounded_channel();
        sender.send(text("a")).unwrap();
        sender.send(Event::Failed("broken".into())).unwrap();
        let frames: Vec<String> =
            Frames::new(answer(Shape::Chat), false, vec![choice(events)]).collect().await;
        assert_eq!(frames.len(), 3);
        assert!(frames[0].contains(r#""role":"assistant""#));
        assert!(frames[2].contains(r#""message":"broken""#));
    }

    #[tokio::test]
    async fn dropping_the_frames_closes_the_engines_channel() {
        let (sender, events) = unbounded_channel();
        let frames = Frames::new(answer(Shape::Chat), false, vec![choice(events)]);
        drop(frames);
        assert!(sender.is_closed());
    }
}
