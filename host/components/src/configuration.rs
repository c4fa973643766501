//! What an operator tells a component when it is put into a slot.
//!
//! Keys and values are texts; what they mean is the component's affair, and so is refusing those that it does not know.
//! The size is limited, since a configuration is kept with each activation and crosses into each instance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ComponentError;

/// Settings of one configuration.
const SETTINGS: usize = 64;
/// Bytes of all keys and values together.
const BYTES: usize = 16 << 10;
/// Bytes of a key.
const KEY_BYTES: usize = 64;

/// Settings by key, within the limits of size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "BTreeMap<String, String>", try_from = "BTreeMap<String, String>")]
pub struct Configuration(BTreeMap<String, String>);

impl Configuration {
    /// The settings; an error for a key that is none, or for more than the limits.
    pub fn new(settings: BTreeMap<String, String>) -> Result<Self, ComponentError> {
        let refused =
            |found: String, expected: String| Err(ComponentError::InvalidConfiguration { found, expected });
        if settings.len() > SETTINGS {
            return refused(format!("{} settings", settings.len()), format!("at most {SETTINGS}"));
        }
        if let Some(key) = settings.keys().find(|key| !is_key(key)) {
            let expected = format!("at most {KEY_BYTES} lower-case letters, digits, hyphens and dots");
            return refused(format!("the key {key:?}"), expected);
        }
        let bytes: usize = settings.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > BYTES {
            return refused(format!("{bytes} bytes"), format!("at most {BYTES}"));
        }
        Ok(Self(settings))
    }

    /// The settings by key.
    pub const fn settings(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_key(key: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (1..=KEY_BYTES).contains(&key.len()) && key.bytes().all(allowed)
}

impl From<Configuration> for BTreeMap<String, String> {
    fn from(configuration: Configuration) -> Self {
        configuration.0
    }
}

impl TryFrom<BTreeMap<String, String>> for Configuration {
    type Error = ComponentError;

    fn try_from(settings: BTreeMap<String, String>) -> Result<Self, ComponentError> {
        Self::new(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[(&str, &str)]) -> Result<Configuration, ComponentError> {
        Configuration::new(
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        )
    }

    #[test]
    fn what_is_too_much_or_no_key_is_refused() {
        assert_eq!(of(&[("weights", "a:1"), ("max.x-2", "")]).unwrap().settings().len(), 2);
        let long = "x".repeat(KEY_BYTES + 1);
        for key in ["", "Weights", "a b", "ä", "a/b", &long] {
            let refused = of(&[(key, "1")]).unwrap_err().to_string();
            assert!(refused.contains(&format!("{key:?}")), "{refused}");
        }
        let value = "x".repeat(BYTES - 1);
        of(&[("a", &value)]).unwrap();
        assert_eq!(
            of(&[("ab", &value)]).unwrap_err().to_string(),
            "the configuration has 16385 bytes, expected at most 16384"
        );
        let many: BTreeMap<_, _> = (0..=SETTINGS).map(|i| (format!("k{i}"), String::new())).collect();
        assert_eq!(
            Configuration::new(many).unwrap_err().to_string(),
            "the configuration has 65 settings, expected at most 64"
        );
    }

    #[test]
    fn json_is_read_within_the_limits_too() {
        let read = serde_json::from_str::<Configuration>(r#"{"a": "1"}"#).unwrap();
        assert_eq!(read, of(&[("a", "1")]).unwrap());
        assert!(serde_json::from_str::<Configuration>(r#"{"A": "1"}"#).is_err());
    }
}
