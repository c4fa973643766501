//! What survives a restart and a kill.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use espalier_components::{Deployments, Host, HostConfig, RouteRequest, Slot};
use espalier_state::{Digest, State};

use crate::deployments::open;
use crate::guests::{bytes, variant};

/// Set for the process that is killed: the state directory it works in.
const VICTIM: &str = "ESPALIER_TEST_VICTIM";

fn route(deployments: &Deployments) -> usize {
    let request =
        RouteRequest { model: "smollm2".to_owned(), prompt_tokens: 1, max_tokens: 1, streaming: false };
    deployments.router().unwrap().route(&request, &[variant("original")]).unwrap()
}

#[test]
fn what_was_active_is_active_after_a_restart_without_compiling_again() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    let deployed = deployments.deploy("least-busy", &bytes("least-busy"), None).unwrap();
    assert!(!deployed.load_time.cached);
    deployments.activate(&Slot::Router, "least-busy", None).unwrap();
    let slots = deployments.slots();
    drop(deployments);

    let deployments = open(directory.path());
    assert_eq!(deployments.slots(), slots);
    assert_eq!(route(&deployments), 0);
    let load_time = deployments.router().unwrap().component().load_time();
    println!("cached load: {load_time:?}; first load: {:?}", deployed.load_time);
    assert!(load_time.cached);
}

/// Every file of the blob store.
fn blobs(directory: &Path) -> Vec<std::path::PathBuf> {
    let folders = fs::read_dir(directory.join("blobs")).unwrap().flatten();
    folders
        .flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten())
        .map(|file| file.path())
        .collect()
}

#[test]
fn changed_compiled_code_is_never_run() {
    let directory = tempfile::tempdir().unwrap();
    let component = Digest::of(&bytes("least-busy")).to_string();
    let deployments = open(directory.path());
    deployments.deploy("least-busy", &bytes("least-busy"), None).unwrap();
    deployments.activate(&Slot::Router, "least-busy", None).unwrap();
    drop(deployments);
    let compiled = blobs(directory.path()).into_iter().find(|path| !path.ends_with(&component)).unwrap();
    let mut code = fs::read(&compiled).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    fs::write(&compiled, code).unwrap();

    let deployments = open(directory.path());
    assert!(!deployments.router().unwrap().component().load_time().cached);
    assert_eq!(route(&deployments), 0);
    // The damaged code was replaced by what was compiled afresh.
    drop(deployments);
    assert!(open(directory.path()).router().unwrap().component().load_time().cached);
}

#[test]
fn a_damaged_component_leaves_its_slot_unusable_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    for (slot, name) in [(Slot::Router, "least-busy"), (Slot::Metric("perplexity".to_owned()), "perplexity")]
    {
        deployments.deploy(name, &bytes(name), None).unwrap();
        deployments.activate(&slot, name, None).unwrap();
    }
    drop(deployments);
    let component = Digest::of(&bytes("least-busy")).to_string();
    let path = blobs(directory.path()).into_iter().find(|path| path.ends_with(&component)).unwrap();
    fs::write(path, b"damaged").unwrap();

    let deployments = open(directory.path());
    assert!(deployments.router().is_none());
    let slots = deployments.slots();
    let router = slots.iter().find(|slot| slot.activation.slot == Slot::Router).unwrap();
    assert!(router.problem.as_ref().unwrap().contains("is damaged"), "{router:?}");
    deployments.evaluation_metric("perplexity").unwrap();
    // Deploying the same content heals the blob, and activating puts it in force.
    deployments.deploy("least-busy", &bytes("least-busy"), None).unwrap();
    deployments.activate(&Slot::Router, "least-busy", None).unwrap();
    assert_eq!(route(&deployments), 0);
}

/// Not a test of its own: what the killed process does, in an endless loop.
#[test]
fn victim() {
    let Some(directory) = std::env::var_os(VICTIM) else { return };
    let state = State::open(Path::new(&directory)).unwrap();
    let host = Host::with_state(HostConfig::default(), &state).unwrap();
    let deployments = Deployments::open(host, state).unwrap();
    let names = ["least-busy", "fixture-hostile-router"];
    for i in 0.. {
        let (next, other) = (names[i % 2], names[(i + 1) % 2]);
        deployments.deploy(next, &bytes(next), None).unwrap();
        deployments.activate(&Slot::Router, next, None).unwrap();
        if i > 0 {
            deployments.remove(other).unwrap();
        }
    }
}

#[test]
fn a_kill_at_any_point_leaves_a_consistent_store() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..12_u32 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["restarts::victim", "--exact", "--nocapture"])
            .env(VICTIM, directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(150 + round * 37 % 200)));
        let ended_early = victim.try_wait().unwrap();
        victim.kill().unwrap();
        victim.wait().unwrap();
        assert_eq!(ended_early, None, "the victim failed by itself in round {round}");

        let deployments = open(directory.path());
        for slot in deployments.slots() {
            assert_eq!(slot.problem, None, "round {round}");
            assert_eq!(route(&deployments), 0);
            let history = deployments.history(&slot.activation.slot).unwrap();
            assert_eq!(history.first(), Some(&slot.activation));
            assert!(history.windows(2).all(|pair| pair[0].revision.0 == pair[1].revision.0 + 1));
        }
        let state = State::open(directory.path()).unwrap();
        for record in deployments.components().unwrap() {
            assert_eq!(Digest::of(&state.blobs().get(record.digest).unwrap()), record.digest);
        }
    }
}
