//! A folder whose components are deployed and activated as they are put there.

use std::fs;
use std::path::Path;

use espalier_components::{ComponentError, ComponentFolder, Deployments, Slot};
use espalier_state::Revision;

use crate::deployments::open;
use crate::guests::{bytes, configuration, with_other_bytes};

/// Puts a guest into the folder as one step, as `mv` does.
fn put(folder: &Path, file: &str, content: &[u8]) {
    let partial = folder.join("partial");
    fs::write(&partial, content).unwrap();
    fs::rename(partial, folder.join(file)).unwrap();
}

/// The components that two looks activate, and the errors that they give.
fn looks(folder: &mut ComponentFolder) -> Vec<Result<String, ComponentError>> {
    let taken = [folder.look(), folder.look()].into_iter().flatten();
    taken
        .filter_map(|taken| taken.outcome.map(|activation| Some(activation?.component)).transpose())
        .collect()
}

fn activated(folder: &mut ComponentFolder) -> Vec<String> {
    looks(folder).into_iter().map(Result::unwrap).collect()
}

fn active(deployments: &Deployments) -> Option<(String, Revision)> {
    let slots = deployments.slots();
    let router = slots.iter().find(|slot| slot.activation.slot == Slot::Router)?;
    Some((router.activation.component.clone(), router.activation.revision))
}

struct Watched {
    state: tempfile::TempDir,
    folder: tempfile::TempDir,
}

impl Watched {
    fn new() -> Self {
        Self { state: tempfile::tempdir().unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> (Deployments, ComponentFolder) {
        let deployments = open(self.state.path());
        let folder = ComponentFolder::new(deployments.clone(), self.folder.path().to_owned()).unwrap();
        (deployments, folder)
    }
}

#[test]
fn what_is_put_there_or_replaced_is_activated_once() {
    let watched = Watched::new();
    let (deployments, mut folder) = watched.open();
    put(watched.folder.path(), "a.wasm", &bytes("least-busy"));
    put(watched.folder.path(), "perplexity.wasm", &bytes("perplexity"));
    fs::write(watched.folder.path().join("README"), "no component").unwrap();
    assert!(folder.look().is_empty(), "a file is not taken before it has settled");
    assert_eq!(activated(&mut folder), ["least-busy@0.1.0", "perplexity@0.1.0"]);
    deployments.evaluation_metric("perplexity").unwrap();
    assert!(activated(&mut folder).is_empty());
    put(watched.folder.path(), "a.wasm", &bytes("fallback-chain"));
    assert_eq!(activated(&mut folder), ["fallback-chain@0.1.0"]);
    // Something that was there before is activated again when it is put there again.
    put(watched.folder.path(), "a.wasm", &bytes("least-busy"));
    assert_eq!(activated(&mut folder), ["least-busy@0.1.0"]);
    assert_eq!(active(&deployments), Some(("least-busy@0.1.0".to_owned(), Revision(3))));
    // A file that goes leaves what it had activated.
    fs::remove_file(watched.folder.path().join("a.wasm")).unwrap();
    assert!(activated(&mut folder).is_empty());
    assert_eq!(active(&deployments).unwrap().1, Revision(3));
}

#[test]
fn a_file_that_still_grows_is_left_alone() {
    let watched = Watched::new();
    let (_, mut folder) = watched.open();
    let whole = bytes("least-busy");
    let path = watched.folder.path().join("least-busy.wasm");
    for part in 1..=4 {
        fs::write(&path, &whole[..whole.len() * part / 4]).unwrap();
        assert!(folder.look().is_empty(), "part {part}");
    }
    assert_eq!(activated(&mut folder), ["least-busy@0.1.0"]);
}

#[test]
fn what_cannot_be_used_leaves_the_active_one_alone() {
    let watched = Watched::new();
    let (deployments, mut folder) = watched.open();
    put(watched.folder.path(), "router.wasm", &bytes("least-busy"));
    assert_eq!(activated(&mut folder).len(), 1);
    let before = (active(&deployments), deployments.components().unwrap());
    let refusals: [(Vec<u8>, &str); 5] = [
        (b"no component".to_vec(), "not_a_component"),
        (Vec::new(), "not_a_component"),
        (bytes("fixture-wrong-world"), "wrong_world"),
        (with_other_bytes(bytes("least-busy")), "version_taken"),
        // A router that cannot do without a configuration.
        (bytes("shadow"), "guest"),
    ];
    for (content, kind) in refusals {
        put(watched.folder.path(), "router.wasm", &content);
        let outcomes = looks(&mut folder);
        let kinds: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().unwrap_err().kind()).collect();
        assert_eq!(kinds, [kind], "{outcomes:?}");
        assert!(looks(&mut folder).is_empty(), "each is tried and logged once");
        assert_eq!((active(&deployments), deployments.components().unwrap()), before);
    }
    put(watched.folder.path(), "router.wasm", &bytes("fallback-chain"));
    assert_eq!(activated(&mut folder), ["fallback-chain@0.1.0"]);
}

#[test]
fn a_restart_leaves_what_an_operator_decided() {
    let watched = Watched::new();
    put(watched.folder.path(), "least-busy.wasm", &bytes("least-busy"));
    let (deployments, mut folder) = watched.open();
    assert_eq!(activated(&mut folder), ["least-busy@0.1.0"]);
    deployments.deploy("fallback-chain", &bytes("fallback-chain"), None).unwrap();
    let told = configuration(&[("order", "b")]);
    deployments.configure(&Slot::Router, "fallback-chain", &told, None).unwrap();
    drop((deployments, folder));
    put(watched.folder.path(), "random.wasm", &bytes("random"));
    let (deployments, mut folder) = watched.open();
    assert_eq!(activated(&mut folder), ["random@0.1.0"], "what came meanwhile is new");
    assert_eq!(active(&deployments).unwrap().0, "fallback-chain@0.1.0");
}

#[test]
fn a_folder_that_is_not_there_is_refused_and_one_that_goes_is_survived() {
    let watched = Watched::new();
    let (deployments, mut folder) = watched.open();
    let missing = watched.folder.path().join("missing");
    assert!(matches!(
        ComponentFolder::new(deployments, missing),
        Err(ComponentError::File { action: "list", .. })
    ));
    let path = watched.folder.path().to_owned();
    fs::remove_dir(&path).unwrap();
    assert!(folder.look().is_empty());
    fs::create_dir(&path).unwrap();
    put(&path, "least-busy.wasm", &bytes("least-busy"));
    assert_eq!(activated(&mut folder), ["least-busy@0.1.0"]);
}
