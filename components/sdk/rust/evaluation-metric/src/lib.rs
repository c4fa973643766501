//! Bindings of the world `evaluation-metric`, for metrics written in Rust.
//!
//! A metric is a crate of type `cdylib` with a type that implements [`Guest`] and
//! `espalier_evaluation_metric::export!(MyMetric)`. See `components/metrics/perplexity` for a whole one. The
//! interfaces' documentation is that of the WIT in `wit/`.

#[allow(missing_docs, reason = "generated from the WIT, which documents every item it can")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../../wit/kernels", "../../../../wit/policy"],
        world: "espalier:policy/evaluation-metric",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "espalier_evaluation_metric",
    });
}

pub use bindings::espalier::kernels::types::Error;
pub use bindings::espalier::kernels::{inference, model, telemetry, text};
pub use bindings::espalier::policy::types::Identity;
pub use bindings::export;
#[doc(hidden)]
pub use bindings::exports;
pub use bindings::exports::espalier::policy::metric::{Guest, Measurement};
