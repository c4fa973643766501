//! Components in the sandbox: what they answer, what stops them, what is kept of them.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod activation_norm;
mod agreement;
mod answer_metrics;
mod canaries;
mod deployments;
mod endpoints;
mod guest_metrics;
mod guests;
mod handmade;
mod hostile_binaries;
mod hostile_endpoints;
mod hostile_metrics;
mod hostile_policies;
mod hostile_routers;
mod least_busy;
mod logged_lines;
mod perplexity;
mod random;
mod reference;
mod restarts;
mod routers;
mod scoring_formulas;
mod scripted_model;
mod served_words;
mod signatures;
mod watched_folder;
mod worlds;
