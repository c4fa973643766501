//! Hosts that take signed components only.

use std::fs;
use std::path::Path;

use espalier_components::{
    ComponentError, ComponentFolder, Deployments, Host, HostConfig, Provision, Signature, SigningKey, Slot,
    TrustedKeys, Upload,
};
use espalier_state::{Digest, State};

use crate::guests::{bytes, with_other_bytes};

fn ada() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

/// A host that trusts these keys, or everybody.
fn open(directory: &Path, keys: Option<&[(&str, &SigningKey)]>) -> Deployments {
    let state = State::open(directory).unwrap();
    let trusted_keys = keys.map(|keys| {
        let file = directory.join("keys");
        let lines: String = keys.iter().map(|(name, key)| key.public().line(name).unwrap()).collect();
        fs::write(&file, lines).unwrap();
        TrustedKeys::read(&file).unwrap()
    });
    let host = Host::with_state(HostConfig { trusted_keys, ..HostConfig::default() }, &state).unwrap();
    Deployments::open(host, state).unwrap()
}

fn upload<'a>(bytes: &'a [u8], signature: Option<&'a Signature>) -> Upload<'a> {
    Upload { label: "router.wasm", bytes, signature }
}

#[track_caller]
fn kind<T: std::fmt::Debug>(outcome: Result<T, ComponentError>) -> &'static str {
    outcome.unwrap_err().kind()
}

#[test]
fn what_nobody_trusted_has_signed_is_refused_before_it_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path(), Some(&[("ada", &ada())]));
    let eve = SigningKey::from_seed(&[2; 32]);
    // Bytes that are no component: an error of the compiler would say that they were compiled.
    let (rubbish, other) = (b"no component".as_slice(), ada().sign(Digest::of(b"something else")));
    let by_eve = eve.sign(Digest::of(rubbish));
    for (signature, expected) in
        [(None, "unsigned"), (Some(&by_eve), "unknown_signer"), (Some(&other), "wrong_signature")]
    {
        assert_eq!(kind(deployments.deploy_upload(&upload(rubbish, signature), None)), expected);
        let tried = deployments.try_out(&upload(rubbish, signature), None, Provision::default());
        assert_eq!(kind(tried), expected);
    }
    assert_eq!(kind(deployments.deploy("router.wasm", &bytes("least-busy"), None)), "unsigned");
    assert!(deployments.components().unwrap().is_empty());

    let router = bytes("least-busy");
    let signature = ada().sign(Digest::of(&router));
    let record = deployments.deploy_upload(&upload(&router, Some(&signature)), None).unwrap().record;
    assert_eq!((record.signature, record.signer.as_deref()), (Some(signature.clone()), Some("ada")));
    deployments.activate(&Slot::Router, "least-busy", None).unwrap();
    // A byte more, and the signature is worth nothing.
    let changed = with_other_bytes(router);
    assert_eq!(kind(deployments.deploy_upload(&upload(&changed, Some(&signature)), None)), "wrong_signature");
}

#[test]
fn what_was_deployed_stays_in_use_for_as_long_as_its_signer_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let router = bytes("least-busy");
    let signature = ada().sign(Digest::of(&router));
    {
        let everybodys = open(directory.path(), None);
        assert_eq!(everybodys.deploy("router.wasm", &router, None).unwrap().record.signature, None);
        everybodys.activate(&Slot::Router, "least-busy", None).unwrap();
    }
    {
        let strict = open(directory.path(), Some(&[("ada", &ada())]));
        let problem = strict.slots()[0].problem.clone().unwrap();
        assert!(problem.starts_with("least-busy@0.1.0 is not signed"), "{problem}");
        assert!(strict.router().is_none());
        assert_eq!(kind(strict.activate(&Slot::Router, "least-busy", None)), "unsigned");
        // Deployed once more, now with a signature.
        assert!(!strict.deploy_upload(&upload(&router, Some(&signature)), None).unwrap().created);
        strict.activate(&Slot::Router, "least-busy", None).unwrap();
        assert!(strict.router().is_some());
    }
    assert!(open(directory.path(), Some(&[("ada", &ada())])).router().is_some());
    let without_ada = open(directory.path(), Some(&[]));
    assert!(without_ada.router().is_none());
    assert_eq!(kind(without_ada.activate(&Slot::Router, "least-busy", None)), "unknown_signer");
    let everybodys = open(directory.path(), None);
    assert!(everybodys.router().is_some());
    let record = everybodys.inspect("least-busy").unwrap();
    assert_eq!((record.signature, record.signer), (Some(signature), None));
}

#[test]
fn a_false_signature_is_refused_by_every_host() {
    let directory = tempfile::tempdir().unwrap();
    let everybodys = open(directory.path(), None);
    let router = bytes("least-busy");
    let other = ada().sign(Digest::of(b"something else"));
    assert_eq!(kind(everybodys.deploy_upload(&upload(&router, Some(&other)), None)), "wrong_signature");
}

#[test]
fn a_watched_folder_waits_for_the_signature() {
    let (directory, watched) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let deployments = open(directory.path(), Some(&[("ada", &ada())]));
    let mut folder = ComponentFolder::new(deployments.clone(), watched.path().to_owned()).unwrap();
    let mut looks = || [folder.look(), folder.look()].into_iter().flatten().collect::<Vec<_>>();
    let file = watched.path().join("router.wasm");
    fs::write(&file, bytes("least-busy")).unwrap();
    let taken = looks();
    assert_eq!((taken.len(), kind(taken.into_iter().next().unwrap().outcome)), (1, "unsigned"));
    assert!(looks().is_empty(), "a refusal is told once");

    ada().sign(Digest::of(&bytes("least-busy"))).write(&Signature::path_of(&file)).unwrap();
    let activated: Vec<_> =
        looks().into_iter().map(|taken| taken.outcome.unwrap().unwrap().component).collect();
    assert_eq!(activated, ["least-busy@0.1.0"]);
    assert_eq!(deployments.inspect("least-busy").unwrap().signer.as_deref(), Some("ada"));
}
