//! Bindings of the world `scoring-policy`, for policies written in Rust.
//!
//! A policy is a crate of type `cdylib` with a type that implements [`Guest`], one that implements [`GuestJob`], and
//! `espalier_scoring_policy::export!(MyPolicy)`. See `components/scoring/activation-norm` for a whole one. The
//! interfaces' documentation is that of the WIT in `wit/`.

#[path = "../../../identity.rs"]
mod identity;
#[path = "../../../refusal.rs"]
mod refusal;
mod scored_unit;
mod sums;

#[allow(missing_docs, reason = "generated from the WIT, which documents every item it can")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../../wit/kernels", "../../../../wit/policy"],
        world: "espalier:policy/scoring-policy",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "espalier_scoring_policy",
    });
}

pub use bindings::espalier::kernels::ablation::{self, Ablated};
pub use bindings::espalier::kernels::calibration::{self, Traces};
pub use bindings::espalier::kernels::model::{self, LayerShape, ModelShape};
pub use bindings::espalier::kernels::telemetry;
pub use bindings::espalier::kernels::tensor::Tensor;
pub use bindings::espalier::kernels::types::{Error, Probe, Unit};
pub use bindings::espalier::kernels::weights::{self, Projection};
pub use bindings::espalier::policy::types::Identity;
pub use bindings::export;
#[doc(hidden)]
pub use bindings::exports;
pub use bindings::exports::espalier::policy::scoring::{Description, Guest, GuestJob, Job, ScoredUnit};
pub use sums::{Sum, Sums, by_group, by_head, standardised, values};
