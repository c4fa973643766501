//! Files that are not what they seem are refused in one sentence: no panic, no hang, no huge allocation.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::running_host::RunningHost;
use crate::{http, program, smollm2, synthetic};

/// Checks that the file or directory is refused by a command with a clear error.
#[track_caller]
fn is_refused(model: &Path) {
    let output = program::run(&["inspect", "--model", model.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}: {said}", model.display());
    assert!(said.lines().any(|line| line.starts_with("error: ")), "{}: {said}", model.display());
    assert!(!said.contains("panicked"), "{}: {said}", model.display());
}

#[test]
fn broken_gguf_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.gguf");
    let write = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        is_refused(&file);
    };
    write(b"");
    write(b"GGUF");
    write(b"not a model at all");
    // Version 3, then counts of tensors and metadata that no file could hold.
    write(&[b"GGUF".as_slice(), &3_u32.to_le_bytes(), &[0xff; 16]].concat());
    is_refused(&folder.path().join("missing.gguf"));

    let Some(model) = smollm2::path() else { return };
    let whole = fs::read(model).unwrap();
    for length in [24, 1_000, 100_000, 5_000_000, whole.len() - 1] {
        write(&whole[..length]);
    }
    // The head with one byte after another made large: names, types, lengths and offsets of everything.
    let mut corrupt = whole[..8_000_000].to_vec();
    for position in (8..200).step_by(7).chain((1_700_000..1_720_000).step_by(1_999)) {
        let kept = std::mem::replace(&mut corrupt[position], 0xff);
        write(&corrupt);
        corrupt[position] = kept;
    }
}

#[test]
fn broken_hugging_face_directories_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let weights = model.join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    let header = usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    let text = String::from_utf8(whole[8..8 + header].to_vec()).unwrap();
    let write = |bytes: &[u8]| {
        fs::write(&weights, bytes).unwrap();
        is_refused(&model);
    };
    write(b"");
    write(&whole[..whole.len() - 1]);
    write(&whole[..8 + header / 2]);
    write(&[u64::MAX.to_le_bytes().as_slice(), &whole[8..]].concat());
    let with_header = |text: &str| {
        let length = (text.len() as u64).to_le_bytes();
        [length.as_slice(), text.as_bytes(), &whole[8 + header..]].concat()
    };
    // A header that lies: an end behind the file, a shape that doesn't fit the bytes, an unknown type.
    write(&with_header(&text.replacen("\"data_offsets\":[0,", "\"data_offsets\":[999999999,", 1)));
    write(&with_header(&text.replacen("\"shape\":[", "\"shape\":[7,", 1)));
    write(&with_header(&text.replacen("\"dtype\":\"F32\"", "\"dtype\":\"F99\"", 1)));
    write(&with_header("{"));

    fs::write(&weights, &whole).unwrap();
    let config = model.join("config.json");
    let fields = fs::read_to_string(&config).unwrap();
    for broken in
        ["", "{", "{}", "[]", &fields.replacen("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 200", 1)]
    {
        fs::write(&config, broken).unwrap();
        is_refused(&model);
    }
}

#[test]
fn a_variant_that_fails_to_load_leaves_the_others_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let model = synthetic::model(folder.path(), 1);
    let mut host = RunningHost::start(folder.path(), &[format!("{}={}", synthetic::NAME, model.display())]);
    let broken = folder.path().join("broken.gguf");
    fs::write(&broken, b"GGUF").unwrap();
    for variant in ["original", "other"] {
        let request = json!({"model": synthetic::NAME, "variant": variant, "path": broken});
        let answer = http::post(&host.admin_url("/admin/v1/models"), &request);
        assert!((400..500).contains(&answer.status), "{}: {}", answer.status, answer.text);
        answer.is_refused(answer.status, None);
    }
    let answer = host.complete(synthetic::NAME, 2).success();
    assert_eq!(answer["espalier"]["variant"], "original");
    host.is_healthy();
}
