//! Memory of the devices: allocations of exact sizes, poisoned when fresh, kept from reuse when freed.
//!
//! A device address is the address of the bytes on the host, so that what a kernel and a copy see is one memory. Every
//! access is looked up first, which is what makes the pointer valid.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::{BTreeMap, VecDeque};

use super::fault::Cause;
use crate::program::AccessSpace;

/// What a byte holds that was never written: as any float it is no number, as an index it is far out.
pub const POISON: u8 = 0xff;

/// Alignment of what `cuMemAlloc` gives.
const ALIGN: usize = 256;

/// Freed memory that is kept so that later uses of it are recognised.
const QUARANTINE: usize = 256 << 20;

/// Memory behind a device address.
#[derive(Clone, Copy, Debug)]
pub struct Allocation {
    /// As asked for.
    pub bytes: usize,
    /// The device that it counts for.
    pub device: usize,
    /// Whether kernels may write it.
    pub writable: bool,
    /// Whether it is pinned memory of the host.
    pub pinned: bool,
}

/// All allocations.
#[derive(Debug, Default)]
pub struct Memory {
    live: BTreeMap<u64, Allocation>,
    freed: BTreeMap<u64, usize>,
    order: VecDeque<u64>,
    freed_bytes: usize,
}

impl Memory {
    /// Takes memory; none where the host has none left.
    pub fn allocate(&mut self, allocation: Allocation) -> Option<u64> {
        let layout = layout(allocation.bytes)?;
        // SAFETY: the layout's size is not zero.
        let pointer = unsafe { alloc(layout) };
        if pointer.is_null() {
            return None;
        }
        // SAFETY: `pointer` was just given for `layout.size()` bytes.
        unsafe { pointer.write_bytes(POISON, layout.size()) };
        let address = pointer.expose_provenance() as u64;
        self.live.insert(address, allocation);
        Some(address)
    }

    /// Gives memory back. False if nothing begins there.
    pub fn free(&mut self, address: u64) -> bool {
        let Some(allocation) = self.live.remove(&address) else { return false };
        self.freed.insert(address, allocation.bytes);
        self.order.push_back(address);
        self.freed_bytes += allocation.bytes;
        while self.freed_bytes > QUARANTINE {
            let Some(oldest) = self.order.pop_front() else { break };
            let bytes = self.freed.remove(&oldest).unwrap_or(0);
            self.freed_bytes -= bytes;
            if let Some(layout) = layout(bytes) {
                // SAFETY: `oldest` came from `allocate` with the layout of these bytes, and is in no table any more.
                unsafe { dealloc(std::ptr::with_exposed_provenance_mut(oldest as usize), layout) };
            }
        }
        true
    }

    /// The allocation that has the address, and where it begins.
    pub fn find(&self, address: u64) -> Option<(u64, Allocation)> {
        let (&base, &allocation) = self.live.range(..=address).next_back()?;
        (address - base < allocation.bytes.max(1) as u64).then_some((base, allocation))
    }

    /// Bytes of a device that are taken.
    pub fn used(&self, device: usize) -> usize {
        let counted = |each: &&Allocation| each.device == device && !each.pinned;
        self.live.values().filter(counted).map(|each| each.bytes).sum()
    }

    /// The first and last-plus-one address of the allocation that an access lies in.
    pub fn range(&self, address: u64, bytes: usize, verb: &'static str) -> Result<(u64, u64), Cause> {
        if let Some((base, allocation)) = self.find(address) {
            let end = base + allocation.bytes as u64;
            if address + bytes as u64 <= end {
                if verb != "read" && !allocation.writable {
                    return Err(Cause::ReadOnly { bytes, address });
                }
                return Ok((base, end));
            }
        }
        let before = self.freed.range(..=address).next_back();
        if before.is_some_and(|(&base, &length)| address - base < length as u64) {
            return Err(Cause::Freed { verb, bytes, address });
        }
        let nearest = match self.live.range(..=address).next_back() {
            Some((base, allocation)) if address - base < 1 << 20 => {
                format!("; {} bytes after the beginning of one of {} bytes", address - base, allocation.bytes)
            }
            _ => String::new(),
        };
        Err(Cause::OutOfBounds { verb, bytes, address, space: AccessSpace::Global, nearest })
    }

    /// Reads bytes of one allocation.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Cause> {
        self.range(address, into.len(), "read")?;
        // SAFETY: the bytes lie in a live allocation, which nothing else refers to.
        unsafe { raw_read(address, into) };
        Ok(())
    }

    /// Writes bytes of one allocation, also of one that kernels only read.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), Cause> {
        match self.range(address, from.len(), "write") {
            Ok(_) | Err(Cause::ReadOnly { .. }) => {}
            Err(cause) => return Err(cause),
        }
        // SAFETY: the bytes lie in a live allocation, which nothing else refers to.
        unsafe { raw_write(address, from) };
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let live = self.live.iter().map(|(&address, allocation)| (address, allocation.bytes));
        for (address, bytes) in live.chain(self.freed.iter().map(|(&address, &bytes)| (address, bytes))) {
            if let Some(layout) = layout(bytes) {
                // SAFETY: each address came from `allocate` with the layout of its bytes, and is freed once.
                unsafe { dealloc(std::ptr::with_exposed_provenance_mut(address as usize), layout) };
            }
        }
    }
}

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.max(1), ALIGN).ok()
}

/// Copies from an address.
///
/// # Safety
/// All bytes must lie in one live allocation.
pub(crate) unsafe fn raw_read(address: u64, into: &mut [u8]) {
    let from: *const u8 = std::ptr::with_exposed_provenance(address as usize);
    // SAFETY: the caller says that the source is valid; `into` is memory of its own.
    unsafe { std::ptr::copy(from, into.as_mut_ptr(), into.len()) };
}

/// Copies to an address.
///
/// # Safety
/// All bytes must lie in one live allocation.
pub(crate) unsafe fn raw_write(address: u64, from: &[u8]) {
    let to: *mut u8 = std::ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: the caller says that the target is valid; `from` is memory of its own.
    unsafe { std::ptr::copy(from.as_ptr(), to, from.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Allocation = Allocation { bytes: 10, device: 0, writable: true, pinned: false };

    #[test]
    fn sizes_are_exact_and_freed_memory_is_known() {
        let mut memory = Memory::default();
        let address = memory.allocate(PLAIN).unwrap();
        let mut two = [0; 2];
        memory.read(address + 8, &mut two).unwrap();
        assert_eq!(two, [POISON; 2]);
        assert!(matches!(memory.read(address + 9, &mut two), Err(Cause::OutOfBounds { bytes: 2, .. })));
        assert!(memory.free(address));
        assert!(!memory.free(address));
        assert!(matches!(memory.read(address, &mut two), Err(Cause::Freed { .. })));
    }
}
