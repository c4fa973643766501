//! The HTTP side of a host: OpenAI's API, the admin API, metrics, health and the web UI.
//!
//! A request is parsed into a type that can only say what this server does ([`openai`], [`admin`]), or is a component's own
//! affair ([`endpoints`]); what it cannot say
//! is refused by name ([`fields`], [`api_error`]). [`Application`] is what handlers share, [`Server`] the two listeners,
//! [`drain::Drain`] the one signal that ends it all in order. [`routes`] is the table of everything that is answered.
//!
//! Models, components and jobs are the business of their own crates; this one gives them names, status codes and
//! labels.

pub mod admin;
pub mod api_error;
pub mod application;
pub mod body;
pub mod drain;
pub mod endpoints;
mod engine_error;
pub mod error;
pub mod event_stream;
pub mod fields;
mod gate;
mod health;
mod interface;
pub mod listener;
pub mod metrics;
pub mod model_address;
pub mod openai;
pub mod openapi;
pub mod readiness;
pub mod routes;
mod routing;
pub mod server;
pub mod variants;
mod watched_components;

pub use application::Application;
pub use error::ServerError;
pub use server::{Addresses, Server};
