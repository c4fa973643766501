//! How much a component may use. All of it is enforced.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::{TrustedKeys, World};

/// The limits of one component instance and of each call into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// How long one call may compute in the guest. Time inside host calls is given back, and so is, on Linux, time in
    /// which the machine was busy with something else.
    #[serde(rename = "guest_time_seconds", serialize_with = "seconds")]
    pub guest_time: Duration,
    /// How long one call may take in all. Checked whenever the guest runs or calls the host, so a host call that is
    /// under way is finished first.
    #[serde(rename = "wall_time_seconds", serialize_with = "seconds")]
    pub wall_time: Duration,
    /// How many host calls one call may make.
    pub host_calls: u64,
    /// The size of all linear memories together, in bytes.
    pub memory_bytes: usize,
    /// The size of all tables together, in elements.
    pub table_elements: usize,
    /// Core instances inside the component, tables and memories: so many of each.
    pub instances: usize,
    /// The tensors that the guest made and holds, in bytes.
    pub tensor_bytes: usize,
    /// How many such tensors it may hold.
    pub tensors: usize,
    /// How many values `tensor.read` hands out at most.
    pub read_values: usize,
    /// How many multiplications one matrix product may take.
    pub multiplications: u64,
    /// How many sessions it may hold at once.
    pub sessions: usize,
    /// How many tokens the sessions of one call may generate together, counted when they begin.
    pub generated_tokens: u64,
    /// How many notes one call may put into the report.
    pub notes: usize,
    /// How many calls into all instances of a component may run at once; a further one is refused.
    pub concurrent_calls: usize,
    /// Lists and strings that cross from the guest to the host in one crossing, in bytes. The answer of a call is one.
    pub crossing_bytes: usize,
    /// Log lines of one call; further ones are dropped.
    pub log_lines: u64,
    /// Log lines of all instances of a component in one second; further ones are dropped and counted.
    pub log_lines_per_second: u32,
    /// The length of a log line or a note in characters; the rest is cut.
    pub log_line_length: usize,
    /// How many metrics of its own a component may have; figures for further ones are counted as refused.
    pub metrics: usize,
    /// The body of a request to an endpoint, in bytes.
    pub request_bytes: usize,
    /// The body of an endpoint's response, in bytes.
    pub response_bytes: u64,
}

impl Limits {
    /// For routers, which sit in the path of every request.
    pub const fn router() -> Self {
        Self {
            guest_time: Duration::from_millis(100),
            wall_time: Duration::from_secs(1),
            host_calls: 100,
            memory_bytes: 64 << 20,
            table_elements: 20_000,
            // As for policies: routers may be written in Python too.
            instances: 64,
            tensor_bytes: 0,
            tensors: 0,
            read_values: 0,
            multiplications: 0,
            sessions: 0,
            generated_tokens: 0,
            notes: 0,
            crossing_bytes: 256 << 10,
            log_lines: 4,
            log_lines_per_second: 20,
            // Half of the pool, so that one router that hangs leaves room for another.
            concurrent_calls: 32,
            log_line_length: 1_000,
            metrics: 16,
            request_bytes: 0,
            response_bytes: 0,
        }
    }

    /// For scoring policies: one call sees one sequence in one layer. The time of the losses that a policy asks for does not
    /// count: it is the operator who chose such a policy, and who may cancel its job.
    pub const fn scoring() -> Self {
        Self {
            guest_time: Duration::from_secs(10),
            wall_time: Duration::from_secs(120),
            host_calls: 100_000,
            memory_bytes: 256 << 20,
            table_elements: 20_000,
            // A policy in Python has 41 modules and instances between them.
            instances: 64,
            tensor_bytes: 512 << 20,
            tensors: 100_000,
            read_values: 65_536,
            // Some ten seconds of one core.
            multiplications: 32 << 30,
            sessions: 0,
            generated_tokens: 0,
            notes: 0,
            crossing_bytes: 32 << 20,
            log_lines: 100,
            log_lines_per_second: 100,
            concurrent_calls: 16,
            log_line_length: 4_000,
            metrics: 16,
            request_bytes: 0,
            response_bytes: 0,
        }
    }

    /// For metrics: one call measures a whole text, most of it inside host calls.
    pub const fn metric() -> Self {
        Self {
            guest_time: Duration::from_secs(120),
            wall_time: Duration::from_secs(24 * 3600),
            host_calls: 10_000_000,
            sessions: 64,
            generated_tokens: 1_000_000,
            notes: 16,
            ..Self::scoring()
        }
    }

    /// For endpoints: one call answers one request, and most of its time it waits for tokens or for its client. Here
    /// guest time is what the call keeps one of the host's threads busy, functions of `wasi:http` included.
    pub const fn endpoint() -> Self {
        Self {
            guest_time: Duration::from_secs(10),
            wall_time: Duration::from_secs(600),
            host_calls: 1_000_000,
            sessions: 16,
            generated_tokens: 100_000,
            log_lines: 20,
            crossing_bytes: 1 << 20,
            log_line_length: 4_000,
            request_bytes: 4 << 20,
            response_bytes: 64 << 20,
            ..Self::router()
        }
    }
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// How a [`Host`](crate::Host) is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// The limits of routers.
    pub router: Limits,
    /// The limits of scoring policies.
    pub scoring: Limits,
    /// The limits of metrics.
    pub metric: Limits,
    /// The limits of endpoints.
    pub endpoint: Limits,
    /// Whose components are deployed; anybody's without it.
    pub trusted_keys: Option<TrustedKeys>,
    /// The largest component file, in bytes.
    pub component_bytes: usize,
    /// The stack of WebAssembly code, in bytes.
    pub stack_bytes: usize,
    /// How many instances can live at once when the pooling allocator is in use.
    pub pooled_instances: u32,
    /// How often running guests are checked against their deadline.
    pub tick: Duration,
}

impl HostConfig {
    /// The limits of components of a world.
    pub const fn limits(&self, world: World) -> &Limits {
        match world {
            World::ScoringPolicy => &self.scoring,
            World::RequestRouter => &self.router,
            World::EvaluationMetric => &self.metric,
            World::HttpEndpoint => &self.endpoint,
        }
    }
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            router: Limits::router(),
            scoring: Limits::scoring(),
            metric: Limits::metric(),
            endpoint: Limits::endpoint(),
            trusted_keys: None,
            component_bytes: 32 << 20,
            stack_bytes: 512 << 10,
            pooled_instances: 64,
            tick: Duration::from_millis(5),
        }
    }
}
