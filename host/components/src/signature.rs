//! A component's detached signature: who vouches for exactly these bytes.
//!
//! Signed is the text `espalier component sha256:` with the 64 digits of the SHA-256 of the component's file, so that a
//! signature of something else that happens to be as long is none of a component. The file beside `NAME.wasm` is
//! `NAME.wasm.sig`, one line: `ed25519`, the public key and the signature in hexadecimal digits.
//! That a signature is genuine does not make its maker trusted: [`TrustedKeys`](crate::TrustedKeys) says who is.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use espalier_state::Digest;
use serde::{Serialize, Serializer};

use crate::identity::shortened;
use crate::{ComponentError, PublicKey, hexadecimal};

/// The largest file that is read as a signature, in bytes; one has 201.
const FILE_LIMIT: u64 = 1_000;

/// A signature with the public key that it is said to be made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    key: PublicKey,
    signature: ed25519_dalek::Signature,
}

impl Signature {
    pub(crate) const fn new(key: PublicKey, signature: ed25519_dalek::Signature) -> Self {
        Self { key, signature }
    }

    /// The signer's public key.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The file that holds the signature of the component in `component`.
    pub fn path_of(component: &Path) -> PathBuf {
        let mut path = component.as_os_str().to_owned();
        path.push(".sig");
        path.into()
    }

    /// Reads the signature that lies beside a component; nothing if there is no such file.
    ///
    /// # Errors
    /// A file that is there and cannot be read, or is no signature.
    pub fn beside(component: &Path) -> Result<Option<Self>, ComponentError> {
        let path = Self::path_of(component);
        match Self::read(&path) {
            Err(ComponentError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Reads a signature's file.
    ///
    /// # Errors
    /// A file that cannot be read, or is no signature.
    pub fn read(path: &Path) -> Result<Self, ComponentError> {
        let failed = |source| ComponentError::File { action: "read", path: path.to_owned(), source };
        let found = fs::metadata(path).map_err(failed)?.len();
        if found > FILE_LIMIT {
            return Err(invalid(format!("a file of {found} bytes")));
        }
        fs::read_to_string(path).map_err(failed)?.parse()
    }

    /// Writes the signature's file, in the place of an earlier one.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ComponentError> {
        fs::write(path, format!("{self}\n")).map_err(|source| ComponentError::File {
            action: "write",
            path: path.to_owned(),
            source,
        })
    }

    /// Fails unless the key's holder signed these bytes.
    pub(crate) fn check(&self, label: &str, digest: Digest) -> Result<(), ComponentError> {
        if self.key.has_signed(&message(digest), &self.signature) {
            return Ok(());
        }
        Err(ComponentError::WrongSignature {
            component: label.to_owned(),
            key: self.key.to_string(),
            digest: digest.to_string(),
        })
    }
}

/// What is signed.
pub(crate) fn message(digest: Digest) -> Vec<u8> {
    format!("espalier component sha256:{digest}").into_bytes()
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519 {} {}", self.key, hexadecimal::encode(&self.signature.to_bytes()))
    }
}

impl FromStr for Signature {
    type Err = ComponentError;

    fn from_str(text: &str) -> Result<Self, ComponentError> {
        let refused = || invalid(format!("{:?}", shortened(text.trim(), 80)));
        let mut words = text.split_ascii_whitespace();
        let (Some("ed25519"), Some(key), Some(signature), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(refused());
        };
        let signature = hexadecimal::decode(signature).ok_or_else(refused)?;
        Ok(Self { key: key.parse()?, signature: ed25519_dalek::Signature::from_bytes(&signature) })
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn invalid(found: String) -> ComponentError {
    ComponentError::InvalidKey {
        place: "the signature".to_owned(),
        found,
        expected: "`ed25519`, a public key of 64 and a signature of 128 hexadecimal digits",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    #[test]
    fn a_signature_is_of_one_file_by_one_key() {
        let key = SigningKey::from_seed(&[1; 32]);
        let digest = Digest::of(b"a component");
        let text = key.sign(digest).to_string();
        let signature: Signature = text.parse().unwrap();
        signature.check("a.wasm", digest).unwrap();
        let error = signature.check("b.wasm", Digest::of(b"another")).unwrap_err();
        assert!(error.to_string().starts_with("b.wasm does not fit its signature"), "{error}");
        // The same signature under somebody else's name.
        let other = SigningKey::from_seed(&[2; 32]).public();
        let forged: Signature = text.replace(&key.public().to_string(), &other.to_string()).parse().unwrap();
        assert!(forged.check("a.wasm", digest).is_err());
        // The digest alone, signed for some other purpose.
        let bare = ed25519_dalek::Signer::sign(
            &ed25519_dalek::SigningKey::from_bytes(&[1; 32]),
            digest.to_string().as_bytes(),
        );
        assert!(Signature::new(key.public(), bare).check("a.wasm", digest).is_err());
    }

    #[test]
    fn what_is_no_signature_is_told_what_one_is() {
        let whole = SigningKey::from_seed(&[1; 32]).sign(Digest::of(b"x")).to_string();
        for wrong in
            ["", "ed25519", &whole[..whole.len() - 1], &format!("{whole} more"), &whole.replace("ed", "rsa")]
        {
            let error = wrong.parse::<Signature>().unwrap_err().to_string();
            assert!(error.starts_with("the signature: found"), "{error}");
        }
    }

    #[test]
    fn the_file_lies_beside_the_component() {
        let folder = tempfile::tempdir().unwrap();
        let component = folder.path().join("a.wasm");
        assert_eq!(Signature::beside(&component).unwrap(), None);
        let signature = SigningKey::from_seed(&[1; 32]).sign(Digest::of(b"x"));
        signature.write(&folder.path().join("a.wasm.sig")).unwrap();
        assert_eq!(Signature::beside(&component).unwrap(), Some(signature));
        fs::write(folder.path().join("a.wasm.sig"), [b'x'; 2_000]).unwrap();
        let error = Signature::beside(&component).unwrap_err().to_string();
        assert!(error.contains("found a file of 2000 bytes"), "{error}");
    }
}
