//! Components whose file is the attack: each is refused or stopped within bounds of time and memory, by name, and what
//! was deployed before goes on.
//!
//! All hostile guests of the test suite:
//!
//! | attack | where it is tested |
//! | --- | --- |
//! | endless loop in a call, in `describe`, in a start function | `hostile_policies`, `hostile_routers`, here |
//! | endless host calls (ping-pong) | `hostile_policies`, `hostile_routers`, here |
//! | memory: grown without end, declared too large | `hostile_policies`, `hostile_routers`, here |
//! | table: grown without end, declared too large | here |
//! | core instances without end | here |
//! | recursion without end | `hostile_policies`, here |
//! | trap in a call, in a start function | `hostile_policies`, `hostile_routers`, here |
//! | string or list that is gigantic, that lies outside the memory, that is no UTF-8 | `hostile_policies`, here |
//! | forged handle, handle given back twice | here, `hostile_policies` |
//! | tensor quota: many, huge, wide, empty, kept traces, reading all | `hostile_policies` |
//! | log lines and notes without end | `hostile_policies`, `logged_lines`, `hostile_metrics` |
//! | metrics of its own without end, names that are none, gigantic names | `guest_metrics` |
//! | sessions hoarded, tokens without end | `hostile_metrics` |
//! | answers that the contract forbids | `hostile_policies`, `hostile_routers`, `hostile_metrics` |
//! | wrong world, missing exports, imports of another type | `worlds` |
//! | wrong version of an interface | here |
//! | truncated, corrupted, no component | `worlds` |
//! | a file that is too large | `worlds`, here |
//! | very many functions, one huge function | here |
//! | data segment outside the memory, huge data segments | here |
//! | paths and control characters in names and versions | `worlds`, here |
//! | name collisions: inside a file, with what is deployed | here, `deployments` |
//! | components nested too deep, types nested too deep, types that double at each level | here |
//! | very many imports and exports | here |

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use espalier_components::{ComponentError, Host, HostConfig, Limit, Limits, MetricReport};

use crate::guests::host;
use crate::handmade::{Metric, metric};
use crate::scripted_model::{ScriptedModel, inputs};

/// How long the refusal of any of these files may take, on a machine with more threads than cores.
const PATIENCE: Duration = Duration::from_secs(10);

/// A host on which a metric may not do much.
fn strict_host() -> Host {
    let metric = Limits {
        guest_time: Duration::from_millis(100),
        wall_time: Duration::from_secs(5),
        host_calls: 1_000,
        memory_bytes: 16 << 20,
        table_elements: 1_000,
        crossing_bytes: 64 << 10,
        ..Limits::metric()
    };
    Host::new(HostConfig { metric, ..HostConfig::default() }).unwrap()
}

/// What a strict host says of a file, in time, with its name, and with another component undisturbed.
fn refusal(label: &str, bytes: &[u8]) -> ComponentError {
    let host = strict_host();
    let good = host.load("good", &metric(""), None).unwrap();
    let started = Instant::now();
    let error = host.load(label, bytes, None).expect_err(label);
    assert!(started.elapsed() < PATIENCE, "{label} took {:?}", started.elapsed());
    let text = error.to_string();
    assert!(text.starts_with(label), "{text}");
    assert!(text.len() < 64 << 10, "{label} is refused with a text of {} bytes", text.len());
    let good = espalier_components::EvaluationMetric::new(good).unwrap();
    assert_eq!(good.evaluate(inputs(ScriptedModel::new(8, 512, None))).unwrap(), MetricReport::default());
    error
}

fn limit(label: &str, fields: &str) -> (&'static str, Limit) {
    match refusal(label, &metric(fields)) {
        ComponentError::Limit { call, limit, .. } => (call, limit),
        other => panic!("no limit: {other}"),
    }
}

fn trap(label: &str, bytes: &[u8]) -> (&'static str, String) {
    match refusal(label, bytes) {
        ComponentError::Trap { call, reason, .. } => (call, reason),
        other => panic!("no trap: {other}"),
    }
}

#[test]
fn a_handmade_metric_works() {
    let component = host().load("handmade", &metric(""), None).unwrap();
    assert_eq!(component.identity().to_string(), "handmade@1.0.0");
}

#[test]
fn loops_end_wherever_they_are() {
    let time = Limit::GuestTime(Duration::from_millis(100));
    let start = "(func $start (loop $again (br $again))) (start $start)";
    assert_eq!(limit("loop in start", start), ("instantiate", time.clone()));
    let describe = "(func $describe (result i32) (loop $again (br $again)) unreachable)";
    assert_eq!(limit("loop in describe", describe), ("describe", time));
    let talk = "(func $describe (result i32)
        (loop $again (call $log (i32.const 0) (i32.const 0) (i32.const 0)) (br $again)) unreachable)";
    assert_eq!(limit("ping-pong", talk), ("describe", Limit::HostCalls(1_000)));
    let recursion = "(func $describe (result i32) (i32.add (call $describe) (i32.const 1)))";
    let (call, reached) = limit("recursion", recursion);
    assert_eq!((call, reached.name()), ("describe", "stack"));
}

#[test]
fn what_grows_without_end_is_stopped() {
    let memory = "(func $describe (result i32) (loop $again (drop (memory.grow (i32.const 1))) (br $again)) unreachable)";
    let (call, reached) = limit("memory bomb", memory);
    assert_eq!((call, reached.name()), ("describe", "memory"));
    let table = "(table $bomb 1 funcref) (func $describe (result i32)
        (loop $again (drop (table.grow $bomb (ref.null func) (i32.const 100))) (br $again)) unreachable)";
    let (call, reached) = limit("table bomb", table);
    assert_eq!((call, reached.name()), ("describe", "table_elements"));
    let (call, reached) = limit("table born large", "(table 2000 funcref)");
    assert_eq!((call, reached.name()), ("instantiate", "table_elements"));
    let born_large = Metric { memory: "1024", ..Metric::default() }.bytes();
    match refusal("memory born large", &born_large) {
        ComponentError::Limit { limit: Limit::Memory { allowed, .. }, call: "instantiate", .. } => {
            assert_eq!(allowed, 16 << 20);
        }
        other => panic!("{other}"),
    }
    // More than any memory of the pool can be.
    let gigantic = Metric { memory: "65536", ..Metric::default() }.bytes();
    assert!(matches!(refusal("gigantic memory", &gigantic).kind(), "not_a_component" | "limit"));
}

#[test]
fn instances_without_end_are_refused() {
    let mut definitions = String::from("(core module $empty)");
    definitions.push_str(&"(core instance (instantiate $empty))".repeat(100));
    let bytes = Metric { definitions: &definitions, ..Metric::default() }.bytes();
    let error = refusal("instance bomb", &bytes);
    assert!(matches!(error, ComponentError::Limit { limit: Limit::Instances(64), .. }), "{error}");
}

#[test]
fn a_trap_at_the_start_is_an_error_value() {
    let (call, reason) = trap("trap in start", &metric("(func $start unreachable) (start $start)"));
    assert_eq!(call, "instantiate");
    assert!(reason.contains("unreachable"), "{reason}");
}

#[test]
fn strings_at_the_boundary_are_checked() {
    let answer = |pointer: u32, length: u32| {
        format!(
            "(func $describe (result i32) (i32.store (i32.const 2048) (i32.const {pointer}))
                (i32.store (i32.const 2052) (i32.const {length})) (i32.const 2048))"
        )
    };
    let within = answer(0, 512 << 10);
    assert_eq!(limit("gigantic name", &within), ("describe", Limit::CrossingBytes(64 << 10)));
    for (label, pointer, length) in [
        ("name beyond the memory", 0, 0x7fff_ffff),
        ("name at the end of the address space", u32::MAX, 1),
        ("name that wraps around", u32::MAX, u32::MAX),
    ] {
        assert_eq!(trap(label, &metric(&answer(pointer, length))).0, "describe");
    }
    let misaligned = "(func $describe (result i32) i32.const 2049)";
    assert_eq!(trap("misaligned answer", &metric(misaligned)).0, "describe");
    let outside = "(func $describe (result i32) i32.const -4)";
    assert_eq!(trap("answer outside the memory", &metric(outside)).0, "describe");
    let invalid = format!("(data (i32.const 8192) \"\\ff\\fe\\c0\\80\") {}", answer(8192, 4));
    assert_eq!(trap("no UTF-8", &metric(&invalid)).0, "describe");
    let line = "(func $describe (result i32)
        (call $log (i32.const 0) (i32.const 0) (i32.const 1048576)) i32.const 2048)";
    assert_eq!(limit("gigantic line", line), ("describe", Limit::CrossingBytes(64 << 10)));
    let level = "(func $describe (result i32)
        (call $log (i32.const 99) (i32.const 0) (i32.const 0)) i32.const 2048)";
    assert_eq!(trap("level that is none", &metric(level)).0, "describe");
}

#[test]
fn forged_handles_are_no_handles() {
    for handle in ["0", "1", "12345", "-1", "0x7fffffff"] {
        let drop =
            format!("(func $describe (result i32) (call $drop_session (i32.const {handle})) i32.const 2048)");
        let (call, reason) = trap("forged handle", &metric(&drop));
        assert_eq!(call, "describe");
        assert!(reason.contains("handle"), "{reason}");
    }
}

#[test]
fn names_and_versions_are_no_paths() {
    let long = "a".repeat(65);
    let names = [
        "../../etc/passwd",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "..",
        ".",
        "",
        "A",
        "1a",
        "a b",
        "a\n",
        "a\0",
        "é",
        "a@1",
        &long,
    ];
    for name in names {
        let bytes = Metric { name, ..Metric::default() }.bytes();
        let error = refusal("tricky name", &bytes);
        assert!(
            matches!(&error, ComponentError::InvalidAnswer { call: "describe", .. }),
            "{name:?}: {error}"
        );
    }
    for version in ["", "1", "1.0", "../1.0.0", "1.0.0/..", "1.0.0\n", "01.0.0", "1.0.0-", "v1.0.0"] {
        let bytes = Metric { version, ..Metric::default() }.bytes();
        let error = refusal("tricky version", &bytes);
        assert!(
            matches!(&error, ComponentError::InvalidAnswer { call: "describe", .. }),
            "{version:?}: {error}"
        );
    }
}

#[test]
fn another_version_of_the_interface_is_another_interface() {
    let bytes = Metric { exported: "espalier:policy/metric@9.0.0", ..Metric::default() }.bytes();
    let error = refusal("from the future", &bytes);
    assert!(matches!(&error, ComponentError::WrongWorld { .. }), "{error}");
    assert!(error.to_string().contains("the export espalier:policy/metric@1.0.0-rc.1 is missing"), "{error}");
}

#[test]
fn data_stays_inside_the_memory_and_the_file() {
    let beyond = metric("(data (i32.const 1048570) \"more than six bytes\")");
    assert_eq!(trap("data beyond the memory", &beyond).0, "instantiate");
    let large = format!("(data (i32.const 4096) \"{}\")", "x".repeat(33 << 20));
    let error = refusal("huge data", &metric(&large));
    assert!(matches!(error, ComponentError::TooLarge { .. }), "{error}");
}

#[test]
fn the_time_to_compile_is_bounded() {
    let many = metric(&"(func)".repeat(100_001));
    let error = refusal("many functions", &many);
    assert_eq!(error.to_string(), "many functions has 100003 functions, more than the limit of 100000");
    let body = "(drop (i32.const 1))".repeat(400_000);
    let error = refusal("huge function", &metric(&format!("(func {body})")));
    assert!(matches!(&error, ComponentError::TooComplex { part: "bytes in one function", .. }), "{error}");
}

#[test]
fn nesting_is_bounded() {
    let deep = "(component ".repeat(50) + &")".repeat(50);
    let error = refusal("nested components", &wat::parse_str(deep).unwrap());
    assert!(
        matches!(&error, ComponentError::TooComplex { part: "levels of nested components", .. }),
        "{error}"
    );

    let nested = |levels: usize, level: fn(usize) -> String| {
        let types: String = (1..=levels).map(level).collect();
        let text =
            format!("(component (type $t0 u8) {types} (import \"f\" (func (param \"p\" $t{levels}))))");
        wat::parse_str(text).unwrap()
    };
    let lists = |level: usize| format!("(type $t{level} (list $t{}))", level - 1);
    refusal("nested lists", &nested(1_000, lists));
    // Small in the file, and of 2^levels parts when it is written out.
    let doubled = |level: usize| format!("(type $t{level} (tuple $t{0} $t{0}))", level - 1);
    for levels in [12, 18, 24, 60] {
        refusal("doubled tuples", &nested(levels, doubled));
    }
}

#[test]
fn a_type_is_written_out_only_so_far() {
    let types: String =
        (1..=16).map(|level| format!("(type $t{level} (tuple $t{0} $t{0}))", level - 1)).collect();
    let definitions = format!(
        r#"(type $t0 u8) {types}
        (import "espalier:kernels/text@1.0.0-rc.1" (instance
            (export "a" (func (param "p" $t16))) (export "token-count" (func (param "p" u8)))))"#
    );
    let error = refusal("a wide type", &Metric { definitions: &definitions, ..Metric::default() }.bytes());
    assert!(error.to_string().contains("`func(p: a type beyond the host's limit)`"), "{error}");
}

#[test]
fn imports_and_exports_are_bounded() {
    let imports = |count: usize| {
        let mut text = String::from("(component ");
        for index in 0..count {
            write!(text, "(import \"a:b/i{index}\" (instance))").unwrap();
        }
        wat::parse_str(text + ")").unwrap()
    };
    let error = refusal("many imports", &imports(20_000));
    assert!(matches!(&error, ComponentError::TooComplex { .. }), "{error}");
    let exports = |count: usize| {
        let names: String =
            (0..count).map(|index| format!("(export \"a:b/e{index}\" (instance $interface))")).collect();
        Metric { definitions: &names, ..Metric::default() }.bytes()
    };
    let error = refusal("many exports", &exports(20_000));
    assert!(
        matches!(&error, ComponentError::TooComplex { part: "types, imports, exports and other items", .. }),
        "{error}"
    );
    // What the host is willing to read is read in time, and what it does not know among it does no harm.
    let started = Instant::now();
    strict_host().load("some exports", &exports(900), None).unwrap();
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    let mut definitions = String::new();
    for index in 0..900 {
        write!(definitions, "(import \"a:b/i{index}\" (instance))").unwrap();
    }
    let definitions = definitions + "(export \"a:b/e\" (instance $interface))";
    let error =
        refusal("unknown imports", &Metric { definitions: &definitions, ..Metric::default() }.bytes());
    let ComponentError::WrongWorld { problems, .. } = &error else { panic!("{error}") };
    assert_eq!(problems.last().unwrap(), "and 880 more");
}

#[test]
fn a_name_stands_once_in_a_file() {
    let twice = b"(component (import \"a:b/c\" (instance)) (import \"a:b/c\" (instance)))";
    let error = refusal("name twice", &wat::parse_bytes(twice).unwrap());
    assert!(matches!(&error, ComponentError::NotAComponent { .. }), "{error}");
    let alike = b"(component (import \"ab\" (instance)) (import \"AB\" (instance)))";
    let error = refusal("names alike", &wat::parse_bytes(alike).unwrap());
    assert!(matches!(&error, ComponentError::NotAComponent { .. }), "{error}");
}
