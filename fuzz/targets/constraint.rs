//! Any JSON as what a text is to be kept to: a compiled grammar and its first step, or an error, in little time.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use espalier_engine::{ConstraintCompiler, Grammar};
use espalier_model::{Tokenizer, TokenizerFiles};
use espalier_server::body::parse_json;
use espalier_server::fields::Fields;
use espalier_server::openai::output_constraint::chat_output_constraint;
use libfuzzer_sys::fuzz_target;

/// More than any grammar took on a busy machine, less than what gives one up.
const TIME: Duration = Duration::from_secs(8);

static COMPILER: LazyLock<ConstraintCompiler> = LazyLock::new(|| {
    let tokenizer = Tokenizer::new(&TokenizerFiles::o200k_harmony().unwrap(), None, &[]).unwrap();
    ConstraintCompiler::new(&tokenizer, tokenizer.vocab_size(), tokenizer.eos()).unwrap()
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = parse_json(bytes) else { return };
    let Ok(mut fields) = Fields::of_body(body) else { return };
    if let Ok(Some(constraint)) = chat_output_constraint(&mut fields) {
        let compiler = &*COMPILER;
        let begin = Instant::now();
        if let Err(error) = compiler.compile(&Grammar::new(constraint.notation)) {
            assert!(error.to_string().len() < 1000);
        }
        assert!(begin.elapsed() < TIME);
    }
});
