//! Stands in for libFuzzer, so that the targets in `fuzz/targets` are functions that tests can call.

/// What libFuzzer makes of the bytes of an input.
pub trait Input<'a>: Sized {
    /// Nothing where the bytes are no such value; libFuzzer goes on with the next input then.
    fn of(bytes: &'a [u8]) -> Option<Self>;
}

impl<'a> Input<'a> for &'a [u8] {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        Some(bytes)
    }
}

impl<'a> Input<'a> for &'a str {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()
    }
}

/// Defines `run`, which gives one input to the target. What libFuzzer does first (`init`) is left out.
#[macro_export]
macro_rules! fuzz_target {
    (init: $init:expr, |$input:ident: $kind:ty| $body:block) => {
        $crate::fuzz_target!(|$input: $kind| $body);
    };
    (|$input:ident: $kind:ty| $body:block) => {
        pub(crate) fn run(bytes: &[u8]) {
            if let Some($input) = <$kind as $crate::Input>::of(bytes) {
                $body
            }
        }
    };
}
