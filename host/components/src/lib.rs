//! Runs people's WebAssembly components inside the host: scoring policies, request routers, evaluation metrics, HTTP endpoints.
//!
//! A component is checked against its world before anything of it runs, runs in a sandbox with nothing but the
//! interfaces of `wit/kernels`, and is held to [`Limits`] that are enforced. Whatever it does (trap, loop, allocate
//! without end, answer nonsense), the caller gets a [`ComponentError`] that names the component and its version, and
//! the host goes on.
//!
//! Calls block and are meant for threads that may block; routers answer within microseconds. Calls of endpoints are futures
//! on tokio's runtime instead, since they spend their time waiting.
//!
//! How the crate is organised: [`Host`] (engine, clock, linkers) loads a [`Component`]; [`ScoringPolicy`],
//! [`RequestRouter`], [`EvaluationMetric`] and [`HttpEndpoint`] are what one can do with it; [`Deployments`] keeps versions and which of
//! them is active in which slot. What components are told (the model's shape, traces, a model to measure, models to
//! ask) is plain data and small traits that the crates above fill in; this crate knows no model.

#[expect(unreachable_pub, reason = "generated; the WIT is the documentation")]
mod bindings;

mod account;
mod allowance;
mod artefacts;
mod calls;
mod complexity;
mod component;
mod configuration;
mod context;
mod contract;
mod deployments;
mod endpoint;
mod error;
mod grants;
mod guest_metrics;
mod hexadecimal;
mod host;
mod identity;
mod imports;
mod inputs;
mod instance;
mod interface_names;
mod limits;
mod lookup;
mod metric;
mod metric_inputs;
mod provision;
mod route_choice;
mod router;
mod scoring;
mod scoring_inputs;
mod served_models;
mod signature;
mod signing_key;
mod ticker;
mod trusted_keys;
mod world;

pub use calls::{Call, CallObserver};
pub use component::{Component, LoadTime, ScoredUnit};
pub use configuration::Configuration;
pub use deployments::{
    Activation, CallShare, Canary, ComponentFolder, ComponentRecord, Deployed, Deployments, Place, Slot,
    SlotStatus, Taken, Upload,
};
pub use endpoint::{EndpointBody, HttpEndpoint};
pub use error::{ComponentError, Limit};
pub use grants::{GrantedHost, GrantedHosts};
pub use guest_metrics::{ComponentMetrics, GuestMetric};
pub use host::Host;
pub use identity::Identity;
pub use inputs::{
    LayerFacts, ModelFacts, Probe, RouteChoice, RouteRequest, Shadow, Trace, Unit, VariantStatus,
};
pub use interface_names::InterfaceNames;
pub use limits::{HostConfig, Limits};
pub use lookup::{DIRECTORY_VARIABLE, find_component, read_component};
pub use metric::EvaluationMetric;
pub use metric_inputs::{
    Baseline, GenerationTiming, Generator, InputError, Measurement, MetricInputs, MetricReport, Sample,
    Sampling, StreamStep, TextScorer, TokenComparison, TokenStream,
};
pub use provision::Provision;
pub use router::RequestRouter;
pub use scoring::{ScoringJob, ScoringPolicy};
pub use scoring_inputs::{AblatedUnit, Ablation, ModelWeights, Projection, ScoringInputs};
pub use served_models::{
    Answer, AnswerEnd, AnswerStep, Beginning, Role, ServedModels, ServedVariant, SessionPrompt,
    SessionRefusal, SessionRequest,
};
pub use signature::Signature;
pub use signing_key::{PublicKey, SigningKey};
pub use trusted_keys::TrustedKeys;
pub use world::World;
