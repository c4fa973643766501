//! Reading little-endian values from bytes that nobody vouches for.

use crate::error::ModelError;

/// A position in a byte slice. Every read is bounds-checked and says, when it fails, what was being read and where.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(super) fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], ModelError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        match rest.get(..count) {
            Some(taken) => {
                self.position += count;
                Ok(taken)
            }
            None => {
                let found = format!("{} bytes left at offset {}", rest.len(), self.position);
                Err(ModelError::malformed(what, found, format!("{count} bytes")))
            }
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], ModelError> {
        let taken = self.take(N, what)?;
        taken.try_into().map_err(|_| ModelError::malformed(what, taken.len(), N.to_string()))
    }

    pub(super) fn u8(&mut self, what: &str) -> Result<u8, ModelError> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, ModelError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, ModelError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A number of things that take at least `least_bytes` each: more than the rest of the file can hold is refused
    /// before anything is allocated for them.
    pub(super) fn count(&mut self, least_bytes: usize, what: &str) -> Result<usize, ModelError> {
        let found = self.u64(what)?;
        let limit = self.remaining() / least_bytes.max(1);
        match usize::try_from(found) {
            Ok(count) if count <= limit => Ok(count),
            _ => {
                let expected = format!("at most {limit}, which is what the rest of the file can hold");
                Err(ModelError::malformed(what, found, expected))
            }
        }
    }

    /// Length-prefixed UTF-8.
    pub(super) fn string(&mut self, what: &str) -> Result<&'a str, ModelError> {
        let length = self.count(1, &format!("length of {what}"))?;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|error| {
            let found = format!("a byte that is not UTF-8 at {} of {length}", error.valid_up_to());
            ModelError::malformed(what, found, "UTF-8 text")
        })
    }
}
