use std::fs;

use espalier_state::{Digest, State, StateError};

#[test]
fn a_blob_survives_a_new_start() {
    let directory = tempfile::tempdir().unwrap();
    let digest = State::open(directory.path()).unwrap().blobs().put(b"content").unwrap();
    let state = State::open(directory.path()).unwrap();
    assert_eq!(state.blobs().get(digest).unwrap(), b"content");
    state.blobs().remove(digest).unwrap();
    assert!(matches!(state.blobs().get(digest), Err(StateError::BlobMissing(missing)) if missing == digest));
    state.blobs().remove(digest).unwrap();
}

#[test]
fn damage_is_noticed_and_healed_by_the_next_put() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(directory.path()).unwrap();
    let digest = state.blobs().put(b"content").unwrap();
    let name = digest.to_string();
    let path = directory.path().join("blobs").join(&name[..2]).join(&name);
    fs::write(&path, b"conten").unwrap();
    assert!(
        matches!(state.blobs().get(digest), Err(StateError::BlobDamaged { found, .. }) if found == Digest::of(b"conten"))
    );
    state.blobs().put(b"content").unwrap();
    assert_eq!(state.blobs().get(digest).unwrap(), b"content");
}

#[test]
fn nothing_temporary_remains_after_a_put() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(directory.path()).unwrap();
    state.blobs().put(b"content").unwrap();
    assert_eq!(fs::read_dir(directory.path().join("blobs/incoming")).unwrap().count(), 0);
}
