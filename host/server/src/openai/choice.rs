//! One choice of an answer, read from the engine's events: what to tell the client, piece by piece.
//!
//! Streamed and whole answers are made of the same pieces, so they say the same.

use espalier_engine::{Event, FinishReason, Matched, StopMatcher, Usage};
use espalier_model::chat::{AnswerEvent, AnswerParser, AnswerPart, Malformation};

use crate::api_error::{ApiError, ErrorKind};
use crate::openai::delta::{ChoiceUsage, Delta, Ending, call_id};
use crate::openai::logprobs::LogprobReader;
use crate::openai::score_ledger::ScoreLedger;
use crate::openai::tools::is_function_name;

/// Harmony's namespace of the functions that a request offers.
const NAMESPACE: &str = "functions.";

/// What a choice is read with.
#[derive(Clone, Debug)]
pub struct ChoiceReader {
    parser: AnswerParser,
    stop: StopMatcher,
    functions: Vec<String>,
    parallel: bool,
    /// The call that is being made.
    call: Call,
    calls: usize,
    reasoning: Field,
    content: Field,
    usage: ChoiceUsage,
    scores: ScoreLedger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    None,
    /// Of a function, which the client answers.
    Function(usize),
    /// Of something that the request didn't offer.
    Unknown,
}

/// Whether a field has text, and whether another message has begun since.
#[derive(Clone, Copy, Debug, Default)]
struct Field {
    begun: bool,
    interrupted: bool,
}

impl Field {
    /// What separates the next piece from the one before.
    fn separator(&mut self) -> &'static str {
        let separator = if self.begun && self.interrupted { "\n\n" } else { "" };
        *self = Self { begun: true, interrupted: false };
        separator
    }
}

impl ChoiceReader {
    /// A reader of plain text, for which the engine finds the stop texts.
    #[must_use]
    pub fn plain(prompt_tokens: usize) -> Self {
        Self::new(AnswerParser::Plain, Vec::new(), Vec::new(), true, prompt_tokens)
    }

    /// A reader with `parser`. If there are `functions`, calls of functions are calls; `stop` ends the answer's text
    /// before it; unless `parallel` the choice ends with its first call.
    #[must_use]
    pub fn new(
        parser: AnswerParser,
        stop: Vec<String>,
        functions: Vec<String>,
        parallel: bool,
        prompt_tokens: usize,
    ) -> Self {
        Self {
            parser,
            stop: StopMatcher::new(stop),
            functions,
            parallel,
            call: Call::None,
            calls: 0,
            reasoning: Field::default(),
            content: Field::default(),
            usage: ChoiceUsage { prompt: prompt_tokens, ..ChoiceUsage::default() },
            scores: ScoreLedger::default(),
        }
    }

    /// The same, telling log-probabilities too: of all tokens of a plain answer, of those of the text in one with
    /// parts.
    #[must_use]
    pub fn with_logprobs(self, logprobs: LogprobReader) -> Self {
        Self { scores: ScoreLedger::new(logprobs), ..self }
    }

    /// What the prompt says of the answer already.
    pub fn open(&mut self, events: Vec<AnswerEvent>) -> Vec<Delta> {
        let mut deltas = Vec::new();
        self.take_events(events, &mut deltas);
        deltas
    }

    /// Takes an event of the engine.
    ///
    /// # Errors
    /// The engine failed, or the request's grammar went beyond its limits.
    pub fn take(&mut self, event: Event) -> Result<Vec<Delta>, ApiError> {
        let mut deltas = Vec::new();
        match event {
            Event::Prompt { logprobs } => {
                let logprobs = self.scores.read_prompt(&logprobs);
                deltas.push(Delta::Content { text: String::new(), logprobs });
            }
            Event::Text { text, token_ids, logprobs } => {
                self.scores.receive(logprobs);
                let events = self.parser.push(&text, &token_ids);
                if !self.take_events(events, &mut deltas) {
                    deltas.push(self.ending(FinishReason::Stop, None));
                }
            }
            Event::Finished { reason, usage, .. } => {
                let events = self.parser.finish();
                let ended = !self.take_events(events, &mut deltas);
                let rest = self.stop.flush();
                if !ended {
                    self.push_last_content(rest, &mut deltas);
                }
                deltas.push(self.ending(if ended { FinishReason::Stop } else { reason }, Some(usage)));
            }
            Event::GrammarTooComplex(reason) => {
                let message = format!("the grammar that the answer is kept to is too complex: {reason}");
                return Err(ApiError::new(ErrorKind::InvalidValue, message));
            }
            Event::Failed(reason) => return Err(ApiError::new(ErrorKind::Internal, reason)),
        }
        Ok(deltas)
    }

    /// `false` when the choice is over, whatever the engine does next.
    fn take_events(&mut self, events: Vec<AnswerEvent>, deltas: &mut Vec<Delta>) -> bool {
        let mut goes_on = true;
        for AnswerEvent { tokens, part, problem } in events {
            self.usage.completion += tokens;
            if let Some(problem) = problem {
                tracing::debug!(problem = problem.describe(), "an answer deviates from its format");
            }
            let is_text = matches!(part, AnswerPart::Commentary(_) | AnswerPart::Content(_))
                || matches!(self.parser, AnswerParser::Plain);
            self.scores.claim(tokens, goes_on && is_text);
            if goes_on {
                goes_on = self.take_part(tokens, part, problem, deltas);
            }
        }
        goes_on
    }

    fn take_part(
        &mut self,
        tokens: usize,
        part: AnswerPart,
        problem: Option<Malformation>,
        deltas: &mut Vec<Delta>,
    ) -> bool {
        match part {
            AnswerPart::Reasoning(text) => self.think(tokens, &text, deltas),
            AnswerPart::Commentary(text) | AnswerPart::Content(text) => {
                let text = format!("{}{text}", self.content.separator());
                match self.stop.push(&text) {
                    Matched::Text(text) => self.push_content(text, deltas),
                    Matched::Stop(text) => {
                        self.push_last_content(text, deltas);
                        return false;
                    }
                }
            }
            AnswerPart::ToolCallStart { recipient, .. } => self.begin_call(&recipient, deltas),
            AnswerPart::ToolCallArguments(text) => match self.call {
                Call::Function(index) => deltas.push(Delta::Arguments { index, text }),
                Call::None | Call::Unknown => self.think(tokens, &text, deltas),
            },
            AnswerPart::ToolCallEnd => {
                self.interrupt();
                let is_function = matches!(std::mem::replace(&mut self.call, Call::None), Call::Function(_));
                return self.parallel || !is_function;
            }
            AnswerPart::Framing => {
                let inside = matches!(problem, Some(Malformation::Stray | Malformation::UnknownToken));
                if tokens > 0 && !inside {
                    self.interrupt();
                }
            }
            AnswerPart::End(_) => return false,
        }
        true
    }

    /// Text, with the scores up to here: those of tokens whose text is held back wait with it.
    fn push_content(&mut self, text: String, deltas: &mut Vec<Delta>) {
        if !text.is_empty() {
            self.tell(text, deltas);
        }
    }

    /// The end of the text: scores without text are told too.
    fn push_last_content(&mut self, text: String, deltas: &mut Vec<Delta>) {
        if !text.is_empty() || self.scores.has_untold() {
            self.tell(text, deltas);
        }
    }

    fn tell(&mut self, text: String, deltas: &mut Vec<Delta>) {
        let logprobs = self.scores.tell();
        deltas.push(Delta::Content { text, logprobs });
    }

    fn think(&mut self, tokens: usize, text: &str, deltas: &mut Vec<Delta>) {
        self.usage.reasoning += tokens;
        deltas.push(Delta::Reasoning(format!("{}{text}", self.reasoning.separator())));
    }

    fn begin_call(&mut self, recipient: &str, deltas: &mut Vec<Delta>) {
        let (is_function, name) = match recipient.strip_prefix(NAMESPACE) {
            Some(name) => (is_function_name(name) && !self.functions.is_empty(), name),
            None => (false, recipient),
        };
        self.interrupt();
        // A function that isn't there is still a call: whoever executes calls can tell the model so.
        if is_function || self.functions.iter().any(|function| function == name) {
            let index = self.calls;
            self.calls += 1;
            self.call = Call::Function(index);
            deltas.push(Delta::ToolCall { index, id: call_id(), name: name.to_owned() });
        } else {
            tracing::warn!(recipient, "the model calls what the request doesn't offer; shown as reasoning");
            self.call = Call::Unknown;
        }
    }

    fn interrupt(&mut self) {
        self.reasoning.interrupted = true;
        self.content.interrupted = true;
    }

    /// The end; without the engine's count, what has been counted here.
    fn ending(&self, reason: FinishReason, usage: Option<Usage>) -> Delta {
        let reason = match reason {
            FinishReason::Stop if self.calls > 0 => "tool_calls",
            reason => reason.name(),
        };
        let mut counted = self.usage;
        if let Some(Usage { completion_tokens, cached_tokens, .. }) = usage {
            counted.completion = completion_tokens;
            // A prompt counts once, with its first choice; what that found is what all of them have in common.
            counted.cached = cached_tokens.min(counted.prompt);
        }
        Delta::Finished(Ending { reason, usage: counted })
    }
}

#[cfg(test)]
mod tests {
    use espalier_engine::RequestTimes;
    use espalier_model::chat::harmony::HarmonyFormat;
    use espalier_model::chat::{ChatFormat, ChatPrompt, Conversation, FunctionTool, TaggedParser, Turn};
    use espalier_model::{Tokenizer, TokenizerFiles};
    use std::sync::OnceLock;

    use super::*;

    fn tokenizer() -> Tokenizer {
        static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
        let build = || Tokenizer::new(&TokenizerFiles::o200k_harmony().unwrap(), None, &[]).unwrap();
        TOKENIZER.get_or_init(build).clone()
    }

    fn tools() -> Vec<FunctionTool> {
        vec![FunctionTool { name: "f".into(), description: None, parameters: None }]
    }

    fn prompt(forced_tool: Option<String>) -> ChatPrompt {
        let format = ChatFormat::Harmony(HarmonyFormat::of(&tokenizer()).unwrap());
        let turns = vec![Turn::User("x".into())];
        let conversation = Conversation { turns, tools: tools(), forced_tool, reasoning_effort: None };
        format.prompt(&tokenizer(), &conversation).unwrap()
    }

    fn reader(parser: AnswerParser, stop: &[&str], parallel: bool) -> ChoiceReader {
        let stop = stop.iter().map(|stop| (*stop).to_owned()).collect();
        ChoiceReader::new(parser, stop, vec!["f".into()], parallel, 7)
    }

    /// The engine's events for an answer, one token each, until the reader has had enough.
    fn read(reader: &mut ChoiceReader, answer: &str, reason: FinishReason) -> Vec<Delta> {
        let ids = tokenizer().encode(answer, true).unwrap();
        let mut deltas = Vec::new();
        for &id in &ids {
            let event = Event::Text { text: String::new(), token_ids: vec![id], logprobs: Vec::new() };
            deltas.extend(reader.take(event).unwrap());
            if matches!(deltas.last(), Some(Delta::Finished(_))) {
                return deltas;
            }
        }
        let usage = Usage { prompt_tokens: 7, cached_tokens: 0, completion_tokens: ids.len() };
        deltas
            .extend(reader.take(Event::Finished { reason, usage, times: RequestTimes::default() }).unwrap());
        deltas
    }

    /// Thoughts, content, calls and the ending.
    fn summary(deltas: &[Delta]) -> (String, String, Vec<String>, Ending) {
        let (mut reasoning, mut content, mut calls) = (String::new(), String::new(), Vec::<String>::new());
        for delta in deltas {
            match delta {
                Delta::Reasoning(text) => reasoning.push_str(text),
                Delta::Content { text, .. } => content.push_str(text),
                Delta::ToolCall { index, name, .. } => {
                    assert_eq!(*index, calls.len());
                    calls.push(name.clone());
                }
                Delta::Arguments { index, text } => calls[*index].push_str(text),
                Delta::Finished(ending) => return (reasoning, content, calls, *ending),
            }
        }
        panic!("no end in {deltas:?}");
    }

    const ANALYSIS: &str = "<|channel|>analysis<|message|>";
    const CALL: &str = "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>";

    #[test]
    fn thoughts_calls_and_answers_are_told_apart() {
        let answer = format!(
            "{ANALYSIS}one END<|end|><|start|>assistant{ANALYSIS}two<|end|>\
             <|start|>assistant<|channel|>commentary<|message|>Looking.<|end|>{CALL}{{\"a\":1}}<|call|>"
        );
        let deltas = read(&mut reader(prompt(None).parser, &["END"], true), &answer, FinishReason::Stop);
        let (reasoning, content, calls, ending) = summary(&deltas);
        assert_eq!((reasoning.as_str(), content.as_str()), ("one END\n\ntwo", "Looking."));
        assert_eq!(calls, ["f{\"a\":1}"]);
        let tokens = tokenizer().encode(&answer, true).unwrap().len();
        assert_eq!((ending.reason, ending.usage.prompt, ending.usage.completion), ("tool_calls", 7, tokens));
        let thoughts = ["one END", "two"].map(|text| tokenizer().encode(text, false).unwrap().len());
        assert_eq!(ending.usage.reasoning, thoughts.iter().sum::<usize>());
    }

    #[test]
    fn a_stop_text_ends_the_answer_and_the_choice() {
        let answer = format!(
            "{ANALYSIS}END<|end|><|start|>assistant<|channel|>final<|message|>a EN D END b<|return|>"
        );
        let deltas = read(&mut reader(prompt(None).parser, &["END"], true), &answer, FinishReason::Stop);
        let (reasoning, content, _, ending) = summary(&deltas);
        assert_eq!((reasoning.as_str(), content.as_str(), ending.reason), ("END", "a EN D ", "stop"));
        assert!(ending.usage.completion < tokenizer().encode(&answer, true).unwrap().len());
        let cut = format!("{ANALYSIS}hm<|end|><|start|>assistant<|channel|>final<|message|>a EN");
        let deltas = read(&mut reader(prompt(None).parser, &["END"], true), &cut, FinishReason::Length);
        let (_, content, _, ending) = summary(&deltas);
        assert_eq!((content.as_str(), ending.reason), ("a EN", "length"));
    }

    #[test]
    fn one_call_is_enough_unless_parallel() {
        let two = format!("{ANALYSIS}x<|end|>{CALL}{{}}<|end|>{CALL}{{\"b\":2}}<|call|>");
        let calls = |parallel| {
            summary(&read(&mut reader(prompt(None).parser, &[], parallel), &two, FinishReason::Stop)).2
        };
        assert_eq!(calls(true), ["f{}", "f{\"b\":2}"]);
        assert_eq!(calls(false), ["f{}"]);
    }

    #[test]
    fn a_call_of_something_else_is_a_thought() {
        let answer = "<|channel|>commentary to=browser.search<|message|>{\"q\":1}<|call|>";
        let deltas = read(&mut reader(prompt(None).parser, &[], true), answer, FinishReason::Stop);
        let (reasoning, content, calls, ending) = summary(&deltas);
        assert_eq!((reasoning.as_str(), content.as_str(), calls.len()), ("{\"q\":1}", "", 0));
        assert_eq!(ending.reason, "stop");
        let misspelled = "<|channel|>commentary to=functions.ff<|message|>{}<|call|>";
        let deltas = read(&mut reader(prompt(None).parser, &[], true), misspelled, FinishReason::Stop);
        assert_eq!(summary(&deltas).2, ["ff{}"]);
        let mut without_tools = ChoiceReader::new(prompt(None).parser, vec![], vec![], true, 7);
        assert!(summary(&read(&mut without_tools, misspelled, FinishReason::Stop)).2.is_empty());
    }

    #[test]
    fn a_forced_call_is_there_from_the_beginning() {
        let ChatPrompt { parser, opening, .. } = prompt(Some("f".into()));
        let mut reader = reader(parser, &[], true);
        let mut deltas = reader.open(opening);
        assert!(matches!(&deltas[..], [Delta::ToolCall { index: 0, .. }]));
        deltas.extend(read(&mut reader, "{\"a\": 1}", FinishReason::Length));
        let (_, _, calls, ending) = summary(&deltas);
        assert_eq!((calls, ending.reason), (vec!["f{\"a\": 1}".to_owned()], "length"));
    }

    #[test]
    fn tags_are_read_too() {
        let parser = TaggedParser::new(&tokenizer(), true, true, true);
        let answer = "think END</think>Yes.<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>";
        let mut reader = reader(AnswerParser::Tagged(Box::new(parser)), &["END"], true);
        let (reasoning, content, calls, ending) = summary(&read(&mut reader, answer, FinishReason::Stop));
        assert_eq!((reasoning.as_str(), content.as_str()), ("think END", "Yes."));
        assert_eq!((calls, ending.reason), (vec!["f{}".to_owned()], "tool_calls"));
    }

    #[test]
    fn plain_text_passes_through() {
        let mut reader = ChoiceReader::plain(2);
        let text = Event::Text { text: "hi".into(), token_ids: vec![1, 2], logprobs: Vec::new() };
        assert_eq!(reader.take(text).unwrap(), [Delta::content("hi".into())]);
        let usage = Usage { prompt_tokens: 2, cached_tokens: 1, completion_tokens: 3 };
        let Delta::Finished(ending) = reader
            .take(Event::Finished { reason: FinishReason::Stop, usage, times: RequestTimes::default() })
            .unwrap()[0]
        else {
            panic!("an end");
        };
        assert_eq!((ending.reason, ending.usage.completion), ("stop", 3));
        assert!(reader.take(Event::Failed("broken".into())).is_err());
    }
}
