//! An answer that an endpoint pulls: one step at a time, with the times that its guest cannot measure.
//!
//! A step is fetched when the guest waits for it, and kept until the guest takes it, so nothing piles up here.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use wasmtime_wasi_io::poll::Pollable;

use crate::context::HostAnswer;
use crate::{Answer, AnswerEnd, AnswerStep, Beginning, SessionRefusal};

/// What a guest is told next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NextStep {
    Text(String),
    Reasoning(String),
    Finished(EndedAnswer),
    Failed(String),
}

/// The end of an answer with its times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct EndedAnswer {
    pub(crate) end: AnswerEnd,
    /// From the beginning of the session to the first piece, or to the end where there was none.
    pub(crate) first_token: Duration,
    /// From the first piece to the end, for each token after the first.
    pub(crate) per_token: Option<Duration>,
}

/// An answer behind a guest's handle.
pub(crate) struct AnswerInProgress {
    answer: Box<dyn Answer>,
    began: Instant,
    first_piece: Option<Instant>,
    next: Option<NextStep>,
    ended: bool,
}

impl AnswerInProgress {
    /// Waits until the session has begun.
    pub(crate) async fn begin(beginning: Beginning) -> Result<Self, SessionRefusal> {
        let began = Instant::now();
        let answer = beginning.await?;
        Ok(Self { answer, began, first_piece: None, next: None, ended: false })
    }

    /// Who answers.
    pub(crate) fn answering(&self) -> &str {
        self.answer.answering()
    }

    /// The next step if there is one; the end stays.
    pub(crate) fn take(&mut self) -> Option<NextStep> {
        // Whoever waits asks again with a waker of its own.
        let _ = self.poll_fetch(&mut Context::from_waker(Waker::noop()));
        if self.ended { self.next.clone() } else { self.next.take() }
    }

    /// Is ready when there is a next step.
    fn poll_fetch(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.next.is_some() {
            return Poll::Ready(());
        }
        self.answer.poll_step(context).map(|step| self.next = Some(self.timed(step)))
    }

    fn timed(&mut self, step: AnswerStep) -> NextStep {
        let now = Instant::now();
        match step {
            AnswerStep::Text(text) => {
                self.first_piece.get_or_insert(now);
                NextStep::Text(text)
            }
            AnswerStep::Reasoning(text) => {
                self.first_piece.get_or_insert(now);
                NextStep::Reasoning(text)
            }
            AnswerStep::Finished(end) => {
                self.ended = true;
                let first = self.first_piece.unwrap_or(now);
                let further = u32::try_from(end.tokens.saturating_sub(1)).unwrap_or(u32::MAX);
                NextStep::Finished(EndedAnswer {
                    end,
                    first_token: first.duration_since(self.began),
                    per_token: now.duration_since(first).checked_div(further),
                })
            }
            AnswerStep::Failed(reason) => {
                self.ended = true;
                NextStep::Failed(reason)
            }
        }
    }
}

#[async_trait::async_trait]
impl Pollable for HostAnswer {
    async fn ready(&mut self) {
        poll_fn(|context| self.0.poll_fetch(context)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    struct Scripted(VecDeque<Poll<AnswerStep>>);

    impl Answer for Scripted {
        fn answering(&self) -> &str {
            "m@v"
        }

        fn poll_step(&mut self, _: &mut Context<'_>) -> Poll<AnswerStep> {
            self.0.pop_front().expect("not asked after the end")
        }
    }

    fn answer(steps: impl IntoIterator<Item = Poll<AnswerStep>>) -> AnswerInProgress {
        let began = Instant::now();
        let answer = Box::new(Scripted(steps.into_iter().collect()));
        AnswerInProgress { answer, began, first_piece: None, next: None, ended: false }
    }

    #[test]
    fn steps_come_one_by_one_and_the_end_stays() {
        let end = AnswerEnd { cut: true, prompt_tokens: 2, tokens: 3 };
        let text = |text: &str| Poll::Ready(AnswerStep::Text(text.to_owned()));
        let mut answer =
            answer([Poll::Pending, text("a"), text("b"), Poll::Ready(AnswerStep::Finished(end))]);
        assert_eq!(answer.take(), None);
        // What was waited for is not lost.
        assert_eq!(answer.poll_fetch(&mut Context::from_waker(Waker::noop())), Poll::Ready(()));
        assert_eq!(answer.take(), Some(NextStep::Text("a".to_owned())));
        std::thread::sleep(Duration::from_millis(4));
        assert_eq!(answer.take(), Some(NextStep::Text("b".to_owned())));
        let Some(NextStep::Finished(ended)) = answer.take() else { panic!("no end") };
        assert_eq!(ended.end, end);
        assert!(ended.per_token.is_some_and(|time| time >= Duration::from_millis(2)), "{ended:?}");
        assert_eq!(answer.take(), Some(NextStep::Finished(ended)));
    }

    #[test]
    fn an_answer_of_one_token_has_no_time_per_token() {
        let end = AnswerEnd { cut: false, prompt_tokens: 2, tokens: 1 };
        let mut answer = answer([Poll::Ready(AnswerStep::Finished(end))]);
        let Some(NextStep::Finished(ended)) = answer.take() else { panic!("no end") };
        assert_eq!(ended.per_token, None);
    }
}
