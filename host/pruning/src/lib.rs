//! Making a model smaller: calibration, scores, plans and surgery, and the jobs that run them.
//!
//! Calibration text runs through the forward pass, which shows its activations to a scoring policy (a component); the
//! policy's scores and a target become a [`Plan`], which is data that can be reviewed before anything is cut; surgery
//! applies a plan to a checkpoint and writes a new one. [`prune()`] is the whole way, [`Jobs`] runs it in the background. A [`Recipe`] puts
//! several of them, recovery by training and evaluations in a row, which [`run_recipe`] goes through and resumes.
//!
//! Plans are pure functions of scores, specification and request; the same inputs give the same bytes. Whatever is
//! interrupted leaves nothing that looks finished. [`refit()`] recovers in closed form; how weights are trained is the business
//! of the training room.

mod ablation;
mod aim;
mod allocation;
mod calibration;
mod disk;
mod error;
mod gradients;
mod jobs;
mod plan;
mod policy;
mod progress;
mod protected;
mod prune;
mod recipe;
mod recorded;
mod refit;
mod scores;
mod search;
mod shipped_recipes;
mod size;
mod staged;
mod storage;
mod surgery;
mod traces;
mod unit;
mod weights;

pub use ablation::ModelAblation;
pub use aim::Aim;
pub use allocation::Allocation;
pub use calibration::{Calibration, CalibrationFile, CalibrationRecord, CalibrationRequest};
pub use error::PruningError;
pub use espalier_components::Unit;
pub use jobs::{
    EvaluateJob, Job, JobCount, JobEvent, JobReporter, JobRequest, JobRunner, JobState, Jobs,
    PinnedComponent, PruneJob, RecipeJob, RecipeText, StageProgress,
};
pub use plan::{
    Constraints, Count, ExpertChannels, LayerPlan, Layout, PLAN_VERSION, Plan, PlanRequest, PolicyReference,
    Selection, Target, plan,
};
pub use policy::score_units;
pub use progress::{Phase, Progress, Unwatched};
pub use protected::Protected;
pub use prune::{Derivation, ModelSource, PruneRequest, derive_plan, prune, refit_plan};
pub use recipe::{Bound, Cut, Gate, Goal, Recipe, RecipeEvaluation, RecipeTexts, Stage};
pub use recorded::RecordedTraces;
pub use refit::{Refit, RefitRecord, RefitRequest, refit};
pub use scores::Scores;
pub use search::{Budget, Budgets, Candidate, Cost, LatencyModel, Limit, Search, Sensitivity};
pub use shipped_recipes::{SHIPPED_RECIPES, ShippedRecipe, shipped_recipe};
pub use size::Size;
pub use staged::{
    Activity, CutRecord, Figures, GateResult, Importance, RecipeComponents, RunEvent, RunModel, RunProgress,
    RunRecord, RunRequest, RunSink, RunStatus, RunSummary, STATE_FILE, StageRecord, StageSummary, run_recipe,
    write_report,
};
pub use storage::{NumberFormat, Storage, StorageType};
pub use surgery::{PROVENANCE_FILE, Provenance, Requantized, Source, Surgery, surgery, surgery_with};
pub use traces::{TraceObserver, calibrate};
pub use unit::{check_supported, unit_count};
