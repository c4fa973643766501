//! What a run tells whoever watches it.

use espalier_training::TrainingProgress;

use super::record::RunRecord;
use crate::progress::Phase;

/// What a stage is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Activity<'a> {
    /// The kind of work.
    pub phase: Phase,
    /// The same in words, with the metric where one measures.
    pub what: &'a str,
    /// Which of the stage's cuts it belongs to, counted from 1, and of how many.
    pub cut: Option<(usize, usize)>,
    /// Steps done.
    pub done: u64,
    /// Of so many, where that is known.
    pub total: Option<u64>,
    /// Loss and speed, while it trains.
    pub training: Option<TrainingProgress>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunProgress<'a> {
    /// The stage, counted from 1.
    pub number: usize,
    /// Of so many.
    pub stages: usize,
    /// Its name.
    pub stage: &'a str,
    /// What it is doing.
    pub activity: Activity<'a>,
}

/// Something that a run tells.
#[derive(Clone, Copy, Debug)]
pub enum RunEvent<'a> {
    /// What is on disk: told when the run begins or goes on, and after every stage. Cancels nothing.
    Recorded(&'a RunRecord),
    /// Where it stands.
    Progress(RunProgress<'a>),
}

/// Sees what a run tells; answering its progress with false ends it with [`crate::PruningError::Cancelled`].
pub type RunSink<'a> = dyn FnMut(RunEvent<'_>) -> bool + 'a;
