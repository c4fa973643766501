//! Immutable bytes that are shared by reference: a piece of a mapped file or an owned buffer on a cache-line border.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

use crate::KernelError;
use crate::arena::Part;

/// One cache line; a vector of them starts on a 64-byte border.
#[derive(Copy, Clone)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

enum Storage {
    Owned { lines: Vec<CacheLine>, length: usize },
    Part(Part),
    Mapped(Mmap),
}

impl Storage {
    fn as_slice(&self) -> &[u8] {
        match self {
            // SAFETY: `CacheLine` is `repr(C)` of 64 initialised bytes without padding, `length` is at most
            // 64 times the number of lines, and the returned borrow keeps the vector alive.
            Self::Owned { lines, length } => unsafe {
                std::slice::from_raw_parts(lines.as_ptr().cast::<u8>(), *length)
            },
            Self::Part(part) => part.as_slice(),
            Self::Mapped(map) => map,
        }
    }
}

/// Shared immutable bytes. Cloning and slicing cost a reference count, never a copy.
#[derive(Clone)]
pub struct Bytes {
    storage: Arc<Storage>,
    range: Range<usize>,
}

impl Bytes {
    /// Copies `bytes` into a buffer that starts on a 64-byte border.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self::copy_from(bytes.len(), bytes.chunks(64))
    }

    /// Bytes of an arena.
    pub(crate) fn from_part(part: Part) -> Self {
        let range = 0..part.as_slice().len();
        Self { storage: Arc::new(Storage::Part(part)), range }
    }

    /// The little-endian bytes of `values`.
    pub fn from_f32(values: &[f32]) -> Self {
        let mut lines = Vec::with_capacity(values.len().div_ceil(16));
        for chunk in values.chunks(16) {
            let mut line = CacheLine([0; 64]);
            for (bytes, value) in line.0.chunks_exact_mut(4).zip(chunk) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            lines.push(line);
        }
        let length = values.len() * 4;
        Self { storage: Arc::new(Storage::Owned { lines, length }), range: 0..length }
    }

    fn copy_from<'a>(length: usize, chunks: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut lines = Vec::with_capacity(length.div_ceil(64));
        for chunk in chunks {
            let mut line = CacheLine([0; 64]);
            for (to, from) in line.0.iter_mut().zip(chunk) {
                *to = *from;
            }
            lines.push(line);
        }
        Self { storage: Arc::new(Storage::Owned { lines, length }), range: 0..length }
    }

    /// Maps a file for reading. Pages are loaded when they are touched and shared with other processes.
    ///
    /// A file that another process truncates while it is mapped makes later reads of the lost pages fatal;
    /// checkpoints are replaced by renaming, never rewritten in place.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped.
    pub fn map_file(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self::from_vec(Vec::new()));
        }
        // SAFETY: the map is private and read-only. Nothing in this process writes checkpoint files in place; the
        // remaining hazard (truncation by another process) is documented above and common to every mapped reader.
        let map = unsafe { Mmap::map(&file)? };
        let range = 0..map.len();
        Ok(Self { storage: Arc::new(Storage::Mapped(map)), range })
    }

    /// The bytes of `range`, relative to this slice.
    ///
    /// # Errors
    /// When the range is reversed or ends beyond the slice.
    pub fn slice(&self, range: Range<usize>) -> Result<Self, KernelError> {
        if range.start > range.end || range.end > self.len() {
            let found = range.end.max(range.start);
            return Err(KernelError::OutOfRange { what: "a slice of bytes", found, limit: self.len() + 1 });
        }
        let start = self.range.start + range.start;
        let end = self.range.start + range.end;
        Ok(Self { storage: Arc::clone(&self.storage), range: start..end })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.storage.as_slice().get(self.range.clone()).unwrap_or_default()
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Tells the operating system that these bytes, if they lie in a mapped file, are not needed for now: their pages
    /// no longer count as resident. Reading them again maps them again.
    pub fn release(&self) {
        #[cfg(unix)]
        if let Storage::Mapped(map) = &*self.storage {
            // SAFETY: the map is private, read-only and backed by a file that nothing in this process writes, so that a
            // page that is dropped comes back from the file with the same content.
            let released = unsafe {
                map.unchecked_advise_range(UncheckedAdvice::DontNeed, self.range.start, self.range.len())
            };
            // Advice that the system refuses changes nothing but the accounting.
            drop(released);
        }
    }

    /// Whether they lie in a mapped file rather than in owned memory.
    pub fn is_mapped(&self) -> bool {
        matches!(*self.storage, Storage::Mapped(_))
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_mapped() { "mapped" } else { "owned" };
        write!(formatter, "Bytes({} {kind})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_buffers_start_on_a_cache_line() {
        let bytes = Bytes::from_vec((0..200).collect());
        assert_eq!(bytes.as_slice().as_ptr() as usize % 64, 0);
        assert_eq!(bytes.as_slice(), (0..200).collect::<Vec<u8>>());
        assert!(!bytes.is_mapped());
    }

    #[test]
    fn slices_nest_and_are_bounded() {
        let bytes = Bytes::from_f32(&[1.0, 2.0, 3.0]);
        let tail = bytes.slice(4..12).unwrap().slice(4..8).unwrap();
        assert_eq!(tail.as_slice(), 3.0f32.to_le_bytes());
        assert!(tail.slice(0..5).is_err());
        #[expect(clippy::reversed_empty_ranges, reason = "hostile offsets can be reversed")]
        let reversed = bytes.slice(3..2);
        assert!(reversed.is_err());
    }

    #[test]
    fn files_are_mapped() {
        let path = std::env::temp_dir().join(format!("espalier-bytes-{}", std::process::id()));
        std::fs::write(&path, b"weights").unwrap();
        let bytes = Bytes::map_file(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(bytes.is_mapped());
        assert_eq!(bytes.as_slice(), b"weights");
        assert!(Bytes::map_file(&path).is_err());
    }
}
