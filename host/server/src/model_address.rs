//! `model` and `model@variant`: how a request, the command line and the admin API name weights.

use std::fmt;
use std::str::FromStr;

/// The name of a model, and of one of its variants where the caller pins it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelAddress {
    /// The served name.
    pub model: String,
    /// The variant, or `None` to let the router choose.
    pub variant: Option<String>,
}

/// Why a text is no model address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "model address {found:?} is not valid, expected NAME or NAME@VARIANT, each made of letters, digits, '-', '_', '.', ':' and '/'"
)]
pub struct InvalidModelAddress {
    found: String,
}

/// Longest name of a model or of a variant: both become metric labels and URL segments.
const NAME_LIMIT: usize = 96;

impl FromStr for ModelAddress {
    type Err = InvalidModelAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidModelAddress { found: text.chars().take(NAME_LIMIT).collect() };
        let (model, variant) = match text.split_once('@') {
            Some((model, variant)) => (model, Some(variant)),
            None => (text, None),
        };
        if !is_name(model) || !variant.is_none_or(|variant| is_name(variant) && !variant.contains('/')) {
            return Err(invalid());
        }
        Ok(Self { model: model.to_owned(), variant: variant.map(str::to_owned) })
    }
}

impl fmt::Display for ModelAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.variant {
            Some(variant) => write!(f, "{}@{variant}", self.model),
            None => f.write_str(&self.model),
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_LIMIT
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_written_back() {
        for text in ["smollm2", "smollm2@original", "openai/gpt-oss-20b@15b", "a:b_c.d"] {
            assert_eq!(text.parse::<ModelAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "@", "a@", "@b", "a@b@c", "a b", "a@b/c", "ä", &"x".repeat(97)] {
            assert!(text.parse::<ModelAddress>().is_err(), "{text}");
        }
    }
}
