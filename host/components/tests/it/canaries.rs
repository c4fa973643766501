//! Configurations of slots, and canaries: who gets which share of the calls, and what survives.

use std::sync::atomic::{AtomicBool, Ordering};

use espalier_components::{
    CallShare, ComponentError, Configuration, Deployments, RouteRequest, Slot, VariantStatus,
};
use espalier_state::{Revision, StateError};

use crate::deployments::open;
use crate::guests::{bytes, configuration, variant};

const SLOT: Slot = Slot::Router;
const STABLE: &str = "least-busy";
const TRIAL: &str = "fallback-chain";

fn variants() -> [VariantStatus; 2] {
    [variant("a"), variant("b")]
}

/// Which variant the router in turn picks; the stable one picks 0, the one on trial 1.
fn pick(deployments: &Deployments) -> usize {
    let router = deployments.router().unwrap();
    router.route(&RouteRequest::default(), &variants()).unwrap().order[0]
}

/// How many of so many calls the canary gets.
fn canarys(deployments: &Deployments, calls: usize) -> usize {
    (0..calls).map(|_| pick(deployments)).sum()
}

fn prefers_b() -> Configuration {
    configuration(&[("order", "b")])
}

fn with_canary(deployments: &Deployments, weight: f64) {
    for name in [STABLE, TRIAL] {
        deployments.deploy(name, &bytes(name), None).unwrap();
    }
    deployments.activate(&SLOT, STABLE, None).unwrap();
    let weight = CallShare::new(weight).unwrap();
    let tried = deployments.try_canary(&SLOT, TRIAL, &prefers_b(), weight, Some(Revision(1))).unwrap();
    assert_eq!((tried.revision, tried.component.as_str()), (Revision(2), "least-busy@0.1.0"));
}

#[test]
fn a_configuration_belongs_to_an_activation() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    deployments.deploy(TRIAL, &bytes(TRIAL), None).unwrap();
    deployments.configure(&SLOT, TRIAL, &prefers_b(), None).unwrap();
    assert_eq!(pick(&deployments), 1);
    let refused = deployments.configure(&SLOT, TRIAL, &configuration(&[("ordre", "b")]), None).unwrap_err();
    assert!(matches!(refused, ComponentError::Guest { call: "configure", .. }), "{refused}");
    assert_eq!(pick(&deployments), 1, "the active one stays");
    deployments.activate(&SLOT, TRIAL, None).unwrap();
    assert_eq!(pick(&deployments), 0);
    // The same component with another configuration is something to go back to.
    let back = deployments.roll_back(&SLOT, None, None).unwrap();
    assert_eq!((back.revision, &back.configuration), (Revision(3), &prefers_b()));
    let place = &deployments.inspect(TRIAL).unwrap().places[0];
    assert_eq!((place.canary, place.weight, &place.configuration), (false, 1.0, &prefers_b()));
    drop(deployments);
    let deployments = open(directory.path());
    assert_eq!(pick(&deployments), 1);
    assert_eq!(deployments.slots()[0].activation, back);
}

#[test]
fn only_routers_take_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    deployments.deploy("random", &bytes("random"), None).unwrap();
    let slot = Slot::Scoring("random".to_owned());
    let refused = deployments.configure(&slot, "random", &configuration(&[("seed", "1")]), None).unwrap_err();
    assert!(refused.to_string().ends_with("takes no configuration"), "{refused}");
    assert!(deployments.slots().is_empty());
}

#[test]
fn a_canary_gets_its_share_and_is_promoted() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    with_canary(&deployments, 0.1);
    let found = canarys(&deployments, 1_000);
    assert!((97..=103).contains(&found), "{found}");
    let places = deployments.inspect(TRIAL).unwrap().places;
    assert_eq!((places[0].canary, places[0].weight), (true, 0.1));
    assert!(matches!(deployments.remove(TRIAL), Err(ComponentError::InUse { .. })));
    // Another weight is another canary.
    let more = CallShare::new(0.5).unwrap();
    deployments.try_canary(&SLOT, TRIAL, &prefers_b(), more, None).unwrap();
    let found = canarys(&deployments, 1_000);
    assert!((497..=503).contains(&found), "{found}");
    let promoted = deployments.promote(&SLOT, Some(Revision(3))).unwrap();
    assert_eq!((promoted.revision, promoted.component.as_str()), (Revision(4), "fallback-chain@0.1.0"));
    assert_eq!((&promoted.configuration, &promoted.canary), (&prefers_b(), &None));
    assert_eq!(canarys(&deployments, 100), 100);
    assert!(matches!(deployments.promote(&SLOT, None), Err(ComponentError::NoCanary(_))));
    // What was active before the canary is what a rollback goes to.
    assert_eq!(deployments.roll_back(&SLOT, None, None).unwrap().component, "least-busy@0.1.0");
}

#[test]
fn a_canary_ends_by_a_rollback_and_leaves_the_active_one() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    with_canary(&deployments, 1.0);
    assert_eq!(canarys(&deployments, 50), 50);
    let back = deployments.roll_back(&SLOT, None, Some(Revision(2))).unwrap();
    assert_eq!((back.revision, back.component.as_str()), (Revision(3), "least-busy@0.1.0"));
    assert_eq!((&back.canary, canarys(&deployments, 50)), (&None, 0));
    deployments.remove(TRIAL).unwrap();
}

#[test]
fn a_canary_is_compare_and_set_and_fits_its_slot() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    let weight = CallShare::new(0.5).unwrap();
    let none = Configuration::default();
    deployments.deploy(TRIAL, &bytes(TRIAL), None).unwrap();
    let empty = deployments.try_canary(&SLOT, TRIAL, &none, weight, None).unwrap_err();
    assert!(matches!(empty, ComponentError::SlotEmpty(_)), "{empty}");
    with_canary(&deployments, 0.5);
    let stale = deployments.try_canary(&SLOT, TRIAL, &none, weight, Some(Revision(1))).unwrap_err();
    assert!(matches!(stale, ComponentError::State(StateError::RevisionConflict { .. })), "{stale}");
    let stale = deployments.promote(&SLOT, Some(Revision(1))).unwrap_err();
    assert!(matches!(stale, ComponentError::State(StateError::RevisionConflict { .. })), "{stale}");
    deployments.deploy("random", &bytes("random"), None).unwrap();
    let other = deployments.try_canary(&SLOT, "random", &none, weight, None).unwrap_err();
    assert!(matches!(other, ComponentError::WrongSlot { .. }), "{other}");
    let refused = configuration(&[("others", "no")]);
    deployments.try_canary(&SLOT, TRIAL, &refused, weight, None).unwrap_err();
    assert_eq!(deployments.slots()[0].activation.revision, Revision(2), "nothing of it changed anything");
}

#[test]
fn a_canary_survives_a_restart_with_its_weight_and_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    with_canary(&deployments, 0.2);
    let before = deployments.slots();
    drop(deployments);
    let deployments = open(directory.path());
    assert_eq!(deployments.slots(), before);
    let found = canarys(&deployments, 1_000);
    assert!((197..=203).contains(&found), "{found}");
    assert_eq!(deployments.promote(&SLOT, None).unwrap().configuration, prefers_b());
}

#[test]
fn no_call_fails_while_canaries_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let deployments = open(directory.path());
    with_canary(&deployments, 0.5);
    let done = AtomicBool::new(false);
    let held = deployments.router().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..50 {
                match round % 3 {
                    0 => deployments.promote(&SLOT, None).map(|_| ()),
                    1 => deployments.activate(&SLOT, STABLE, None).map(|_| ()),
                    _ => deployments
                        .try_canary(&SLOT, TRIAL, &prefers_b(), CallShare::new(0.5).unwrap(), None)
                        .map(|_| ()),
                }
                .unwrap();
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            assert!(pick(&deployments) < 2);
        }
    });
    let version = held.identity().name.clone();
    held.route(&RouteRequest::default(), &variants()).unwrap();
    assert_eq!(held.identity().name, version);
}
