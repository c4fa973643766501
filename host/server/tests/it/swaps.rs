//! Routers swapped under steady requests: none fails, and none is answered by a version that was swapped away before it
//! began.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guests;
use crate::host::{Host, Setup};

/// Threads that send requests, and how often each does.
const CLIENTS: u32 = 8;
const EVERY: Duration = Duration::from_millis(40);
/// Swaps are spread so that several requests come between two of them, and some during one.
const BETWEEN_SWAPS: Duration = Duration::from_millis(10);

/// Two routers that are told apart by who answers.
const ROUTERS: [(&str, &str, &str); 2] =
    [("fallback-chain", "order", "original"), ("weighted-split", "weights", "small:1")];
const VARIANTS: [&str; 2] = ["original", "small"];

/// One request: how many swaps had ended before it, and had begun after it, and who answered.
struct Seen {
    ended_before: u64,
    begun_after: u64,
    status: u16,
    variant: String,
}

#[derive(Default)]
struct Swaps {
    begun: AtomicU64,
    ended: AtomicU64,
    done: AtomicBool,
}

fn activate(host: &Host, router: usize) {
    let (component, key, value) = ROUTERS[router];
    let body = json!({"slot": "router", "component": component, "configuration": {key: value}});
    host.post("/admin/v1/slots/activate", &body).success();
}

fn ask(host: &Host, swaps: &Swaps) -> Seen {
    let ended_before = swaps.ended.load(Ordering::SeqCst);
    let body = json!({"model": "tiny", "prompt": "four", "max_tokens": 1, "temperature": 0});
    let answer = host.post("/v1/completions", &body);
    let begun_after = swaps.begun.load(Ordering::SeqCst);
    let variant = answer.json()["espalier"]["variant"].as_str().unwrap_or_default().to_owned();
    Seen { ended_before, begun_after, status: answer.status, variant }
}

/// The bytes of this process that are in memory.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Swaps so often under requests; returns how much memory the last four fifths of the swaps took, and all figures.
fn swap_under_load(count: u64) -> (i64, String) {
    let host =
        Host::with(Setup { models: vec![("tiny", "original"), ("tiny", "small")], ..Setup::default() });
    for (component, ..) in ROUTERS {
        let query = "/admin/v1/components?activate=false";
        host.post_bytes(query, "application/wasm", &guests::bytes(component)).success();
    }
    activate(&host, 0);
    let (swaps, seen) = (Swaps::default(), Mutex::new(Vec::new()));
    let began = Instant::now();
    let (settled, swapping) = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (host, swaps, seen) = (&host, &swaps, &seen);
            scope.spawn(move || {
                let mut next = Instant::now() + EVERY * client / CLIENTS;
                while !swaps.done.load(Ordering::SeqCst) {
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    next += EVERY;
                    let one = ask(host, swaps);
                    seen.lock().unwrap().push(one);
                }
            });
        }
        let (mut settled, mut swapping) = (0, Duration::ZERO);
        for swap in 1..=count {
            swaps.begun.store(swap, Ordering::SeqCst);
            let begin = Instant::now();
            activate(&host, usize::try_from(swap % 2).unwrap());
            swapping += begin.elapsed();
            swaps.ended.store(swap, Ordering::SeqCst);
            if swap == count / 5 {
                settled = resident();
            }
            std::thread::sleep(BETWEEN_SWAPS);
        }
        swaps.done.store(true, Ordering::SeqCst);
        (settled, swapping)
    });
    let seen = seen.into_inner().unwrap();
    let failed = seen.iter().filter(|one| one.status != 200).count();
    let outdated = seen.iter().filter(|one| !is_allowed(one)).count();
    let exact = seen.iter().filter(|one| one.ended_before == one.begun_after).count();
    let rate = seen.len() as f64 / began.elapsed().as_secs_f64();
    #[expect(clippy::cast_possible_wrap, reason = "far below 2^63")]
    let grown = resident() as i64 - settled as i64;
    let figures = format!(
        "{count} swaps ({:?} each) under {} requests ({rate:.0}/s): {failed} failed, {outdated} outdated, {exact} with \
         one version possible, {grown} bytes grown",
        swapping / u32::try_from(count).unwrap(),
        seen.len()
    );
    assert_eq!((failed, outdated), (0, 0), "{figures}");
    // The test says something only where it knows which version must answer, and both did.
    assert!(exact * 4 > seen.len(), "{figures}");
    assert!(VARIANTS.iter().all(|variant| seen.iter().any(|one| one.variant == *variant)));
    let slot: Value = host.get("/admin/v1/slots").success()["slots"][0].clone();
    assert_eq!(slot["revision"], count + 1);
    (grown, figures)
}

/// Whether a version answered that was in force at some moment of the request.
fn is_allowed(one: &Seen) -> bool {
    (one.ended_before..=one.begun_after)
        .any(|version| one.variant == VARIANTS[usize::try_from(version % 2).unwrap()])
}

#[test]
fn no_request_fails_while_routers_are_swapped() {
    let (_, figures) = swap_under_load(100);
    println!("{figures}");
}

#[test]
#[ignore = "measures the memory of the whole process: `cargo xtask test` runs it alone"]
fn a_thousand_swaps_fail_no_request_and_leave_no_memory() {
    let (grown, figures) = swap_under_load(1_000);
    println!("{figures}");
    assert!(grown < 8 << 20, "{figures}");
}
