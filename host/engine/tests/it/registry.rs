//! Loading, replacing and unloading while requests run.

use std::sync::Arc;

use espalier_engine::{EngineError, Registry, Silent, VariantSource};

use crate::fixture::{collect, config, device, prompt, sampled, source};

fn registry() -> Registry {
    Registry::new(device(), config(), |_| Arc::new(Silent))
}

#[test]
fn variants_are_found_by_name_and_the_first_is_the_default() {
    let registry = registry();
    registry.load("tiny", "original", &source()).unwrap();
    registry.load("tiny", "85", &source()).unwrap();
    let variants = registry.variants("tiny").unwrap();
    let names: Vec<_> = variants.iter().map(|generation| generation.id().to_string()).collect();
    assert_eq!(names, ["tiny@original#1", "tiny@85#2"]);
    let Err(error) = registry.variant("tiny", "15b") else { panic!("an unknown variant was found") };
    assert_eq!(error.to_string(), "model 'tiny' has no variant '15b', expected one of: original, 85");
    let Err(error) = registry.variants("huge") else { panic!("an unknown model was found") };
    assert_eq!(error.to_string(), "model 'huge' is not loaded, expected one of: tiny");
}

#[test]
fn a_replaced_generation_finishes_its_requests() {
    let registry = registry();
    let old = registry.load("tiny", "original", &source()).unwrap();
    let stream = old.engine().submit(sampled(prompt(10, 0), 100, 1)).unwrap();
    let new = registry.load("tiny", "original", &source()).unwrap();
    assert_eq!(registry.variant("tiny", "original").unwrap().id().number, new.id().number);
    assert!(collect(stream).usage.completion_tokens > 0);
    let error = old.engine().submit(sampled(prompt(10, 0), 1, 1)).unwrap_err();
    assert!(matches!(error, EngineError::Draining { .. }));
}

#[test]
fn a_load_that_fails_changes_nothing() {
    let registry = registry();
    let loaded = registry.load("tiny", "original", &source()).unwrap();
    assert!(registry.load("tiny", "original", &VariantSource::new("/does/not/exist")).is_err());
    assert!(registry.load("ti@ny", "original", &source()).is_err());
    assert_eq!(registry.variant("tiny", "original").unwrap().id(), loaded.id());
    collect(loaded.engine().submit(sampled(prompt(3, 0), 2, 1)).unwrap());
}

#[test]
fn unloading_the_last_variant_removes_the_model() {
    let registry = registry();
    registry.load("tiny", "original", &source()).unwrap();
    assert!(registry.unload("tiny", "85").is_err());
    registry.unload("tiny", "original").unwrap();
    assert!(registry.variants("tiny").is_err());
    assert!(registry.generations().is_empty());
}

#[test]
fn a_loaded_variant_is_the_draft_of_another() {
    let registry = registry();
    let small = registry.load("tiny", "small", &source()).unwrap();
    let drafted = VariantSource { draft: Some(small.path().to_owned()), ..source() };
    let held = Arc::strong_count(small.model());
    let generation = registry.load("tiny", "original", &drafted).unwrap();
    assert_eq!(generation.source(), &drafted);
    assert!(Arc::strong_count(small.model()) > held, "the weights are shared");
    let wrong = VariantSource { draft: Some("/does/not/exist".into()), ..source() };
    assert!(registry.load("tiny", "original", &wrong).is_err());
    assert_eq!(registry.variant("tiny", "original").unwrap().id().number, 2);
}
