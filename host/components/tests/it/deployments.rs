//! Versions, slots, compare-and-set, rollback and removal.

use std::sync::Arc;

use espalier_components::{
    ComponentError, ComponentRecord, Deployments, Host, HostConfig, RouteRequest, Slot, World,
};
use espalier_state::{Revision, State, StateError};

use crate::guests::{bytes, variant, with_other_bytes};

pub(crate) fn open(directory: &std::path::Path) -> Deployments {
    let state = State::open(directory).unwrap();
    let host = Host::with_state(HostConfig::default(), &state).unwrap();
    Deployments::open(host, state).unwrap()
}

fn deploy(deployments: &Deployments, name: &str) -> ComponentRecord {
    deployments.deploy(name, &bytes(name), None).unwrap().record
}

fn request(model: &str) -> RouteRequest {
    RouteRequest { model: model.to_owned(), ..RouteRequest::default() }
}

#[test]
fn the_same_content_is_deployed_once() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    let first = deployments.deploy("least-busy.wasm", &bytes("least-busy"), None).unwrap();
    assert!(first.created);
    assert_eq!(
        (first.record.label().as_str(), first.record.world, first.record.size),
        ("least-busy@0.1.0", World::RequestRouter, bytes("least-busy").len() as u64)
    );
    let second = deployments.deploy("other name", &bytes("least-busy"), Some(World::RequestRouter)).unwrap();
    assert!(!second.created);
    assert_eq!(second.record, first.record);
    assert_eq!(deployments.components().unwrap(), [first.record]);
}

#[test]
fn another_content_under_the_same_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    deploy(&deployments, "least-busy");
    let error = deployments.deploy("changed", &with_other_bytes(bytes("least-busy")), None).unwrap_err();
    assert!(
        matches!(&error, ComponentError::VersionTaken { component, .. } if component == "least-busy@0.1.0"),
        "{error}"
    );
}

#[test]
fn activation_is_compare_and_set() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    assert!(deployments.router().is_none());
    let least_busy = deploy(&deployments, "least-busy");
    deploy(&deployments, "fixture-hostile-router");
    let activate = |name: &str, expected| deployments.activate(&Slot::Router, name, expected);
    assert_eq!(activate("least-busy", Some(Revision(0))).unwrap().revision, Revision(1));
    let error = activate("fixture-hostile-router", Some(Revision(0))).unwrap_err();
    assert_eq!(error.kind(), "revision_conflict");
    assert_eq!(error.to_string(), "slot router is at revision 1, not at the expected revision 0");
    assert_eq!(deployments.router().unwrap().identity().name, "least-busy");
    assert_eq!(activate("fixture-hostile-router@0.1.0", Some(Revision(1))).unwrap().revision, Revision(2));
    assert_eq!(deployments.router().unwrap().identity().name, "fixture-hostile-router");
    // Without an expectation the last one wins; a digest or its first digits name a component as well.
    assert_eq!(activate(&least_busy.digest.to_string()[..8], None).unwrap().revision, Revision(3));
    assert_eq!(deployments.inspect("least-busy").unwrap().active_in, [Slot::Router]);
    assert_eq!(deployments.inspect("fixture-hostile-router").unwrap().active_in, []);
}

#[test]
fn of_many_activations_on_one_revision_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    deploy(&deployments, "least-busy");
    deploy(&deployments, "fixture-hostile-router");
    let outcomes = std::thread::scope(|scope| {
        let activate = |name| {
            let deployments = &deployments;
            scope.spawn(move || deployments.activate(&Slot::Router, name, Some(Revision(0))))
        };
        let threads: Vec<_> =
            (0..8).map(|i| activate(["least-busy", "fixture-hostile-router"][i % 2])).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let winners: Vec<_> = outcomes.iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    let active = deployments.router().unwrap();
    assert_eq!(active.identity().to_string(), winners[0].component);
}

#[test]
fn rolling_back_is_a_further_activation() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    deploy(&deployments, "least-busy");
    deploy(&deployments, "fixture-hostile-router");
    let slot = Slot::Router;
    assert!(matches!(deployments.roll_back(&slot, None, None), Err(ComponentError::SlotEmpty(_))));
    deployments.activate(&slot, "least-busy", None).unwrap();
    assert!(matches!(deployments.roll_back(&slot, None, None), Err(ComponentError::NothingEarlier(_))));
    deployments.activate(&slot, "fixture-hostile-router", None).unwrap();
    let error = deployments.roll_back(&slot, None, Some(Revision(1))).unwrap_err();
    assert!(matches!(error, ComponentError::State(StateError::RevisionConflict { .. })), "{error}");
    let back = deployments.roll_back(&slot, None, Some(Revision(2))).unwrap();
    assert_eq!((back.component.as_str(), back.revision), ("least-busy@0.1.0", Revision(3)));
    let forth = deployments.roll_back(&slot, Some(Revision(2)), None).unwrap();
    assert_eq!((forth.component.as_str(), forth.revision), ("fixture-hostile-router@0.1.0", Revision(4)));
    assert!(matches!(
        deployments.roll_back(&slot, Some(Revision(9)), None),
        Err(ComponentError::NothingEarlier(_))
    ));
    let revisions: Vec<_> = deployments.history(&slot).unwrap().iter().map(|a| a.revision.0).collect();
    assert_eq!(revisions, [4, 3, 2, 1]);
}

#[test]
fn calls_under_way_finish_on_the_version_that_they_started_on() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    deploy(&deployments, "least-busy");
    deploy(&deployments, "fixture-hostile-router");
    deployments.activate(&Slot::Router, "fixture-hostile-router", None).unwrap();
    let held = deployments.router().unwrap();
    let variants = [variant("original")];
    std::thread::scope(|scope| {
        let swaps = scope.spawn(|| {
            for i in 0..200 {
                let name = ["least-busy", "fixture-hostile-router"][i % 2];
                deployments.activate(&Slot::Router, name, None).unwrap();
            }
        });
        while !swaps.is_finished() {
            let router = deployments.router().unwrap();
            assert_eq!(router.route(&request("smollm2"), &variants).unwrap().order, [0]);
        }
    });
    let error = held.route(&request("refuse"), &variants).unwrap_err();
    assert!(error.to_string().starts_with("fixture-hostile-router@0.1.0 refused"), "{error}");
}

#[test]
fn what_is_active_cannot_be_removed() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    let record = deploy(&deployments, "least-busy");
    deploy(&deployments, "fixture-hostile-router");
    deployments.activate(&Slot::Router, "least-busy", None).unwrap();
    let error = deployments.remove("least-busy").unwrap_err();
    assert_eq!(error.to_string(), "least-busy@0.1.0 is active in router: activate another one there first");
    deployments.activate(&Slot::Router, "fixture-hostile-router", None).unwrap();
    assert_eq!(deployments.remove("least-busy").unwrap().digest, record.digest);
    assert!(matches!(deployments.inspect("least-busy"), Err(ComponentError::NotDeployed(_))));
    assert!(matches!(deployments.roll_back(&Slot::Router, None, None), Err(ComponentError::NotDeployed(_))));
    let state = State::open(directory.path()).unwrap();
    assert!(!state.blobs().contains(record.digest));
    deploy(&deployments, "least-busy");
    deployments.roll_back(&Slot::Router, None, None).unwrap();
}

#[test]
fn a_slot_takes_its_world_only() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    deploy(&deployments, "activation-norm");
    let error = deployments.activate(&Slot::Router, "activation-norm", None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "activation-norm@0.1.0 has the world scoring-policy, the slot router takes request-router"
    );
    let slot = Slot::default_for(World::ScoringPolicy, "activation-norm");
    deployments.activate(&slot, "activation-norm", None).unwrap();
    let policy = deployments.scoring_policy("activation-norm").unwrap();
    assert!(Arc::ptr_eq(&policy, &deployments.scoring_policy("activation-norm").unwrap()));
    let error = deployments.evaluation_metric("no-such-metric").unwrap_err();
    assert!(matches!(error, ComponentError::FileNotFound { .. }), "{error}");
}

#[test]
fn a_hostile_component_leaves_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    for name in ["fixture-wrong-world", "fixture-bad-name"] {
        deployments.deploy(name, &bytes(name), None).unwrap_err();
    }
    assert_eq!(deployments.components().unwrap(), []);
    assert_eq!(deployments.slots(), []);
}
