//! Reading `tokenizer.json` with the `tokenizers` crate, which panics on some files that it should refuse.

use std::panic::catch_unwind;

use serde::Deserialize;
use serde_json::Value;

use crate::error::ModelError;

/// What is read ahead: that all of it is JSON, and the part where the crate takes that for granted.
#[derive(Deserialize)]
struct Ahead {
    #[serde(default, rename = "decoder")]
    _decoder: Value,
}

/// The tokenizer that the text of a `tokenizer.json` defines.
///
/// # Errors
/// A text that is no JSON, or that the crate refuses in one way or another.
pub(super) fn parse(text: &str) -> Result<tokenizers::Tokenizer, ModelError> {
    let refused = |reason: String| ModelError::Tokenizer(format!("tokenizer.json is refused: {reason}"));
    let _: Ahead = serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
    // Nothing outlives a panic here but the text.
    match catch_unwind(|| text.parse()) {
        Ok(parsed) => parsed.map_err(|error: tokenizers::Error| refused(error.to_string())),
        Err(_) => Err(refused("the tokenizers library cannot read it".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
        "post_processor":null,"decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,
        "use_regex":true},"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
        "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"vocab":{"a":0,"b":1},"merges":[]}}"#;

    #[test]
    fn a_text_that_is_cut_off_or_has_a_hole_is_refused() {
        parse(SMALL).unwrap();
        for at in 0..SMALL.len() {
            let error = parse(&SMALL[..at]).unwrap_err().to_string();
            assert!(error.contains("tokenizer.json is refused"), "{error}");
            // Some holes leave a file that means something; none may end the process.
            drop(parse(&[&SMALL[..at], &SMALL[(at + 3).min(SMALL.len())..]].concat()));
        }
    }

    #[test]
    fn a_part_that_makes_the_library_panic_is_refused() {
        let normalizer = r#""normalizer":{"type":"Precompiled","precompiled_charsmap":7}"#;
        parse(&SMALL.replace(r#""normalizer":null"#, normalizer)).unwrap_err();
        let deep = format!(r#""decoder":{}{}"#, "[".repeat(200), "]".repeat(200));
        parse(&SMALL.replace(
            r#""decoder":{"type":"ByteLevel","add_prefix_space":false"#,
            &format!(r#"{deep},"x":{{"y":0"#),
        ))
        .unwrap_err();
    }
}
