//! Bindings of the world `evaluation-metric`, for metrics written in Rust.
//!
//! A metric is a crate of type `cdylib` with a function that measures and `espalier_evaluation_metric::metric!(evaluate)`;
//! its name, version and summary are those of its `Cargo.toml`. See `components/metrics/exact-match` for a whole one. The
//! interfaces' documentation is that of the WIT in `wit/`.

mod answers;
mod continuations;
#[path = "../../../identity.rs"]
mod identity;
mod measurement;
#[path = "../../../refusal.rs"]
mod refusal;

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

pub use answers::{AnsweredSample, answered_samples};
pub use bindings::espalier::kernels::tensor::Tensor;
pub use bindings::espalier::kernels::types::Error;
pub use bindings::espalier::kernels::{baseline, inference, model, report, samples, telemetry, text};
pub use bindings::espalier::policy::types::Identity;
pub use bindings::export;
#[doc(hidden)]
pub use bindings::exports;
pub use bindings::exports::espalier::policy::metric::{Guest, Measurement};
pub use continuations::begin_continuations;

/// Makes a component of a function `fn() -> Result<Vec<Measurement>, String>`.
#[macro_export]
macro_rules! metric {
    ($evaluate:path) => {
        struct Component;

        impl $crate::Guest for Component {
            fn describe() -> $crate::Identity {
                $crate::identity!()
            }

            fn evaluate()
            -> ::core::result::Result<::std::vec::Vec<$crate::Measurement>, ::std::string::String> {
                $evaluate()
            }
        }

        $crate::export!(Component);
    };
}
