//! Every fuzz target takes its seeds, whole and damaged. Fuzzing itself needs another compiler; this keeps the targets
//! true to the code that they test.

#![expect(clippy::unwrap_used, reason = "a target ends where something does not hold")]

use std::fs;
use std::path::Path;

/// A target, and a test that replays its seeds.
macro_rules! targets {
    ($($name:ident $path:literal)*) => {
        $(
            #[expect(unused_attributes, reason = "as a program of its own it has no main")]
            #[path = $path]
            mod $name;

            #[test]
            fn $name() {
                replay(stringify!($name), $name::run);
            }
        )*

        #[test]
        fn every_target_is_replayed() {
            let known = [$(stringify!($name)),*];
            let targets = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/targets")).unwrap();
            for target in targets {
                let path = target.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap();
                assert!(known.contains(&name), "{name} is missing here");
            }
        }
    };
}

targets! {
    chat_template "../../../../fuzz/targets/chat_template.rs"
    component "../../../../fuzz/targets/component.rs"
    config_json "../../../../fuzz/targets/config_json.rs"
    gguf_checkpoint "../../../../fuzz/targets/gguf_checkpoint.rs"
    gguf_parse "../../../../fuzz/targets/gguf_parse.rs"
    http_request "../../../../fuzz/targets/http_request.rs"
    safetensors_parse "../../../../fuzz/targets/safetensors_parse.rs"
    tokenizer_json "../../../../fuzz/targets/tokenizer_json.rs"
}

/// Runs the target on each of its seeds, then on beginnings of it and with single bytes changed.
fn replay(name: &str, run: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
    let mut count = 0;
    for seed in fs::read_dir(&seeds).unwrap() {
        let bytes = fs::read(seed.unwrap().path()).unwrap();
        run(&bytes);
        for step in 0..32 {
            let at = bytes.len() * step / 32;
            run(&bytes[..at]);
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            run(&damaged);
        }
        count += 1;
    }
    assert!(count > 0, "{} has no seed", seeds.display());
}
