//! Bindings of the world `request-router`, for routers written in Rust.
//!
//! A router is a crate of type `cdylib` with a type that implements [`Guest`] and
//! `espalier_request_router::export!(MyRouter)`. See `components/routing/least-busy` for a whole one, and
//! `components/routing/fallback-chain` for one with a configuration, read with [`Settings`]. The interfaces'
//! documentation is that of the WIT in `wit/`.

#[path = "../../../identity.rs"]
mod identity;
mod order;
mod settings;

#[allow(missing_docs, reason = "generated from the WIT, which documents every item it can")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../../wit/kernels", "../../../../wit/policy"],
        world: "espalier:policy/request-router",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "espalier_request_router",
    });
}

pub use bindings::espalier::kernels::telemetry;
pub use bindings::espalier::policy::types::Identity;
pub use bindings::export;
#[doc(hidden)]
pub use bindings::exports;
pub use bindings::exports::espalier::policy::routing::{
    Choice, Guest, Request, Setting, Shadow, VariantStatus,
};
pub use order::{fraction, position};
pub use settings::Settings;
