//! The keys that components are signed with: Ed25519 (RFC 8032), in text files of one line.
//!
//! A private key's file holds 64 hexadecimal digits; a public key's, `NAME` and 64 hexadecimal digits, so that the public
//! files of several people, one after the other, are a list of trusted keys. A private key's file can be read by its
//! owner only.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::str::FromStr;

use ed25519_dalek::{Signer as _, VerifyingKey};
use espalier_state::Digest;

use crate::identity::is_name;
use crate::{ComponentError, Signature, hexadecimal, signature};

/// A private key.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// A public key. Displayed and parsed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl SigningKey {
    /// The key of these 32 bytes, which must be secret and random.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// Reads a private key's file.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds something else.
    pub fn read(path: &Path) -> Result<Self, ComponentError> {
        let text = fs::read_to_string(path).map_err(|source| file_error("read", path, source))?;
        // What was found is not told: it may be a key with a slip in it.
        let seed = hexadecimal::decode(text.trim()).ok_or_else(|| ComponentError::InvalidKey {
            place: path.display().to_string(),
            found: format!("{} characters", text.trim().chars().count()),
            expected: "a private key: 64 hexadecimal digits",
        })?;
        Ok(Self::from_seed(&seed))
    }

    /// Writes a private key's file, which must not be there yet, for its owner's eyes only.
    ///
    /// # Errors
    /// A file that is there already, or that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ComponentError> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let write =
            || options.open(path)?.write_all((hexadecimal::encode(self.0.as_bytes()) + "\n").as_bytes());
        write().map_err(|source| file_error("write", path, source))
    }

    /// What others check its signatures with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a component's digest.
    pub fn sign(&self, digest: Digest) -> Signature {
        Signature::new(self.public(), self.0.sign(&signature::message(digest)))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.public())
    }
}

impl PublicKey {
    /// The line for a list of trusted keys.
    ///
    /// # Errors
    /// A name that is none.
    pub fn line(&self, name: &str) -> Result<String, ComponentError> {
        if is_name(name) {
            return Ok(format!("{name} {self}\n"));
        }
        Err(ComponentError::InvalidName {
            kind: "name of a key",
            found: name.to_owned(),
            expected: "lower-case letters, digits and hyphens, starting with a letter, at most 64 of them",
        })
    }

    /// Whether the holder of this key made the signature of the message.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &ed25519_dalek::Signature) -> bool {
        self.0.verify_strict(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal::encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = ComponentError;

    fn from_str(text: &str) -> Result<Self, ComponentError> {
        let key = hexadecimal::decode(text).and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
        // With a weak key a signature says nothing of who made it.
        key.filter(|key| !key.is_weak()).map(Self).ok_or_else(|| ComponentError::InvalidKey {
            place: "the public key".to_owned(),
            found: format!("{:?}", crate::identity::shortened(text, 80)),
            expected: "an Ed25519 public key: 64 hexadecimal digits",
        })
    }
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> ComponentError {
    ComponentError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_kept_for_its_owner_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let key = SigningKey::from_seed(&[7; 32]);
        key.write(&path).unwrap();
        assert_eq!(SigningKey::read(&path).unwrap().public(), key.public());
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(matches!(key.write(&path), Err(ComponentError::File { action: "write", .. })));
        fs::write(&path, "0123").unwrap();
        let error = SigningKey::read(&path).unwrap_err().to_string();
        assert!(error.contains("found 4 characters, expected a private key"), "{error}");
    }

    #[test]
    fn public_keys_are_points_that_identify_somebody() {
        let key = SigningKey::from_seed(&[7; 32]).public();
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        let weak = "0100000000000000000000000000000000000000000000000000000000000000";
        for wrong in ["", "00", weak] {
            assert!(wrong.parse::<PublicKey>().is_err(), "{wrong}");
        }
    }

    /// RFC 8032, section 7.1, test 1: the key of this seed.
    #[test]
    fn keys_are_those_of_the_standard() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let key = SigningKey::from_seed(&hexadecimal::decode(seed).unwrap());
        assert_eq!(key.public().to_string(), public);
    }
}
