//! What a model's answer consists of.

/// A part of an answer, and the tokens that it accounts for.
///
/// The tokens of all events of a parser add up to the tokens that it was given; a token that completes no part by
/// itself is counted by the next event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerEvent {
    /// How many of the model's tokens this event stands for.
    pub tokens: usize,
    /// What they say.
    pub part: AnswerPart,
    /// What is wrong with the form of it, if anything. The part is still the best reading, and is to be shown.
    pub problem: Option<Malformation>,
}

/// What tokens say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerPart {
    /// A piece of the model's thoughts (Harmony's channel `analysis`, the inside of `<think>`).
    Reasoning(String),
    /// A piece of what the model tells its user before it calls tools (Harmony's `commentary` without a recipient).
    Commentary(String),
    /// A piece of the answer (Harmony's `final`).
    Content(String),
    /// A call begins.
    ToolCallStart {
        /// Whom the model calls, as it wrote it: Harmony puts the namespace in front, `functions.get_weather`.
        recipient: String,
        /// The form of the arguments, if it is stated: `json`.
        content_type: Option<String>,
    },
    /// A piece of the call's arguments.
    ToolCallArguments(String),
    /// The call is complete.
    ToolCallEnd,
    /// Tokens that hold the form together and say nothing.
    Framing,
    /// The model ended its turn. What follows is no part of the answer.
    End(EndOfAnswer),
}

/// How a model ended its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOfAnswer {
    /// It has answered: `<|return|>`, or an end token of a model with a template.
    Return,
    /// It waits for the result of a call: `<|call|>`.
    Call,
    /// The text is over: `<|endoftext|>`.
    EndOfText,
}

/// How an answer deviates from the form that the model was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Malformation {
    /// Text where a message should begin.
    MissingStart,
    /// A message that begins before the one before it ended.
    MissingEnd,
    /// A header that goes over into text, or ends, without `<|message|>`.
    MissingMessage,
    /// A header without a channel.
    MissingChannel,
    /// A channel that isn't one of Harmony's.
    UnknownChannel,
    /// A message in the name of somebody else than the assistant.
    ForeignAuthor,
    /// A recipient that can't be the name of a tool.
    InvalidRecipient,
    /// A token or tag that has no meaning at its place.
    Stray,
    /// An id that isn't in the vocabulary.
    UnknownToken,
    /// Tokens after the end.
    AfterEnd,
    /// A `<tool_call>` that doesn't hold a JSON object with a name and arguments.
    InvalidToolCall,
}

impl Malformation {
    /// A few words for logs.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::MissingStart => "text outside of a message",
            Self::MissingEnd => "a message that doesn't end",
            Self::MissingMessage => "a header without <|message|>",
            Self::MissingChannel => "a message without a channel",
            Self::UnknownChannel => "a message in an unknown channel",
            Self::ForeignAuthor => "a message in another author's name",
            Self::InvalidRecipient => "a call to something that can't be a tool",
            Self::Stray => "a control token out of place",
            Self::UnknownToken => "an id outside the vocabulary",
            Self::AfterEnd => "tokens after the end",
            Self::InvalidToolCall => "a tool call that isn't JSON with a name and arguments",
        }
    }
}

impl AnswerEvent {
    /// A part in good form.
    #[must_use]
    pub const fn new(tokens: usize, part: AnswerPart) -> Self {
        Self { tokens, part, problem: None }
    }

    /// The part with what is wrong about it.
    #[must_use]
    pub fn with(self, problem: impl Into<Option<Malformation>>) -> Self {
        Self { problem: problem.into(), ..self }
    }
}
