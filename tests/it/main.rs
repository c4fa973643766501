//! Tests of the built program from the outside: see `tests/README.md`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test ends where something does not hold"
)]

mod answer_metrics;
mod bad_requests;
mod broken_models;
mod built_in_model;
mod command_line;
mod component_life;
mod component_new;
mod component_projects;
mod component_registry;
mod component_signatures;
mod hostile_components;
mod http;
mod live_pruning;
mod load;
mod metrics;
mod openai_client;
mod perplexity;
mod program;
mod pruned_logits;
mod pruning_command;
mod recipe_runs;
mod registry;
mod restarts;
mod running_host;
mod shutdown;
mod smollm2;
mod synthetic;
mod training_command;
