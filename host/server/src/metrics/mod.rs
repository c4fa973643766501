//! What is measured, and how it is exported.
//!
//! [`definition`] is the table of metrics, [`Metrics`] holds the collectors, [`generation`] fills those of one engine.
//! Gauges are read when somebody asks: [`Metrics::render`] takes a snapshot of what is loaded. Series of a generation
//! that is gone keep their counters and lose their gauges.

mod build;
pub mod definition;
mod generation;
mod guests;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use espalier_components::{Call, CallObserver, ComponentError, ComponentMetrics, Identity, SlotStatus};
use espalier_engine::Registry;
use espalier_pruning::JobCount;
use prometheus::{GaugeVec, HistogramVec, IntCounterVec, TextEncoder};

use crate::api_error::ErrorKind;
use crate::error::ServerError;
use crate::openai::shadow::Outcome;
use build::Build;
use definition as d;
pub use generation::GenerationObserver;
use guests::Guests;

/// Which families an answer contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Ours and vLLM's.
    All,
    /// Those that begin with `espalier_`.
    Espalier,
    /// Those that begin with `vllm:`.
    Vllm,
}

/// What there is at the moment of an answer.
pub struct Snapshot<'a> {
    /// Whether requests are taken.
    pub ready: bool,
    /// The loaded models.
    pub loaded: &'a Registry,
    /// The jobs by state.
    pub jobs: &'a [JobCount],
    /// What each slot has.
    pub slots: &'a [SlotStatus],
    /// What components count and observe themselves.
    pub guests: Vec<ComponentMetrics>,
}

/// The collectors.
#[derive(Debug)]
pub struct Metrics {
    registry: prometheus::Registry,
    http_requests: IntCounterVec,
    http_duration: HistogramVec,
    api_errors: IntCounterVec,
    ready: GaugeVec,
    routed: IntCounterVec,
    shadowed: IntCounterVec,
    router_failures: IntCounterVec,
    component_calls: IntCounterVec,
    component_seconds: HistogramVec,
    stage_seconds: HistogramVec,
    engines: generation::Engines,
    guests: Guests,
    levels: Levels,
    /// Gauges are reset and set again for each answer, one answer at a time.
    rendering: Mutex<()>,
}

/// Gauges that are set when somebody asks.
#[derive(Debug)]
struct Levels {
    running: GaugeVec,
    waiting: GaugeVec,
    kv_blocks: GaugeVec,
    kv_bytes: GaugeVec,
    weight_bytes: GaugeVec,
    component_weights: GaugeVec,
    jobs: GaugeVec,
    vllm_running: GaugeVec,
    vllm_waiting: GaugeVec,
    vllm_kv_usage: GaugeVec,
    vllm_cache_config: GaugeVec,
}

impl Metrics {
    /// Creates and registers every collector.
    ///
    /// # Errors
    /// A definition that Prometheus does not accept.
    pub fn new() -> Result<Self, ServerError> {
        let build = Build::default();
        let metrics = Self {
            http_requests: build.counter(&d::HTTP_REQUESTS)?,
            http_duration: build.histogram(&d::HTTP_DURATION)?,
            api_errors: build.counter(&d::API_ERRORS)?,
            ready: build.gauge(&d::READY)?,
            routed: build.counter(&d::ROUTED)?,
            shadowed: build.counter(&d::SHADOWED)?,
            router_failures: build.counter(&d::ROUTER_FAILURES)?,
            component_calls: build.counter(&d::COMPONENT_CALLS)?,
            component_seconds: build.histogram(&d::COMPONENT_SECONDS)?,
            stage_seconds: build.histogram(&d::RECIPE_STAGE_SECONDS)?,
            engines: generation::Engines::new(&build)?,
            guests: build.guests()?,
            levels: Levels {
                running: build.gauge(&d::RUNNING)?,
                waiting: build.gauge(&d::WAITING)?,
                kv_blocks: build.gauge(&d::KV_BLOCKS)?,
                kv_bytes: build.gauge(&d::KV_BYTES)?,
                weight_bytes: build.gauge(&d::WEIGHT_BYTES)?,
                component_weights: build.gauge(&d::COMPONENT_WEIGHT)?,
                jobs: build.gauge(&d::JOBS)?,
                vllm_running: build.gauge(&d::VLLM_RUNNING)?,
                vllm_waiting: build.gauge(&d::VLLM_WAITING)?,
                vllm_kv_usage: build.gauge(&d::VLLM_KV_USAGE)?,
                vllm_cache_config: build.gauge(&d::VLLM_CACHE_CONFIG)?,
            },
            rendering: Mutex::new(()),
            registry: {
                build.gauge(&d::BUILD_INFO)?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
                build.finish()
            },
        };
        Ok(metrics)
    }

    /// An HTTP request was answered.
    pub fn http_request(&self, method: &str, route: &str, status: u16, duration: Duration) {
        self.http_requests.with_label_values(&[method, route, &status.to_string()]).inc();
        self.http_duration.with_label_values(&[method, route]).observe(duration.as_secs_f64());
    }

    /// The answer was an error.
    pub fn api_error(&self, kind: ErrorKind) {
        self.api_errors.with_label_values(&[kind.code()]).inc();
    }

    /// A copy of a request came to its end.
    pub fn shadowed(&self, model: &str, variant: &str, outcome: Outcome) {
        self.shadowed.with_label_values(&[model, variant, outcome.name()]).inc();
    }

    /// A variant took a request, by `router`, `pin`, `default` or `fallback`.
    pub fn routed(&self, model: &str, variant: &str, by: &str) {
        self.routed.with_label_values(&[model, variant, by]).inc();
    }

    /// The router component failed for a request to `model`.
    pub fn router_failed(&self, model: &str, router: &Identity) {
        self.router_failures.with_label_values(&[model, router.name.as_str(), router.version.as_str()]).inc();
    }

    /// A stage of a recipe came to its end.
    pub fn recipe_stage(&self, recipe: &str, stage: &str, duration: Duration) {
        self.stage_seconds.with_label_values(&[recipe, stage]).observe(duration.as_secs_f64());
    }

    /// The observer that the engine of a generation reports to.
    #[must_use]
    pub fn observer(&self, model: &str, variant: &str, number: u64) -> GenerationObserver {
        self.engines.observer(model, variant, number)
    }

    /// The recent mean time between two tokens of one sequence of a generation, once there is one.
    #[must_use]
    pub fn milliseconds_per_token(&self, number: u64) -> Option<f32> {
        self.engines.milliseconds_per_token(number)
    }

    /// The text of `/metrics` now.
    ///
    /// # Errors
    /// A collector that Prometheus' encoder refuses.
    pub fn render(&self, names: Names, now: Snapshot<'_>) -> Result<String, ServerError> {
        let _one = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        self.ready.with_label_values::<&str>(&[]).set(f64::from(u8::from(now.ready)));
        self.levels.set(now.loaded, now.jobs);
        self.levels.set_weights(now.slots);
        self.guests.show(now.guests);
        let families: Vec<_> = self
            .registry
            .gather()
            .into_iter()
            .filter(|family| match names {
                Names::All => true,
                Names::Espalier => family.name().starts_with("espalier_"),
                Names::Vllm => family.name().starts_with("vllm:"),
            })
            .collect();
        TextEncoder::new().encode_to_string(&families).map_err(ServerError::Metrics)
    }
}

impl CallObserver for Metrics {
    fn called(&self, call: &Call<'_>) {
        let (name, version, slot) = (&call.component.name, &call.component.version, call.slot.to_string());
        let labels = [name.as_str(), version.as_str(), slot.as_str()];
        let outcome = call.error.map_or("ok", ComponentError::outcome);
        self.component_calls.with_label_values(&[labels[0], labels[1], labels[2], outcome]).inc();
        self.component_seconds.with_label_values(&labels).observe(call.duration.as_secs_f64());
    }
}

impl Levels {
    #[expect(clippy::cast_precision_loss, reason = "counts and bytes far below 2^53")]
    fn set(&self, loaded: &Registry, jobs: &[JobCount]) {
        for gauge in [
            &self.running,
            &self.waiting,
            &self.kv_blocks,
            &self.kv_bytes,
            &self.weight_bytes,
            &self.component_weights,
            &self.jobs,
            &self.vllm_running,
            &self.vllm_waiting,
            &self.vllm_kv_usage,
            &self.vllm_cache_config,
        ] {
            gauge.reset();
        }
        for generation in loaded.generations() {
            let (id, engine) = (generation.id(), generation.engine());
            let status = engine.status();
            let number = id.number.to_string();
            let ours = [id.model.as_str(), id.variant.as_str(), number.as_str()];
            self.running.with_label_values(&ours).set(status.running as f64);
            self.waiting.with_label_values(&ours).set(status.waiting as f64);
            let taken = status.kv_used_blocks + status.kv_cached_blocks;
            let free = status.kv_blocks.saturating_sub(taken);
            for (state, blocks) in
                [("used", status.kv_used_blocks), ("cached", status.kv_cached_blocks), ("free", free)]
            {
                let labels = [ours[0], ours[1], ours[2], state];
                self.kv_blocks.with_label_values(&labels).set(blocks as f64);
            }
            self.kv_bytes.with_label_values(&ours).set(engine.kv_bytes() as f64);
            self.weight_bytes.with_label_values(&ours).set(generation.model().weight_bytes() as f64);
            let theirs = [id.model.as_str(), number.as_str()];
            self.vllm_running.with_label_values(&theirs).set(status.running as f64);
            self.vllm_waiting.with_label_values(&theirs).set(status.waiting as f64);
            let usage = status.kv_used_blocks as f64 / status.kv_blocks.max(1) as f64;
            self.vllm_kv_usage.with_label_values(&theirs).set(usage);
            let (block_size, blocks) = (engine.block_tokens().to_string(), status.kv_blocks.to_string());
            self.vllm_cache_config
                .with_label_values(&[
                    id.model.as_str(),
                    number.as_str(),
                    block_size.as_str(),
                    blocks.as_str(),
                ])
                .set(1.0);
        }
        for job in jobs {
            self.jobs.with_label_values(&[job.kind.as_str(), job.state.name()]).set(job.count as f64);
        }
    }
}

impl Levels {
    /// The shares of the slots' calls.
    fn set_weights(&self, slots: &[SlotStatus]) {
        for SlotStatus { activation, .. } in slots {
            let slot = activation.slot.to_string();
            let set = |label: &str, role: &str, weight: f64| {
                // A label is `name@version`, and a name has no `@`.
                let (name, version) = label.split_once('@').unwrap_or((label, ""));
                self.component_weights.with_label_values(&[name, version, &slot, role]).set(weight);
            };
            let canary = activation.canary.as_ref();
            let weight = canary.map_or(0.0, |canary| canary.weight.get());
            set(&activation.component, "active", 1.0 - weight);
            if let Some(canary) = canary {
                set(&canary.component, "canary", weight);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_definition_has_a_collector() {
        let build = Build::default();
        generation::Engines::new(&build).unwrap();
        let metrics = Metrics::new().unwrap();
        // A vector without series is not gathered, so the registrations are compared: a second one is refused.
        for definition in d::ALL {
            let duplicate = prometheus::IntCounterVec::new(
                prometheus::Opts::new(definition.name, definition.help),
                definition.labels,
            )
            .unwrap();
            assert!(
                metrics.registry.register(Box::new(duplicate)).is_err(),
                "{} has no collector",
                definition.name
            );
        }
        let names: BTreeSet<_> = d::ALL.iter().map(|definition| definition.name).collect();
        assert_eq!(names.len(), d::ALL.len());
    }
}
