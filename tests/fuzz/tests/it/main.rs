//! Every fuzz target takes its seeds, whole and damaged. Fuzzing itself needs another compiler; this keeps the targets
//! true to the code that they test.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a target ends where something does not hold, and says how far it got"
)]

mod damage;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use damage::Damage;

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
    constraint "../../../../fuzz/targets/constraint.rs"
    gguf_checkpoint "../../../../fuzz/targets/gguf_checkpoint.rs"
    gguf_parse "../../../../fuzz/targets/gguf_parse.rs"
    harmony_parser "../../../../fuzz/targets/harmony_parser.rs"
    http_request "../../../../fuzz/targets/http_request.rs"
    safetensors_parse "../../../../fuzz/targets/safetensors_parse.rs"
    tokenizer_json "../../../../fuzz/targets/tokenizer_json.rs"
}

/// Runs the target on each of its seeds, on beginnings of it and with single bytes changed; then, where
/// `ESPALIER_FUZZ_SECONDS` asks for it, on random changes of the seeds for so long. That finds less than libFuzzer,
/// which sees what an input reaches, but needs nothing else.
fn replay(name: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
    let seeds: Vec<Vec<u8>> =
        fs::read_dir(&folder).unwrap().map(|seed| fs::read(seed.unwrap().path()).unwrap()).collect();
    assert!(!seeds.is_empty(), "{} has no seed", folder.display());
    for seed in &seeds {
        run(seed);
        for step in 0..32 {
            let at = seed.len() * step / 32;
            run(&seed[..at]);
            let mut damaged = seed.clone();
            damaged[at] ^= 0x55;
            run(&damaged);
        }
    }
    let seconds = std::env::var("ESPALIER_FUZZ_SECONDS").map_or(0, |seconds| seconds.parse().unwrap());
    let mut damage = Damage::new(seeds);
    let (began, mut runs) = (Instant::now(), 0_u64);
    // What brings a target down is left where it can be found.
    let last = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
    while began.elapsed() < Duration::from_secs(seconds) {
        let input = damage.next();
        fs::write(&last, &input).unwrap();
        run(&input);
        runs += 1;
    }
    if seconds > 0 {
        println!("{name}: {runs} inputs");
    }
}
