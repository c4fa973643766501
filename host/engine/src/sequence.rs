//! One request inside the engine: its tokens, its blocks and how far it is.

use std::sync::Arc;
use std::time::Instant;

use espalier_model::{TextStream, Tokenizer};
use tokio::sync::mpsc::UnboundedSender;

use crate::cache::BlockTables;
use crate::config::Limits;
use crate::constraint::{AllowedTokens, Constraint};
use crate::event::{Event, FinishReason, RequestTimes, Usage};
use crate::logit_adjustment::Eligible;
use crate::logprobs::TokenLogprobs;
use crate::observer::{EngineObserver, RequestRecord};
use crate::request::{GenerateRequest, Satisfied};
use crate::sampler::Sampler;
use crate::scheduler::Flow;
use crate::speculation::Pace;
use crate::stop::{Matched, StopMatcher};

/// A request from submission to its last event.
pub(crate) struct Sequence {
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_tokens: usize,
    /// Tokens whose keys and values are in the cache; the largest number there ever was of them.
    pub(crate) computed: usize,
    pub(crate) furthest: usize,
    /// Tokens of the prompt that were in the cache when it began.
    pub(crate) cached_tokens: usize,
    pub(crate) blocks: BlockTables,
    /// What may follow the tokens, to be checked in the next step.
    pub(crate) guess: Vec<u32>,
    pub(crate) pace: Pace,
    /// Its part of the step that is being planned, in tokens.
    pub(crate) planned: usize,
    /// Lower goes first.
    pub(crate) priority: i64,
    pub(crate) flow: Flow,
    /// The number of sequences that were queued before it.
    pub(crate) arrival: u64,
    /// Only texts with the same one share blocks.
    pub(crate) cache_salt: Option<Arc<str>>,
    /// Prompt plus completion may not exceed this.
    pub(crate) max_length: usize,
    sampler: Sampler,
    sender: UnboundedSender<Event>,
    text: TextStream,
    stop: StopMatcher,
    /// Whether tokens without text are reported at once.
    every_token: bool,
    satisfied: Satisfied,
    /// What the completion is kept to.
    constraint: Option<Constraint>,
    /// No end token is sampled, and no stop string looked for, in so many tokens of the completion.
    min_tokens: usize,
    /// Whether end tokens end nothing.
    ignores_end: bool,
    /// How many alternatives are reported with each token's log-probability, if that is reported.
    top_logprobs: Option<usize>,
    /// The log-probabilities of the prompt from its second token on, as far as they are known, until they are reported.
    prompt_logprobs: Option<Vec<TokenLogprobs>>,
    /// Tokens since the last event.
    unreported: Vec<u32>,
    unreported_logprobs: Vec<TokenLogprobs>,
    times: Times,
    finish: Option<FinishReason>,
    failed: bool,
}

struct Times {
    arrived: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

impl Sequence {
    pub(crate) fn new(
        request: GenerateRequest,
        limits: &Limits,
        tokenizer: &Tokenizer,
        sender: UnboundedSender<Event>,
    ) -> Self {
        let prompt_tokens = request.prompt.len();
        let longest =
            request.max_tokens.map_or(usize::MAX, |max_tokens| prompt_tokens.saturating_add(max_tokens));
        Self {
            prompt_tokens,
            sampler: Sampler::new(request.sampling, &request.prompt),
            tokens: request.prompt,
            computed: 0,
            furthest: 0,
            cached_tokens: 0,
            blocks: BlockTables::new(),
            guess: Vec::new(),
            pace: Pace::new(limits.speculative_tokens),
            planned: 0,
            priority: request.priority,
            flow: request.flow,
            arrival: 0,
            cache_salt: request.cache_salt,
            max_length: longest.min(limits.max_model_len),
            sender,
            text: TextStream::new(tokenizer, true),
            stop: StopMatcher::new(request.stop),
            every_token: request.every_token,
            satisfied: request.satisfied,
            constraint: request.constraint,
            min_tokens: request.min_tokens,
            ignores_end: request.ignores_end,
            top_logprobs: request.logprobs,
            prompt_logprobs: request.prompt_logprobs.then(Vec::new),
            unreported: Vec::new(),
            unreported_logprobs: Vec::new(),
            times: Times { arrived: Instant::now(), started: None, first_token: None, last_token: None },
            finish: None,
            failed: false,
        }
    }

    /// Whether it is complete, failed, or its client has gone away.
    pub(crate) fn has_ended(&self) -> bool {
        self.finish.is_some() || self.failed || self.sender.is_closed()
    }

    /// Marks the step that runs it first; says whether this is it.
    pub(crate) fn start(&mut self) -> bool {
        let is_first = self.times.started.is_none();
        self.times.started.get_or_insert_with(Instant::now);
        is_first
    }

    /// Tokens that are still to be computed before the next one can be sampled.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Tokens of the prompt whose keys and values are not computed yet.
    pub(crate) fn rest_of_prompt(&self) -> usize {
        self.prompt_tokens.saturating_sub(self.computed)
    }

    /// Whether each step gives it one token, or a few where they were guessed.
    pub(crate) fn is_decoding(&self) -> bool {
        self.pending() == 1
    }

    /// How many tokens should be guessed for its next step: none that would be beyond its end.
    pub(crate) fn wanted_guesses(&self) -> usize {
        let left = self.max_length.saturating_sub(self.tokens.len() + 1);
        if self.is_decoding() { self.pace.length().min(left) } else { 0 }
    }

    /// Who keeps its blocks when there are not enough: the lesser.
    pub(crate) fn rank(&self) -> (i64, u64) {
        (self.priority, self.arrival)
    }

    /// Whether the logits of the whole prompt are wanted and not only those at its end.
    pub(crate) fn scores_prompt(&self) -> bool {
        self.prompt_logprobs.is_some()
    }

    /// Takes the `logits` for the prompt's token at `position`.
    pub(crate) fn score_prompt(&mut self, position: usize, logits: &[f32]) {
        let top = self.top_logprobs.unwrap_or_default();
        if let Some(scores) = &mut self.prompt_logprobs
            && scores.len() + 1 == position
            && let Some(&token) = self.tokens.get(position)
        {
            scores.push(TokenLogprobs::of(token, logits, top));
        }
    }

    /// Samples the next token from `logits`; `ends` are the tokens that end a generation.
    pub(crate) fn advance(&mut self, logits: &[f32], ends: &[u32], observer: &dyn EngineObserver) {
        if let Some(logprobs) = self.prompt_logprobs.take() {
            self.send(Event::Prompt { logprobs });
        }
        if self.tokens.len() >= self.max_length {
            return self.complete(FinishReason::Length);
        }
        let may_not_end = self.usage().completion_tokens < self.min_tokens;
        let allowed = match self.allowed(if may_not_end || self.ignores_end { ends } else { &[] }) {
            Ok(allowed) => allowed,
            Err(reason) => return self.leave_grammar(reason),
        };
        let ends = if self.ignores_end { &[] } else { ends };
        let eligible = match &allowed {
            Some(allowed) if allowed.is_empty() => return self.complete(FinishReason::Stop),
            Some(allowed) => Eligible::Only(allowed),
            None if may_not_end => Eligible::AllBut(ends),
            None => Eligible::AllBut(&[]),
        };
        let token = self.sampler.sample(logits, eligible);
        if let Some(top) = self.top_logprobs {
            self.unreported_logprobs.push(TokenLogprobs::of(token, logits, top));
        }
        self.push(token, ends.contains(&token), observer);
    }

    /// What the constraint allows but for `forbidden` tokens, if there is one.
    fn allowed(&mut self, forbidden: &[u32]) -> Result<Option<AllowedTokens>, String> {
        self.constraint.as_mut().map(|constraint| constraint.next(forbidden)).transpose()
    }

    /// Takes a sampled token: decides whether it is the last and sends the text that it completes.
    fn push(&mut self, token: u32, is_end: bool, observer: &dyn EngineObserver) {
        self.tokens.push(token);
        self.unreported.push(token);
        self.observe_token(observer);
        if is_end {
            return self.complete(FinishReason::Stop);
        }
        if let Some(Err(reason)) = self.constraint.as_mut().map(|constraint| constraint.take(token)) {
            return self.leave_grammar(reason);
        }
        let piece = self.text.push(token);
        let matched = if self.usage().completion_tokens <= self.min_tokens {
            Matched::Text(piece)
        } else {
            self.stop.push(&piece)
        };
        match matched {
            Matched::Stop(text) => {
                self.send_last_text(text);
                self.finish = Some(FinishReason::Stop);
                self.send_end();
            }
            Matched::Text(text) => {
                self.send_text(text);
                if self.constraint.as_ref().is_some_and(Constraint::is_complete) {
                    self.complete(FinishReason::Stop);
                } else if self.tokens.len() >= self.max_length {
                    self.complete(FinishReason::Length);
                }
            }
        }
    }

    /// Ends the stream where its grammar takes more than its limits.
    fn leave_grammar(&mut self, reason: String) {
        self.failed = true;
        self.send(Event::GrammarTooComplex(reason));
    }

    /// Ends the stream with an error.
    pub(crate) fn fail(&mut self, message: String) {
        self.failed = true;
        self.send(Event::Failed(message));
    }

    /// Tokens so far.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            completion_tokens: self.tokens.len() - self.prompt_tokens,
        }
    }

    /// The measurements of its life up to now.
    pub(crate) fn record(&self) -> RequestRecord {
        let now = Instant::now();
        let started = self.times.started.unwrap_or(now);
        let first = self.times.first_token.unwrap_or(now);
        RequestRecord {
            usage: self.usage(),
            max_tokens: self.max_length - self.prompt_tokens,
            finish: self.finish.or_else(|| self.satisfied.is_set().then_some(FinishReason::Stop)),
            queued: started - self.times.arrived,
            prefill: first.saturating_duration_since(started),
            decode: self.times.last_token.map_or_else(Default::default, |last| last - first),
            total: now - self.times.arrived,
        }
    }

    fn request_times(&self) -> RequestTimes {
        let total = self.times.arrived.elapsed();
        let first_token = self.times.first_token.map_or(total, |first| first - self.times.arrived);
        RequestTimes { first_token, total }
    }

    fn observe_token(&mut self, observer: &dyn EngineObserver) {
        let now = Instant::now();
        match self.times.last_token.replace(now) {
            Some(previous) => observer.next_token(now - previous),
            None => {
                self.times.first_token = Some(now);
                observer.first_token(now - self.times.arrived);
            }
        }
    }

    fn complete(&mut self, reason: FinishReason) {
        let tail = self.text.flush();
        let (text, reason) = match self.stop.push(&tail) {
            Matched::Stop(text) => (text, FinishReason::Stop),
            Matched::Text(text) => (text + &self.stop.flush(), reason),
        };
        self.send_last_text(text);
        self.finish = Some(reason);
        self.send_end();
    }

    fn send_end(&self) {
        if let Some(reason) = self.finish {
            self.send(Event::Finished { reason, usage: self.usage(), times: self.request_times() });
        }
    }

    fn send_text(&mut self, text: String) {
        if !text.is_empty() || (self.every_token && !self.unreported.is_empty()) {
            let token_ids = std::mem::take(&mut self.unreported);
            let logprobs = std::mem::take(&mut self.unreported_logprobs);
            self.send(Event::Text { text, token_ids, logprobs });
        }
    }

    /// Log-probabilities are of every token, also of those at the end that completed no text.
    fn send_last_text(&mut self, text: String) {
        self.every_token |= self.top_logprobs.is_some();
        self.send_text(text);
    }

    fn send(&self, event: Event) {
        // A closed channel means that the client went away; the next step frees the sequence.
        let _ = self.sender.send(event);
    }
}
