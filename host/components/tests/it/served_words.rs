//! Models that answer with words at a steady pace, for endpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use espalier_components::{
    Answer, AnswerEnd, AnswerStep, Beginning, ServedModels, ServedVariant, SessionPrompt, SessionRefusal,
    SessionRequest,
};
use tokio::time::{Interval, interval};

/// The variants `m@fast` and `m@slow`, which count up to the most tokens. A prompt `endless` has no end.
#[derive(Clone, Default)]
pub(crate) struct Words {
    /// Sessions that are open.
    pub(crate) open: Arc<AtomicUsize>,
}

impl ServedModels for Words {
    fn variants(&self) -> Vec<ServedVariant> {
        let variant = |name: &str| ServedVariant {
            model: "m".to_owned(),
            name: name.to_owned(),
            context_length: 100,
            accepts: true,
        };
        vec![variant("fast"), variant("slow")]
    }

    fn begin(&self, request: SessionRequest) -> Beginning {
        let open = Arc::clone(&self.open);
        Box::pin(async move {
            let pace = match request.model.as_str() {
                "m@fast" => Duration::from_millis(4),
                "tiny" => Duration::from_millis(50),
                "m@slow" => Duration::from_millis(9),
                other => return Err(SessionRefusal::UnknownModel(format!("there is no {other}"))),
            };
            if request.max_tokens > 100 {
                return Err(SessionRefusal::Invalid("max_tokens: expected at most 100".to_owned()));
            }
            open.fetch_add(1, Ordering::SeqCst);
            let endless = request.prompt == SessionPrompt::Text("endless".to_owned());
            let tokens = if endless { usize::MAX } else { request.max_tokens as usize };
            Ok(Box::new(Counting { address: request.model, tokens, told: 0, pace: interval(pace), open })
                as Box<dyn Answer>)
        })
    }
}

struct Counting {
    address: String,
    tokens: usize,
    told: usize,
    pace: Interval,
    open: Arc<AtomicUsize>,
}

impl Answer for Counting {
    fn answering(&self) -> &str {
        &self.address
    }

    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<AnswerStep> {
        if self.told == self.tokens {
            let end = AnswerEnd { cut: true, prompt_tokens: 1, tokens: self.told };
            return Poll::Ready(AnswerStep::Finished(end));
        }
        ready!(self.pace.poll_tick(context));
        self.told += 1;
        Poll::Ready(AnswerStep::Text(format!(" {}", self.told)))
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}
