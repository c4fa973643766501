//! What survives a restart and a kill.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use espalier_components::{Activation, CallShare, Configuration, Deployments, RouteRequest, Slot};
use espalier_state::{Digest, State};

use crate::deployments::open;
use crate::guests::{bytes, variant};

/// Set for the process that is killed: the state directory it works in.
const VICTIM: &str = "ESPALIER_TEST_VICTIM";

fn route(deployments: &Deployments) -> usize {
    let request = RouteRequest { model: "smollm2".to_owned(), ..RouteRequest::default() };
    deployments.router().unwrap().route(&request, &[variant("original")]).unwrap().order[0]
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

/// Writes what a slot is to have before a change, and the same again once the change is made. What was written stays
/// when the process is killed.
struct Journal(fs::File);

impl Journal {
    const FILE: &str = "journal";

    fn open(directory: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(directory.join(Self::FILE));
        Self(file.unwrap())
    }

    fn around<T>(&mut self, wanted: &str, change: impl FnOnce() -> T) -> T {
        self.line(&format!("begin {wanted}\n"));
        let changed = change();
        self.line(&format!("end {wanted}\n"));
        changed
    }

    /// In one piece: a kill leaves all of it or nothing.
    fn line(&mut self, line: &str) {
        self.0.write_all(line.as_bytes()).unwrap();
    }

    /// What has been written, and forgets it.
    fn take(directory: &Path) -> String {
        let path = directory.join(Self::FILE);
        let text = fs::read_to_string(&path).unwrap_or_default();
        drop(fs::remove_file(path));
        text
    }
}

/// What a slot has, as the journal says it.
fn described(activation: &Activation) -> String {
    let canary = activation.canary.as_ref().map_or("nothing", |canary| canary.component.as_str());
    format!("{} beside {canary}", activation.component)
}

/// Not a test of its own: what the killed process does, in an endless loop.
#[test]
fn victim() {
    let Some(directory) = std::env::var_os(VICTIM) else { return };
    let directory = Path::new(&directory);
    let deployments = open(directory);
    let mut journal = Journal::open(directory);
    let names = ["least-busy", "fixture-hostile-router"];
    let weight = CallShare::new(0.5).unwrap();
    for i in 0.. {
        let (next, other) = (names[i % 2], names[(i + 1) % 2]);
        deployments.deploy(next, &bytes(next), None).unwrap();
        if i > 0 && i % 3 == 0 {
            let trial = format!("{other}@0.1.0 beside {next}@0.1.0");
            journal.around(&trial, || {
                let told = Configuration::default();
                deployments.try_canary(&Slot::Router, next, &told, weight, None).unwrap()
            });
            journal.around(&format!("{next}@0.1.0 beside nothing"), || {
                deployments.promote(&Slot::Router, None).unwrap()
            });
        } else {
            journal.around(&format!("{next}@0.1.0 beside nothing"), || {
                deployments.activate(&Slot::Router, next, None).unwrap()
            });
        }
        if i > 0 {
            deployments.remove(other).unwrap();
        }
    }
}

/// Kills a process that deploys, activates, tries, promotes and removes, so many times; after each time the slot has what
/// the last change that ended gave it, or the one that was under way. Returns how many changes there were.
fn kill_again_and_again(rounds: u32) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let mut revision = 0;
    for round in 0..rounds {
        let before = open(directory.path()).slots().first().map(|slot| described(&slot.activation));
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["restarts::victim", "--exact", "--nocapture"])
            .env(VICTIM, directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(60_000 + round * 7_919 % 240_000)));
        let ended_early = victim.try_wait().unwrap();
        victim.kill().unwrap();
        victim.wait().unwrap();
        assert_eq!(ended_early, None, "the victim failed by itself in round {round}");

        let deployments = open(directory.path());
        let journal = Journal::take(directory.path());
        let of = |word: &str| journal.lines().filter_map(|line| line.strip_prefix(word)).collect::<Vec<_>>();
        let (begun, ended) = (of("begin "), of("end "));
        let slots = deployments.slots();
        let found = slots.first().map_or(0, |slot| slot.activation.revision.0);
        let changes = found - revision;
        let least = ended.len() as u64;
        assert!((least..=begun.len() as u64).contains(&changes), "round {round}: {changes}\n{journal}");
        let wanted = if changes == least { ended.last().copied() } else { begun.last().copied() };
        let wanted = wanted.map(str::to_owned).or(before);
        assert_eq!(slots.first().map(|slot| described(&slot.activation)), wanted, "round {round}");
        revision = found;
        is_consistent(directory.path(), &deployments);
    }
    revision
}

/// Everything that is recorded can be used, and every blob is what its name says.
fn is_consistent(directory: &Path, deployments: &Deployments) {
    for slot in deployments.slots() {
        assert_eq!((&slot.problem, &slot.canary_problem), (&None, &None));
        assert_eq!(route(deployments), 0);
        let history = deployments.history(&slot.activation.slot).unwrap();
        assert_eq!(history.first(), Some(&slot.activation));
        assert!(history.windows(2).all(|pair| pair[0].revision.0 == pair[1].revision.0 + 1));
    }
    let state = State::open(directory).unwrap();
    for record in deployments.components().unwrap() {
        assert_eq!(Digest::of(&state.blobs().get(record.digest).unwrap()), record.digest);
    }
}

#[test]
fn a_kill_at_any_point_leaves_a_consistent_store() {
    let changes = kill_again_and_again(12);
    println!("{changes} changes in 12 rounds");
}

#[test]
#[ignore = "takes a minute: `cargo xtask test` runs it"]
fn two_hundred_kills_leave_a_consistent_store() {
    let changes = kill_again_and_again(200);
    println!("{changes} changes in 200 rounds");
    assert!(changes > 200, "{changes}");
}
