//! Who a component is. Part of each SDK crate, because each has an `Identity` of its own.

/// The identity of the crate that this is written in: name, version and description of its `Cargo.toml`.
#[macro_export]
macro_rules! identity {
    () => {
        $crate::Identity {
            name: ::core::env!("CARGO_PKG_NAME").to_owned(),
            version: ::core::env!("CARGO_PKG_VERSION").to_owned(),
            summary: ::core::env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    };
}
