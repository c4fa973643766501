//! Bindings of the world `http-endpoint`, for endpoints written in Rust.
//!
//! An endpoint is a crate of type `cdylib` with a type that implements [`About`] and [`Handler`], and
//! `espalier_http_endpoint::export!(MyEndpoint)`. See `components/http/compare` for a whole one. [`read_body`] and
//! [`ResponseWriter`] do what every endpoint needs; the rest of `wasi:http` is in [`http`] and [`outgoing`], the host's models in
//! [`inference`]. The interfaces' documentation is that of the WIT in `wit/`.
//!
//! A handle that was made from another one is dropped before it: a pollable before its session, a stream before its body.

#[path = "../../../identity.rs"]
mod identity;
mod request;
mod response;

#[allow(missing_docs, reason = "generated from the WIT, which documents every item that is this project's")]
mod bindings {
    wit_bindgen::generate!({
        path: [
            "../../../../wit/wasi/io.wit", "../../../../wit/wasi/clocks.wit", "../../../../wit/wasi/http.wit",
            "../../../../wit/kernels", "../../../../wit/policy", "../../../../wit/endpoint",
        ],
        world: "espalier:endpoint/http-endpoint",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "espalier_http_endpoint",
    });
}

pub use bindings::espalier::endpoint::inference;
pub use bindings::espalier::kernels::telemetry;
pub use bindings::espalier::policy::types::Identity;
pub use bindings::export;
#[doc(hidden)]
pub use bindings::exports;
pub use bindings::exports::espalier::endpoint::about::Guest as About;
pub use bindings::exports::wasi::http::incoming_handler::Guest as Handler;
pub use bindings::wasi::http::outgoing_handler as outgoing;
pub use bindings::wasi::http::types as http;
pub use bindings::wasi::io::poll;
pub use http::{IncomingRequest, Method, ResponseOutparam};
pub use request::{path_and_query, read_body};
pub use response::{Gone, ResponseWriter};
