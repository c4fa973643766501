//! Who a component is: the name and version that its own `describe` export gives.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ComponentError;

/// The longest summary that is kept, in characters.
const SUMMARY_LIMIT: usize = 500;

/// A component's checked name and version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Lower-case letters, digits and hyphens, starting with a letter, at most 64 characters.
    pub name: String,
    /// A semantic version.
    pub version: String,
    /// One sentence for people.
    pub summary: String,
}

impl Identity {
    /// Checks what a guest says of itself. `found_in` names the component until then.
    pub(crate) fn parse(
        found_in: &str,
        name: String,
        version: String,
        summary: String,
    ) -> Result<Self, ComponentError> {
        let refused =
            |what: &'static str, found: String, expected: &'static str| ComponentError::InvalidAnswer {
                component: found_in.to_owned(),
                call: "describe",
                found: format!("the {what} {:?}", shortened(&found, 80)),
                expected: expected.to_owned(),
            };
        if !is_name(&name) {
            let expected =
                "lower-case letters, digits and hyphens, starting with a letter, at most 64 of them";
            return Err(refused("name", name, expected));
        }
        if !is_version(&version) {
            return Err(refused("version", version, "a semantic version such as 1.2.0"));
        }
        Ok(Self { name, version, summary: shortened(&summary, SUMMARY_LIMIT) })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// Whether the text may name a component or a slot.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// `MAJOR.MINOR.PATCH` with optional `-pre.release` and `+build`, at most 64 characters (semver.org, rules 2, 9, 10).
fn is_version(text: &str) -> bool {
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let identifiers = |part: &str| {
        part.split('.').all(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    };
    text.len() <= 64
        && core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(identifiers)
        && build.is_none_or(identifiers)
}

/// The text, cut to so many characters.
pub(crate) fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_out_of_a_folder() {
        for name in ["", "..", "a/b", "A", "1a", "-a", "a b", "é", &"a".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
        for name in ["a", "activation-norm", "l2"] {
            assert!(is_name(name), "{name}");
        }
    }

    #[test]
    fn versions_are_semantic() {
        for version in ["0.1.0", "1.2.3-rc.1", "1.0.0+build.7", "10.20.30-a-b+c"] {
            assert!(is_version(version), "{version}");
        }
        for version in ["", "1", "1.2", "01.2.3", "1.2.3-", "1.2.3+", "1.2.3.4", "v1.2.3", "1.2.x"] {
            assert!(!is_version(version), "{version}");
        }
    }

    #[test]
    fn long_summaries_are_cut_between_characters() {
        assert_eq!(shortened("äöü", 2), "äö…");
        assert_eq!(shortened("äöü", 3), "äöü");
    }
}
