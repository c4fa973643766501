//! Any bytes as an uploaded component: compiled, checked against its world and asked who it is, or an error in time.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use espalier_components::{Host, HostConfig, Limits};
use libfuzzer_sys::fuzz_target;

static HOST: LazyLock<Host> = LazyLock::new(|| {
    // A guest that loops is no finding: it ends at its deadline, here an early one.
    let early = |limits: Limits| Limits { guest_time: Duration::from_millis(20), ..limits };
    let (scoring, metric) = (early(Limits::scoring()), early(Limits::metric()));
    Host::new(HostConfig { scoring, metric, router: early(Limits::router()), ..HostConfig::default() }).unwrap()
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(component) = HOST.load("the upload", bytes, None) {
        assert_eq!(component.size(), bytes.len());
    }
});
