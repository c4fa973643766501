//! Whose components a host takes: public keys with names.
//!
//! The file has one key a line, `NAME KEY`, the form of a public key's file; `#` begins a comment. Where a host has such a
//! list, a component that none of the keys has signed is refused before anything of it is compiled.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use espalier_state::Digest;

use crate::identity::is_name;
use crate::{ComponentError, PublicKey, Signature};

/// The list. An empty one trusts nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedKeys(Vec<(String, PublicKey)>);

impl TrustedKeys {
    /// Reads the list's file.
    ///
    /// # Errors
    /// A file that cannot be read, or the first line that is wrong.
    pub fn read(path: &Path) -> Result<Self, ComponentError> {
        let text = fs::read_to_string(path).map_err(|source| ComponentError::File {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads the list; errors name `source` and the line.
    pub(crate) fn parse(source: &str, text: &str) -> Result<Self, ComponentError> {
        let mut keys: Vec<(String, PublicKey)> = Vec::new();
        let mut names = BTreeSet::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let refused = |expected| ComponentError::InvalidKey {
                place: format!("{source}, line {}", index + 1),
                // Not the line itself: it may be a private key, given by mistake.
                found: format!("a line of {} characters", line.chars().count()),
                expected,
            };
            let (name, key) =
                line.split_once(char::is_whitespace).filter(|(name, _)| is_name(name)).ok_or_else(|| {
                    refused("a name of lower-case letters, digits and hyphens, and a public key")
                })?;
            let key = key.trim().parse().map_err(|_| refused("a public key of 64 hexadecimal digits"))?;
            if !names.insert(name) || keys.iter().any(|(_, known)| *known == key) {
                return Err(refused("each name and each key once"));
            }
            keys.push((name.to_owned(), key));
        }
        Ok(Self(keys))
    }

    /// The name of a key's holder.
    pub fn name_of(&self, key: &PublicKey) -> Option<&str> {
        self.0.iter().find(|(_, known)| known == key).map(|(name, _)| name.as_str())
    }

    /// Fails unless one of the keys has signed the component with this digest.
    pub(crate) fn check(
        &self,
        label: &str,
        digest: Digest,
        signature: Option<&Signature>,
    ) -> Result<(), ComponentError> {
        let Some(signature) = signature else {
            return Err(ComponentError::Unsigned { component: label.to_owned() });
        };
        if self.name_of(signature.key()).is_none() {
            let key = signature.key().to_string();
            return Err(ComponentError::UnknownSigner { component: label.to_owned(), key });
        }
        signature.check(label, digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    #[test]
    fn only_what_a_listed_key_signed_passes() {
        let (ada, eve) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
        let keys =
            TrustedKeys::parse("keys", &format!("# team\n\nada  {} # since May\n", ada.public())).unwrap();
        let digest = Digest::of(b"component");
        keys.check("c", digest, Some(&ada.sign(digest))).unwrap();
        assert_eq!(keys.name_of(&ada.public()), Some("ada"));
        assert_eq!(keys.check("c", digest, None).unwrap_err().kind(), "unsigned");
        assert_eq!(keys.check("c", digest, Some(&eve.sign(digest))).unwrap_err().kind(), "unknown_signer");
        let other = ada.sign(Digest::of(b"another"));
        assert_eq!(keys.check("c", digest, Some(&other)).unwrap_err().kind(), "wrong_signature");
        let nobody = TrustedKeys::parse("keys", "").unwrap();
        assert!(nobody.check("c", digest, Some(&ada.sign(digest))).is_err());
    }

    #[test]
    fn a_wrong_line_is_named() {
        let key = SigningKey::from_seed(&[1; 32]).public();
        for (text, said) in [
            (format!("ada {key}\nb {key}"), "line 2: found"),
            (format!("{key}"), "line 1: found"),
            ("Ada 00".to_owned(), "expected a name"),
            ("ada 00".to_owned(), "expected a public key"),
        ] {
            let error = TrustedKeys::parse("keys.txt", &text).unwrap_err().to_string();
            assert!(error.starts_with("keys.txt, line") && error.contains(said), "{error}");
        }
    }
}
