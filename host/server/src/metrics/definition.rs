//! Every metric that the server exports, as data: `docs/metrics.md` and the collectors are made from this table.
//!
//! vLLM's names stand beside ours where the same thing is really measured, so that dashboards made for it work
//! unchanged. Their labels are vLLM's: `model_name` is the served model, `engine` the number of the generation.

/// What a metric is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets with these upper bounds.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name, with the unit.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What is measured.
    pub help: &'static str,
}

const GENERATION: &[&str] = &["model", "variant", "generation"];
const BLOCK_STATE: &[&str] = &["model", "variant", "generation", "state"];
const FINISHED: &[&str] = &["model", "variant", "generation", "finished_reason"];
const COMPONENT: &[&str] = &["component", "version", "slot"];
const COMPONENT_OUTCOME: &[&str] = &["component", "version", "slot", "outcome"];
const GUEST: &[&str] = &["component", "version", "name"];
const VLLM: &[&str] = &["model_name", "engine"];
const VLLM_FINISHED: &[&str] = &["model_name", "engine", "finished_reason"];

/// vLLM's buckets of the time to the first token.
const FIRST_TOKEN: Kind = Kind::Histogram(&[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
]);
/// vLLM's buckets of the time between tokens, with finer ones at the short end, where small models live.
const BETWEEN_TOKENS: Kind = Kind::Histogram(&[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
    10.0, 20.0, 40.0, 80.0,
]);
/// vLLM's buckets of whole requests, with finer ones at the short end.
const REQUEST: Kind = Kind::Histogram(&[
    0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0,
    240.0, 480.0, 960.0, 1920.0, 7680.0,
]);
/// A 1-2-5 series of token counts.
const TOKENS: Kind = Kind::Histogram(&[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0, 50000.0,
    100_000.0, 200_000.0,
]);
/// vLLM's buckets of the tokens of one step.
const STEP_TOKENS: Kind = Kind::Histogram(&[
    1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0,
]);
/// Calls of components: from the microseconds of a router to the minutes of a metric.
const CALL: Kind = Kind::Histogram(&[
    0.00001, 0.000_025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5,
    1.0, 5.0, 30.0, 120.0, 600.0,
]);
/// Stages of recipes: from the seconds of a tiny model to days.
const STAGE: Kind = Kind::Histogram(&[
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0, 259_200.0,
]);

macro_rules! metrics {
    ($($id:ident = $name:literal, $kind:expr, $labels:expr, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Definition = Definition { name: $name, kind: $kind, labels: $labels, help: $help };
        )*
        /// All of them, in the order of the page.
        pub const ALL: &[Definition] = &[$($id),*];
    };
}

metrics! {
    BUILD_INFO = "espalier_build_info", Kind::Gauge, &["version"], "1, with the version of the program.";
    READY = "espalier_ready", Kind::Gauge, &[], "1 if /ready says yes.";
    HTTP_REQUESTS = "espalier_http_requests_total", Kind::Counter, &["method", "route", "status"],
        "HTTP requests answered, by the route's pattern.";
    HTTP_DURATION = "espalier_http_response_head_seconds", REQUEST, &["method", "route"],
        "Time until the head of the response was sent; for a stream that is before its first event.";
    API_ERRORS = "espalier_api_errors_total", Kind::Counter, &["code"], "Error answers, by the code in their body.";

    REQUESTS = "espalier_requests_total", Kind::Counter, FINISHED,
        "Sequences that left the engine; finished_reason is stop, length or abort.";
    PROMPT_TOKENS = "espalier_prompt_tokens_total", Kind::Counter, GENERATION,
        "Prompt tokens computed, each once.";
    CACHED_TOKENS = "espalier_prompt_tokens_cached_total", Kind::Counter, GENERATION,
        "Prompt tokens that were in the key-value cache and not computed.";
    RECOMPUTED_TOKENS = "espalier_recomputed_tokens_total", Kind::Counter, GENERATION,
        "Tokens computed again for sequences that had been preempted.";
    PREEMPTIONS = "espalier_preemptions_total", Kind::Counter, GENERATION,
        "Times that a sequence gave up its blocks to others and went back to the queue.";
    GUESSES = "espalier_speculative_guesses_total", Kind::Counter, GENERATION,
        "Times that the next tokens of a sequence were guessed and checked.";
    GUESSED_TOKENS = "espalier_speculative_tokens_total", Kind::Counter, GENERATION,
        "Guessed tokens that were checked.";
    RIGHT_TOKENS = "espalier_speculative_accepted_tokens_total", Kind::Counter, GENERATION,
        "Guessed tokens that were right.";
    GENERATION_TOKENS = "espalier_generation_tokens_total", Kind::Counter, GENERATION, "Tokens generated.";
    RUNNING = "espalier_requests_running", Kind::Gauge, GENERATION, "Sequences in the batch.";
    WAITING = "espalier_requests_waiting", Kind::Gauge, GENERATION, "Sequences that wait for a place in the batch.";
    KV_BLOCKS = "espalier_kv_cache_blocks", Kind::Gauge, BLOCK_STATE,
        "Key-value blocks; state is used, cached (used by nobody, to be found again) or free.";
    KV_BYTES = "espalier_kv_cache_bytes", Kind::Gauge, GENERATION,
        "Bytes reserved for keys and values: the budget, but for what is less than a block.";
    WEIGHT_BYTES = "espalier_weight_bytes", Kind::Gauge, GENERATION, "Bytes of the loaded weights.";
    FIRST_TOKEN_SECONDS = "espalier_time_to_first_token_seconds", FIRST_TOKEN, GENERATION,
        "From arrival to the first token.";
    INTER_TOKEN_SECONDS = "espalier_inter_token_latency_seconds", BETWEEN_TOKENS, GENERATION,
        "From one token of a sequence to its next.";
    REQUEST_SECONDS = "espalier_request_duration_seconds", REQUEST, GENERATION, "From arrival to the end.";
    QUEUE_SECONDS = "espalier_request_queue_seconds", REQUEST, GENERATION, "From arrival to the first step.";
    PREFILL_SECONDS = "espalier_request_prefill_seconds", REQUEST, GENERATION,
        "From the first step to the first token.";
    DECODE_SECONDS = "espalier_request_decode_seconds", REQUEST, GENERATION, "From the first token to the last.";
    STEP_SECONDS = "espalier_step_duration_seconds", BETWEEN_TOKENS, GENERATION, "One forward pass with sampling.";
    REQUEST_PROMPT_TOKENS = "espalier_request_prompt_tokens", TOKENS, GENERATION, "Prompt tokens per sequence.";
    REQUEST_GENERATION_TOKENS = "espalier_request_generation_tokens", TOKENS, GENERATION,
        "Generated tokens per sequence.";

    ROUTED = "espalier_routed_requests_total", Kind::Counter, &["model", "variant", "by"],
        "Requests by the variant that took them; by is router, pin, default, or fallback where those before it in the router's order took none.";
    SHADOWED = "espalier_shadow_requests_total", Kind::Counter, &["model", "variant", "outcome"],
        "Copies of requests for a shadow; outcome is finished, dropped (requests waited, or too many copies ran) or failed.";
    ROUTER_FAILURES = "espalier_router_failures_total", Kind::Counter, &["model", "component", "version"],
        "Requests whose router component failed, so that the default variant answered.";
    COMPONENT_CALLS = "espalier_component_calls_total", Kind::Counter, COMPONENT_OUTCOME,
        "Calls into components; outcome is ok, a limit that was reached (guest_time, memory, …), or trap, guest, invalid_answer, input or busy.";
    COMPONENT_SECONDS = "espalier_component_call_seconds", CALL, COMPONENT, "Duration of calls into components.";
    COMPONENT_WEIGHT = "espalier_component_weight", Kind::Gauge, &["component", "version", "slot", "role"],
        "The share of its slot's calls that a component gets; role is active or canary.";
    COMPONENT_COUNTED = "espalier_component_counted_total", Kind::Counter, GUEST,
        "What components count themselves, by their own name for it.";
    COMPONENT_OBSERVED = "espalier_component_observed", Kind::Histogram(&[]), GUEST,
        "What components observe themselves, by their own name for it; buckets from a millionth to a million.";
    COMPONENT_METRICS_REFUSED = "espalier_component_metrics_refused_total", Kind::Counter,
        &["component", "version", "reason"],
        "Figures of components that were not recorded; reason is name (it is none), too_many (the component has as many metrics as it may have), kind (a counter and a histogram of one name) or value (infinite, or not a number).";
    JOBS = "espalier_jobs", Kind::Gauge, &["kind", "state"], "Jobs by state; kind is prune, evaluate or recipe.";
    RECIPE_STAGE_SECONDS = "espalier_recipe_stage_seconds", STAGE, &["recipe", "stage"],
        "Duration of the stages of recipes, from their first cut to their last gate; of one that a restart interrupted, what came after it.";

    VLLM_PROMPT_TOKENS = "vllm:prompt_tokens_total", Kind::Counter, VLLM, "Number of prefill tokens processed.";
    VLLM_PREFIX_QUERIES = "vllm:prefix_cache_queries_total", Kind::Counter, VLLM,
        "Prefix cache queries, in terms of number of queried tokens.";
    VLLM_PREFIX_HITS = "vllm:prefix_cache_hits_total", Kind::Counter, VLLM,
        "Prefix cache hits, in terms of number of cached tokens.";
    VLLM_PREEMPTIONS = "vllm:num_preemptions_total", Kind::Counter, VLLM,
        "Cumulative number of preemption from the engine.";
    VLLM_DRAFTS = "vllm:spec_decode_num_drafts_total", Kind::Counter, VLLM, "Number of spec decoding drafts.";
    VLLM_DRAFT_TOKENS = "vllm:spec_decode_num_draft_tokens_total", Kind::Counter, VLLM,
        "Number of draft tokens.";
    VLLM_ACCEPTED_TOKENS = "vllm:spec_decode_num_accepted_tokens_total", Kind::Counter, VLLM,
        "Number of accepted tokens.";
    VLLM_GENERATION_TOKENS = "vllm:generation_tokens_total", Kind::Counter, VLLM,
        "Number of generation tokens processed.";
    VLLM_SUCCESS = "vllm:request_success_total", Kind::Counter, VLLM_FINISHED,
        "Count of successfully processed requests.";
    VLLM_RUNNING = "vllm:num_requests_running", Kind::Gauge, VLLM, "Number of requests in model execution batches.";
    VLLM_WAITING = "vllm:num_requests_waiting", Kind::Gauge, VLLM, "Number of requests waiting to be processed.";
    VLLM_KV_USAGE = "vllm:kv_cache_usage_perc", Kind::Gauge, VLLM, "KV-cache usage. 1 means 100 percent usage.";
    VLLM_CACHE_CONFIG = "vllm:cache_config_info", Kind::Gauge, &["model_name", "engine", "block_size", "num_gpu_blocks"],
        "Information of the cache configuration.";
    VLLM_FIRST_TOKEN = "vllm:time_to_first_token_seconds", FIRST_TOKEN, VLLM,
        "Histogram of time to first token in seconds.";
    VLLM_INTER_TOKEN = "vllm:inter_token_latency_seconds", BETWEEN_TOKENS, VLLM,
        "Histogram of inter-token latency in seconds.";
    VLLM_E2E = "vllm:e2e_request_latency_seconds", REQUEST, VLLM, "Histogram of e2e request latency in seconds.";
    VLLM_QUEUE = "vllm:request_queue_time_seconds", REQUEST, VLLM, "Histogram of time spent in WAITING phase.";
    VLLM_PREFILL = "vllm:request_prefill_time_seconds", REQUEST, VLLM, "Histogram of time spent in PREFILL phase.";
    VLLM_DECODE = "vllm:request_decode_time_seconds", REQUEST, VLLM, "Histogram of time spent in DECODE phase.";
    VLLM_INFERENCE = "vllm:request_inference_time_seconds", REQUEST, VLLM, "Histogram of time spent in RUNNING phase.";
    VLLM_REQUEST_PROMPT = "vllm:request_prompt_tokens", TOKENS, VLLM, "Number of prefill tokens processed.";
    VLLM_REQUEST_GENERATION = "vllm:request_generation_tokens", TOKENS, VLLM,
        "Number of generation tokens processed.";
    VLLM_MAX_TOKENS = "vllm:request_params_max_tokens", TOKENS, VLLM,
        "Histogram of the max_tokens request parameter.";
    VLLM_N = "vllm:request_params_n", Kind::Histogram(&[1.0, 2.0, 5.0, 10.0, 20.0]), VLLM,
        "Histogram of the n request parameter.";
    VLLM_ITERATION = "vllm:iteration_tokens_total", STEP_TOKENS, VLLM,
        "Histogram of number of tokens per engine_step.";
}

/// The page `docs/metrics.md`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Generated from `host/server/src/metrics/definition.rs`; a test compares the two.\n\n\
         `GET /metrics` on either listener, in the Prometheus text format. `?names=espalier` or `?names=vllm` leaves\n\
         only one of the two families: `promtool check metrics` finds nothing to say about ours, while it objects to\n\
         the colon in vLLM's names, which are kept as dashboards know them.\n\n\
         | name | type | labels | what |\n| --- | --- | --- | --- |\n",
    );
    for definition in ALL {
        let kind = match definition.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        page.push_str(&format!(
            "| `{}` | {kind} | {} | {} |\n",
            definition.name,
            definition.labels.join(", "),
            definition.help
        ));
    }
    page
}
