//! Files that lie, are cut off or have flipped bits: an error that names the place, and never a panic.

use std::fs;

use espalier_model::{Checkpoint, gguf, safetensors};
use serde_json::{Value, json};

use crate::model::{Model, refusal};

/// The same sequence on each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

#[test]
fn an_empty_gguf_and_another_file_are_not_models() {
    let model = Model::small();
    assert!(refusal(&model.write("empty.gguf", "")).contains("an empty file"));
    assert!(refusal(&model.write("text.gguf", "Hello")).contains("doesn't begin with \"GGUF\""));
}

#[test]
fn a_gguf_cut_off_anywhere_is_refused() {
    let model = Model::small();
    let whole = fs::read(model.gguf()).unwrap();
    let header = gguf::parse(&whole).unwrap().tensors[0].range.start;
    let mut random = Random(1);
    for round in 0..250 {
        let in_header = round < 200;
        let end =
            if in_header { random.below(header) } else { header + random.below(whole.len() - header - 32) };
        let message = gguf::parse(&whole[..end]).unwrap_err().to_string();
        assert!(message.contains("found") && message.contains("expected"), "{end}: {message}");
    }
    let cut = model.write("cut.gguf", &whole[..whole.len() - 1000]);
    let message = refusal(&cut);
    assert!(message.contains("data of tensor") && message.contains("bytes from offset"), "{message}");
}

#[test]
fn a_gguf_with_flipped_bytes_is_refused_or_opens() {
    let model = Model::small();
    let whole = fs::read(model.gguf()).unwrap();
    let header = gguf::parse(&whole).unwrap().tensors[0].range.start;
    let mut random = Random(2);
    let mut refused = 0;
    for _ in 0..600 {
        let mut damaged = whole.clone();
        for _ in 0..=random.below(4) {
            // Half of the flips near the beginning, where counts and lengths are.
            let place = if random.below(2) == 0 { random.below(1024) } else { random.below(header) };
            damaged[place] ^= 1 << random.below(8);
        }
        let path = model.write("damaged.gguf", damaged);
        match Checkpoint::open(&path) {
            Ok(checkpoint) => {
                let _ = checkpoint.tokenizer().map(|tokenizer| tokenizer.encode("text 1", true));
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().len() < 2000, "a bounded message: {error}");
            }
        }
    }
    assert!(refused > 100, "only {refused} were refused");
}

/// A GGUF file of version 3 with these counts and what follows them.
fn raw_gguf(tensors: u64, keys: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend_from_slice(&tensors.to_le_bytes());
    bytes.extend_from_slice(&keys.to_le_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn entry(name: &str, sides: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend_from_slice(&(sides.len() as u32).to_le_bytes());
    bytes.extend(sides.iter().flat_map(|side| side.to_le_bytes()));
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&offset.to_le_bytes());
    bytes
}

#[test]
fn a_gguf_that_lies_is_refused_at_the_lie() {
    let padding = [0; 256];
    let key = |name: &str, value: &[u8]| [string(name), value.to_vec()].concat();
    let long_string = [8_u32.to_le_bytes().to_vec(), u64::MAX.to_le_bytes().to_vec()].concat();
    let long_array =
        [9_u32.to_le_bytes().to_vec(), 8_u32.to_le_bytes().to_vec(), (1_u64 << 60).to_le_bytes().to_vec()];
    let deep: Vec<u8> = std::iter::once(9_u32.to_le_bytes().to_vec())
        .chain((0..40).map(|_| [9_u32.to_le_bytes().to_vec(), 1_u64.to_le_bytes().to_vec()].concat()))
        .flatten()
        .collect();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"GGUF\x01\0\0\0".to_vec(), "GGUF version 1"),
        (b"GGUF\0\0\0\x03".to_vec(), "big-endian"),
        (raw_gguf(u64::MAX, 0, &padding), "GGUF number of tensors: found 18446744073709551615"),
        (raw_gguf(0, 1 << 40, &padding), "GGUF number of metadata keys: found 1099511627776"),
        (
            raw_gguf(0, 1, &[string("k"), 99_u32.to_le_bytes().to_vec(), vec![0; 64]].concat()),
            "type of metadata key k: found 99",
        ),
        (
            raw_gguf(0, 1, &[key("k", &long_string), vec![0; 64]].concat()),
            "length of metadata key k: found 18446744073709551615",
        ),
        (raw_gguf(0, 1, &[key("k", &long_array.concat()), vec![0; 64]].concat()), "length of metadata key k"),
        (raw_gguf(0, 1, &[key("k", &deep), vec![0; 64]].concat()), "at most 3 levels"),
        (
            raw_gguf(0, 1, &[key("k", &[7, 0, 0, 0, 2]), vec![0; 64]].concat()),
            "metadata key k: found 2, expected a boolean",
        ),
        (
            raw_gguf(0, 2, &[key("k", &[0, 0, 0, 0, 2]), key("k", &[0, 0, 0, 0, 3]), vec![0; 64]].concat()),
            "metadata key k: found it twice",
        ),
        (
            raw_gguf(0, 1, &[key("general.alignment", &[4, 0, 0, 0, 7, 0, 0, 0]), vec![0; 64]].concat()),
            "general.alignment: found 7",
        ),
        (
            raw_gguf(1, 0, &[entry("t", &[32; 5], 0, 0), vec![0; 64]].concat()),
            "number of sides of tensor t: found 5",
        ),
        (raw_gguf(1, 0, &[entry("t", &[0], 0, 0), vec![0; 64]].concat()), "shape of tensor t"),
        (raw_gguf(1, 0, &[entry("t", &[1 << 40, 1 << 40], 0, 0), vec![0; 64]].concat()), "shape of tensor t"),
        (
            raw_gguf(1, 0, &[entry("t", &[32], 10, 0), vec![0; 64]].concat()),
            "type of tensor t: Q2_K is not supported",
        ),
        (raw_gguf(1, 0, &[entry("t", &[32], 77, 0), vec![0; 64]].concat()), "number 77"),
        (
            raw_gguf(1, 0, &[entry("t", &[33], 2, 0), vec![0; 64]].concat()),
            "last side of tensor t: found 33, expected a multiple of 32",
        ),
        (
            raw_gguf(1, 0, &[entry("t", &[8], 0, 64), vec![0; 256]].concat()),
            "offset of tensor t: found 64, expected 0",
        ),
        (raw_gguf(1, 0, &[entry("t", &[1 << 30], 0, 0), vec![0; 64]].concat()), "data of tensor t"),
        (
            raw_gguf(2, 0, &[entry("t", &[8], 0, 0), entry("t", &[8], 0, 32), vec![0; 256]].concat()),
            "tensor t: found it twice",
        ),
        (
            raw_gguf(0, 1, &[key("k", &[8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff]), vec![0; 64]].concat()),
            "not UTF-8",
        ),
    ];
    for (bytes, expected) in cases {
        let message = gguf::parse(&bytes).unwrap_err().to_string();
        assert!(message.contains(expected), "{message} should contain {expected}");
    }
}

/// A safetensors file with this header and `data` bytes behind it.
fn raw_safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn a_safetensors_header_that_lies_is_refused_at_the_lie() {
    let tensor = |shape: Value, offsets: Value| json!({ "t": { "dtype": "F32", "shape": shape, "data_offsets": offsets } });
    let text = |value: Value| value.to_string();
    let cases = [
        (b"1234".to_vec(), "safetensors file: found 4 bytes"),
        (u64::MAX.to_le_bytes().to_vec(), "length of safetensors header: found 18446744073709551615"),
        (
            [100_u64.to_le_bytes().to_vec(), b"{}".to_vec()].concat(),
            "length of safetensors header: found 100",
        ),
        (raw_safetensors("[1]", 0), "safetensors header"),
        (raw_safetensors("{", 0), "safetensors header: found EOF"),
        (
            raw_safetensors(&text(tensor(json!([2]), json!([0, 8000]))), 8),
            "data_offsets of tensor t: found [0, 8000]",
        ),
        (raw_safetensors(&text(tensor(json!([2]), json!([8, 0]))), 8), "data_offsets of tensor t"),
        (
            raw_safetensors(&text(tensor(json!([3]), json!([0, 8]))), 8),
            "size of tensor t: found 8 bytes, expected 12",
        ),
        (raw_safetensors(&text(tensor(json!([u64::MAX, 3]), json!([0, 8]))), 8), "size of tensor t"),
        (raw_safetensors(&text(tensor(json!([-1]), json!([0, 8]))), 8), "header of tensor t"),
        (
            raw_safetensors(&text(tensor(json!([2]), json!([0, 8]))), 9),
            "safetensors file: found 9 bytes of data",
        ),
        (
            raw_safetensors(&text(tensor(json!([1]), json!([4, 8]))), 8),
            "data_offsets of tensor t: found 4, expected 0",
        ),
        (
            raw_safetensors(
                &text(json!({ "t": { "dtype": "F4", "shape": [2], "data_offsets": [0, 1] } })),
                1,
            ),
            "dtype of tensor t: F4",
        ),
        (raw_safetensors(&text(json!({ "t": 3 })), 0), "header of tensor t"),
        (
            raw_safetensors(
                r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
                2,
            ),
            "tensor t: found it twice",
        ),
    ];
    for (bytes, expected) in cases {
        let message = safetensors::parse(&bytes).unwrap_err().to_string();
        assert!(message.contains(expected), "{message} should contain {expected}");
    }
}

#[test]
fn a_safetensors_file_with_flipped_bytes_or_cut_off_is_refused_or_opens() {
    let model = Model::small();
    let path = model.hugging_face().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut random = Random(3);
    let mut refused = 0;
    for _ in 0..400 {
        let mut damaged = whole.clone();
        if random.below(4) == 0 {
            damaged.truncate(random.below(whole.len()));
        } else {
            damaged[random.below(header)] ^= 1 << random.below(8);
        }
        fs::write(&path, damaged).unwrap();
        refused += usize::from(Checkpoint::open(&model.hugging_face()).is_err());
    }
    assert!(refused > 300, "only {refused} were refused");
}

#[test]
fn damaged_tokenizer_files_are_refused() {
    let model = Model::small();
    let path = model.hugging_face().join("tokenizer.json");
    let whole = fs::read_to_string(&path).unwrap();
    for (text, expected) in [
        (whole[..whole.len() / 2].to_owned(), "tokenizer.json is refused"),
        (whole.replace("\"BPE\"", "\"Oracle\""), "tokenizer.json is refused"),
        ("{}".to_owned(), "tokenizer.json is refused"),
        (whole.replacen(":40,", ":2222222240,", 1), "a token has the id 2222222240"),
    ] {
        fs::write(&path, text).unwrap();
        let message = Checkpoint::open(&model.hugging_face()).unwrap().tokenizer().unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    fs::remove_file(&path).unwrap();
    let message = Checkpoint::open(&model.hugging_face()).unwrap().tokenizer().unwrap_err().to_string();
    assert!(message.contains("tokenizer.json is missing"), "{message}");
}
