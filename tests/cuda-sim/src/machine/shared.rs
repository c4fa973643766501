//! Shared memory of a block, with a shadow that tells races.
//!
//! Each byte remembers who wrote and read it last and when. Each warp has a vector of times: up to when it has seen the
//! other warps' accesses, which barriers bring forward. An access races with an earlier one by another thread if the
//! thread's warp has not seen the time of that. Two writes of the same value are no race: the order doesn't matter.

use super::fault::Cause;
use super::memory::POISON;
use crate::program::{AccessSpace, WARP};

/// Up to when a warp has seen each warp's accesses; its own entry is its last synchronisation.
pub(crate) type Times = [u32; WARP];

const NOBODY: u16 = u16::MAX;
/// Of a writer: it was an atomic operation.
const ATOMIC: u16 = 1 << 15;
/// Of a reader: more than one lane.
const MANY: u8 = u8::MAX;

#[derive(Clone, Copy)]
struct Shadow {
    written: u32,
    read: u32,
    /// The warps that read since.
    readers: u32,
    /// Warp and lane.
    writer: u16,
    /// The lane, if a single one of a single warp.
    reader: u8,
}

const UNTOUCHED: Shadow = Shadow { written: 0, read: 0, readers: 0, writer: NOBODY, reader: MANY };

/// Who accesses.
#[derive(Clone, Copy)]
pub(crate) struct Accessor<'a> {
    pub(crate) warp: usize,
    pub(crate) lane: usize,
    pub(crate) times: &'a Times,
}

/// A kind of access.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Atomic,
}

impl Access {
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Atomic => "atomic operation",
        }
    }
}

/// The shared memory of the block that runs.
pub(crate) struct Shared {
    bytes: Vec<u8>,
    shadows: Vec<Shadow>,
    time: u32,
    /// When the block began: what was before it is of another block.
    began: u32,
}

impl Shared {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { bytes: vec![POISON; bytes], shadows: vec![UNTOUCHED; bytes], time: 1, began: 1 }
    }

    /// Makes it that of a new block.
    pub(crate) fn begin(&mut self) -> u32 {
        self.bytes.fill(POISON);
        self.began = self.tick();
        self.began
    }

    /// A time later than every earlier one.
    pub(crate) fn tick(&mut self) -> u32 {
        self.time += 1;
        if self.time == u32::MAX {
            self.shadows.fill(UNTOUCHED);
            self.time = 1;
        }
        self.time
    }

    /// The bytes of an access, after all checks.
    pub(crate) fn access(
        &mut self,
        who: Accessor<'_>,
        address: u64,
        bytes: usize,
        access: Access,
        value: Option<&[u8]>,
    ) -> Result<&mut [u8], Cause> {
        let verb = access.verb();
        if !address.is_multiple_of(bytes as u64) {
            return Err(Cause::Misaligned { verb, bytes, address });
        }
        let end = address.saturating_add(bytes as u64);
        if end > self.bytes.len() as u64 {
            let nearest = format!("; the block has {} bytes", self.bytes.len());
            return Err(Cause::OutOfBounds { verb, bytes, address, space: AccessSpace::Shared, nearest });
        }
        let from = address as usize;
        for index in 0..bytes {
            let same = value.is_some_and(|value| value[index] == self.bytes[from + index]);
            let began = self.began;
            self.shadows[from + index].check(who, access, same, began).map_err(|(other, other_verb)| {
                Cause::Race { verb, address: (from + index) as u64, other, other_verb }
            })?;
        }
        Ok(&mut self.bytes[from..from + bytes])
    }

    /// The bytes without any check but that of their place, which an access has made before.
    pub(crate) fn raw(&mut self, address: u64, bytes: usize) -> Option<&mut [u8]> {
        self.bytes.get_mut(address as usize..address as usize + bytes)
    }
}

impl Shadow {
    fn check(
        &mut self,
        who: Accessor<'_>,
        access: Access,
        same: bool,
        began: u32,
    ) -> Result<(), (String, &'static str)> {
        let own = (who.warp << 5 | who.lane) as u16;
        let now = who.times[who.warp];
        let unseen =
            |warp: usize, time: u32| if warp == who.warp { time >= now } else { time > who.times[warp] };
        if self.written >= began && self.writer != NOBODY {
            let writer = self.writer & !ATOMIC;
            let both_atomic = self.writer & ATOMIC != 0 && access == Access::Atomic;
            let harmless = writer == own || both_atomic || same && access == Access::Write;
            if !harmless && unseen(usize::from(writer >> 5), self.written) {
                return Err((format!("warp {} lane {}", writer >> 5, writer & 31), "wrote"));
            }
        }
        let read = if self.read >= began { self.readers } else { 0 };
        let unseen_readers =
            read != 0 && (0..WARP).any(|warp| read >> warp & 1 != 0 && unseen(warp, self.read));
        if access == Access::Read {
            let alone =
                read == 0 || !unseen_readers || read == 1 << who.warp && self.reader == who.lane as u8;
            self.reader = if alone { who.lane as u8 } else { MANY };
            self.readers = if unseen_readers { read } else { 0 } | 1 << who.warp;
            self.read = now;
            return Ok(());
        }
        let own_alone = read == 1 << who.warp && self.reader == who.lane as u8;
        if unseen_readers && !own_alone && !same {
            return Err((format!("lanes of the warps {read:#x}"), "read"));
        }
        self.written = now;
        self.writer = own | if access == Access::Atomic { ATOMIC } else { 0 };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(shared: &mut Shared) -> Times {
        [shared.begin(); WARP]
    }

    #[test]
    fn a_read_of_another_threads_write_needs_a_barrier() {
        let mut shared = Shared::new(64);
        let mut seen = times(&mut shared);
        let who = |warp, lane, times| Accessor { warp, lane, times };
        seen[0] = shared.tick();
        let mut other = seen;
        other[0] -= 1;
        assert!(shared.access(who(0, 0, &seen), 0, 4, Access::Write, None).is_ok());
        assert!(shared.access(who(0, 0, &seen), 0, 4, Access::Read, None).is_ok());
        assert!(matches!(shared.access(who(0, 1, &seen), 0, 4, Access::Read, None), Err(Cause::Race { .. })));
        assert!(matches!(
            shared.access(who(1, 0, &other), 0, 4, Access::Read, None),
            Err(Cause::Race { .. })
        ));
        assert!(shared.access(who(1, 0, &seen), 0, 4, Access::Read, None).is_ok());
        assert!(matches!(
            shared.access(who(0, 0, &seen), 62, 4, Access::Read, None),
            Err(Cause::Misaligned { .. })
        ));
        assert!(matches!(
            shared.access(who(0, 0, &seen), 64, 4, Access::Read, None),
            Err(Cause::OutOfBounds { .. })
        ));
    }

    #[test]
    fn atomic_operations_do_not_race_with_each_other() {
        let mut shared = Shared::new(4);
        let seen = times(&mut shared);
        for lane in 0..3 {
            let who = Accessor { warp: 0, lane, times: &seen };
            assert!(shared.access(who, 0, 4, Access::Atomic, None).is_ok());
        }
        let who = Accessor { warp: 0, lane: 5, times: &seen };
        assert!(shared.access(who, 0, 4, Access::Read, None).is_err());
    }
}
