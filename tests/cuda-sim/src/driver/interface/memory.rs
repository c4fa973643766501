//! Memory: reserved, copied and filled.

use super::*;

#[unsafe(no_mangle)]
extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Status {
    let used = driver().memory.used(device());
    put(free, memory_bytes().saturating_sub(used));
    put(total, memory_bytes())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAlloc_v2(to: *mut u64, bytes: usize) -> Status {
    let mut driver = driver();
    if bytes == 0 {
        return INVALID_VALUE;
    }
    if driver.memory.used(device()).saturating_add(bytes) > memory_bytes() {
        return OUT_OF_MEMORY;
    }
    let allocation = Allocation { bytes, device: device(), writable: true, pinned: false };
    driver.memory.allocate(allocation).map_or(OUT_OF_MEMORY, |address| put(to, address))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: u64) -> Status {
    let mut driver = driver();
    let status = driver.drain(None);
    if !driver.memory.free(address) {
        return INVALID_VALUE;
    }
    status
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocAsync(to: *mut u64, bytes: usize, _stream: u64) -> Status {
    cuMemAlloc_v2(to, bytes)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(address: u64, _stream: u64) -> Status {
    cuMemFree_v2(address)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostAlloc(to: *mut u64, bytes: usize, _flags: c_uint) -> Status {
    let allocation = Allocation { bytes, device: device(), writable: true, pinned: true };
    driver().memory.allocate(allocation).map_or(OUT_OF_MEMORY, |address| put(to, address))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocHost_v2(to: *mut u64, bytes: usize) -> Status {
    cuMemHostAlloc(to, bytes, 0)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeHost(address: u64) -> Status {
    cuMemFree_v2(address)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostGetDevicePointer_v2(to: *mut u64, address: u64, _flags: c_uint) -> Status {
    put(to, address)
}

/// Copies that wait until they are done.
fn copy_now(to: u64, from: u64, bytes: usize) -> Status {
    let mut driver = driver();
    let status = driver.submit(0, Work::Copy { to, from, bytes });
    if status != SUCCESS {
        return status;
    }
    driver.drain(Some(0))
}

/// Copies from the host. What isn't pinned is read at once, as on hardware.
fn copy_in(to: u64, from: u64, bytes: usize, handle: u64) -> Status {
    let mut driver = driver();
    if driver.memory.find(from).is_some() {
        return driver.submit(stream(handle), Work::Copy { to, from, bytes });
    }
    let mut taken = vec![0; bytes];
    // SAFETY: the caller says that the host's memory is readable.
    unsafe { crate::machine::raw_read(from, &mut taken) };
    driver.submit(stream(handle), Work::Write { to, bytes: taken })
}

/// Copies to the host. Into what isn't pinned it waits, as on hardware.
fn copy_out(to: u64, from: u64, bytes: usize, handle: u64) -> Status {
    let mut driver = driver();
    let stream = stream(handle);
    let status = driver.submit(stream, Work::Copy { to, from, bytes });
    let captured = driver.streams.get(&stream).is_some_and(|stream| stream.capture.is_some());
    if status != SUCCESS || captured || driver.memory.find(to).is_some() {
        return status;
    }
    driver.drain(Some(stream))
}

fn fill(to: u64, pattern: &[u8], count: usize, handle: u64) -> Status {
    driver().submit(stream(handle), Work::Fill { to, pattern: pattern.to_vec(), count })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoD_v2(to: u64, from: u64, bytes: usize) -> Status {
    copy_now(to, from, bytes)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoH_v2(to: u64, from: u64, bytes: usize) -> Status {
    copy_now(to, from, bytes)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) -> Status {
    copy_now(to, from, bytes)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) -> Status {
    copy_in(to, from, bytes, stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) -> Status {
    copy_out(to, from, bytes, stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, handle: u64) -> Status {
    driver().submit(stream(handle), Work::Copy { to, from, bytes })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyPeerAsync(
    to: u64,
    _to_context: u64,
    from: u64,
    _from_context: u64,
    bytes: usize,
    handle: u64,
) -> Status {
    driver().submit(stream(handle), Work::Copy { to, from, bytes })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8_v2(to: u64, value: u8, count: usize) -> Status {
    fill(to, &value.to_le_bytes(), count, 0)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: u64) -> Status {
    fill(to, &value.to_le_bytes(), count, stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD16_v2(to: u64, value: u16, count: usize) -> Status {
    fill(to, &value.to_le_bytes(), count, 0)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD16Async(to: u64, value: u16, count: usize, stream: u64) -> Status {
    fill(to, &value.to_le_bytes(), count, stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD32_v2(to: u64, value: c_uint, count: usize) -> Status {
    fill(to, &value.to_le_bytes(), count, 0)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD32Async(to: u64, value: c_uint, count: usize, stream: u64) -> Status {
    fill(to, &value.to_le_bytes(), count, stream)
}
