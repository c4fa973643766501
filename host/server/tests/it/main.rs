//! The server over HTTP, with a tiny model: every endpoint, every refusal, what happens when things go wrong.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod access;
mod bodies;
mod chat;
mod completions;
mod components;
mod connection;
mod constrained_chats;
mod constraints;
mod disconnects;
mod documents;
mod endpoints;
mod guests;
mod host;
mod jobs;
mod logprobs;
mod metrics;
mod models;
mod operation;
mod prefix_cache;
mod reasoning;
mod recipes;
mod refusals;
mod restarts;
mod routing;
mod shutdown;
mod signatures;
mod streaming;
mod swaps;
mod user_interface;
