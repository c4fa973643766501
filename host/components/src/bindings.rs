//! Rust types generated from the WIT packages in `wit/`. The only file of this crate that knows the generator.
//!
//! Every host function may trap, because reaching a limit ends the call.

/// The interfaces of `espalier:kernels`, which the host implements.
pub mod kernels {
    wasmtime::component::bindgen!({
        inline: "
            package espalier:host;
            world imports {
                import espalier:kernels/types@1.0.0-rc.1;
                import espalier:kernels/tensor@1.0.0-rc.1;
                import espalier:kernels/model@1.0.0-rc.1;
                import espalier:kernels/weights@1.0.0-rc.1;
                import espalier:kernels/calibration@1.0.0-rc.1;
                import espalier:kernels/ablation@1.0.0-rc.1;
                import espalier:kernels/inference@1.0.0-rc.1;
                import espalier:kernels/text@1.0.0-rc.1;
                import espalier:kernels/samples@1.0.0-rc.1;
                import espalier:kernels/baseline@1.0.0-rc.1;
                import espalier:kernels/report@1.0.0-rc.1;
                import espalier:kernels/telemetry@1.0.0-rc.1;
                import espalier:policy/types@1.0.0-rc.1;
            }
        ",
        path: ["../../wit/kernels", "../../wit/policy"],
        imports: { default: trappable },
        with: {
            "espalier:kernels/tensor.tensor": crate::context::HostTensor,
            "espalier:kernels/calibration.traces": crate::context::HostTraces,
            "espalier:kernels/inference.session": crate::context::HostSession,
        },
    });
}

pub use kernels::espalier::kernels as interfaces;
pub use kernels::espalier::policy::types as policy_types;

/// The world `scoring-policy`.
pub mod scoring {
    wasmtime::component::bindgen!({
        world: "espalier:policy/scoring-policy",
        path: ["../../wit/kernels", "../../wit/policy"],
        imports: { default: trappable },
        with: {
            "espalier:kernels": crate::bindings::interfaces,
            "espalier:policy/types": crate::bindings::policy_types,
        },
    });
}

/// The world `request-router`.
pub mod routing {
    wasmtime::component::bindgen!({
        world: "espalier:policy/request-router",
        path: ["../../wit/kernels", "../../wit/policy"],
        imports: { default: trappable },
        with: {
            "espalier:kernels": crate::bindings::interfaces,
            "espalier:policy/types": crate::bindings::policy_types,
        },
    });
}

/// The world `evaluation-metric`.
pub mod metric {
    wasmtime::component::bindgen!({
        world: "espalier:policy/evaluation-metric",
        path: ["../../wit/kernels", "../../wit/policy"],
        imports: { default: trappable },
        with: {
            "espalier:kernels": crate::bindings::interfaces,
            "espalier:policy/types": crate::bindings::policy_types,
        },
    });
}

/// What the world `http-endpoint` has beside `wasi:http`, whose bindings are those of wasmtime-wasi-http.
pub mod endpoint {
    wasmtime::component::bindgen!({
        inline: "
            package espalier:endpoint-host;
            world endpoint {
                import espalier:endpoint/inference@1.0.0-rc.1;
                export espalier:endpoint/about@1.0.0-rc.1;
            }
        ",
        world: "espalier:endpoint-host/endpoint",
        path: [
            "../../wit/wasi/io.wit", "../../wit/wasi/clocks.wit", "../../wit/wasi/http.wit",
            "../../wit/kernels", "../../wit/policy", "../../wit/endpoint",
        ],
        imports: {
            "espalier:endpoint/inference.[static]session.begin": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "wasi:io": wasmtime_wasi_io::bindings::wasi::io,
            "espalier:policy/types": crate::bindings::policy_types,
            "espalier:endpoint/inference.session": crate::context::HostAnswer,
        },
    });
}

pub use routing::exports::espalier::policy::routing as exports_of_routing;
