//! Components in OCI registries, by the distribution API 1.1: one client for the five requests that this takes.
//!
//! It is made of the HTTP client that the program has anyway. The crate `oci-client` does the same with an asynchronous
//! client of its own, 33 further crates to build, where this needs the six of TLS.

mod artifact;
mod challenge;
mod credentials;
mod reference;
mod registry;

pub(crate) use reference::Reference;
pub(crate) use registry::{Pulled, Registry};
