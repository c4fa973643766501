//! Memory for rearranged weights, in chunks that the system may back with huge pages.
//!
//! Decoding reads all weights from end to end for every token. In pages of 4 KiB it waits for translations of addresses
//! and for the prefetcher, which stops at each page's border. Where the system grants huge pages that wait goes; where it
//! does not, nothing else changes. Many matrices are smaller than a huge page, so they share chunks.
//!
//! A chunk is given back to the system when the last [`Bytes`] in it are dropped. What nobody has written takes no memory.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use memmap2::{MmapOptions, MmapRaw};

use crate::Bytes;

/// Many huge pages (2 MiB on most processors), so that the half-used one at its end hardly counts.
const CHUNK: usize = 256 << 20;
/// Bytes start on a cache line.
const BORDER: usize = 64;

/// Hands out memory from the front of a chunk. Clones of what it made keep the chunk, the arena itself does not.
#[derive(Default)]
pub(crate) struct Arena {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    chunk: Weak<MmapRaw>,
    used: usize,
}

/// A part of a chunk that belongs to one owner.
pub(crate) struct Part {
    chunk: Arc<MmapRaw>,
    start: usize,
    length: usize,
}

impl Arena {
    /// `length` bytes, zeros that `write` has written over.
    pub(crate) fn bytes(&self, length: usize, write: impl FnOnce(&mut [u8])) -> Bytes {
        match self.take(length) {
            Ok(mut part) => {
                write(part.as_mut_slice());
                Bytes::from_part(part)
            }
            Err(error) => {
                tracing::debug!(%error, length, "no memory map for weights; they are on the heap");
                let mut bytes = vec![0; length];
                write(&mut bytes);
                Bytes::from_vec(bytes)
            }
        }
    }

    fn take(&self, length: usize) -> io::Result<Part> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = open.chunk.upgrade().filter(|chunk| length <= chunk.len() - open.used);
        let chunk = match rest {
            Some(chunk) => chunk,
            None => {
                let chunk = Arc::new(chunk(length.max(CHUNK))?);
                *open = Open { chunk: Arc::downgrade(&chunk), used: 0 };
                chunk
            }
        };
        let start = open.used;
        open.used = chunk.len().min((start + length).next_multiple_of(BORDER));
        Ok(Part { chunk, start, length })
    }
}

/// Zeroed memory of its own.
fn chunk(length: usize) -> io::Result<MmapRaw> {
    let map = MmapOptions::new().len(length).no_reserve_swap().map_anon()?;
    #[cfg(target_os = "linux")]
    if let Err(error) = map.advise(memmap2::Advice::HugePage) {
        tracing::debug!(%error, "the system has no huge pages");
    }
    Ok(map.into())
}

impl Part {
    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: the range lies inside the map, which lives as long as `self`; it was zeroed by the system; and it
        // belongs to this value alone, so that nobody writes it while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.chunk.as_ptr().add(self.start), self.length) }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.chunk.as_mut_ptr().add(self.start), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_zeroed_apart_and_on_cache_lines() {
        let arena = Arena::default();
        let made: Vec<Bytes> = (1..50u8)
            .map(|value| {
                arena.bytes(usize::from(value) * 7, |bytes| {
                    assert!(bytes.iter().all(|&byte| byte == 0));
                    bytes.fill(value);
                })
            })
            .collect();
        for (value, bytes) in (1..50u8).zip(&made) {
            assert_eq!(bytes.as_slice(), vec![value; usize::from(value) * 7]);
            assert_eq!(bytes.as_slice().as_ptr() as usize % BORDER, 0);
        }
        assert!(arena.bytes(0, |_| ()).is_empty());
    }

    #[test]
    fn a_chunk_lasts_as_long_as_what_lies_in_it() {
        let arena = Arena::default();
        let first = arena.bytes(100, |bytes| bytes.fill(1));
        let chunk = || arena.open.lock().unwrap().chunk.clone();
        let one = chunk();
        let second = arena.bytes(CHUNK - 50, |bytes| bytes[0] = 2);
        assert!(
            one.upgrade().is_some() && !Weak::ptr_eq(&one, &chunk()),
            "the second does not fit the first"
        );
        drop(first);
        assert!(one.upgrade().is_none());
        let larger = arena.bytes(CHUNK + 1, |bytes| bytes[CHUNK] = 3);
        assert_eq!((second.as_slice()[0], larger.as_slice()[CHUNK]), (2, 3));
        drop((second, larger));
        assert!(chunk().upgrade().is_none());
        assert_eq!(arena.bytes(1, |_| ()).as_slice(), [0]);
    }
}
