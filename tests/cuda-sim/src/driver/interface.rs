//! The exported functions, by the names and signatures of `cuda.h`.
//!
//! A pointer that the caller hands over is trusted as far as C has it: it is null, or it points to what the signature says.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use super::module::Module;
use super::state::{Event, Function, Stream, Work, driver, setting};
use super::status::{
    INVALID_CONTEXT, INVALID_DEVICE, INVALID_HANDLE, INVALID_PTX, INVALID_VALUE, NO_BINARY_FOR_GPU,
    NOT_FOUND, NOT_READY, NOT_SUPPORTED, OUT_OF_MEMORY, SUCCESS, Status, describe,
};
use crate::machine::{Allocation, Grid};

/// Shared memory of a block that a kernel may use without asking.
const SHARED: usize = 48 << 10;
/// Shared memory of a block that it may ask for.
const LARGEST_SHARED: usize = 227 << 10;

thread_local! {
    /// The current context: a device and one.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

fn devices() -> usize {
    setting("CUDA_SIM_DEVICES", 1) as usize
}

fn memory_bytes() -> usize {
    setting("CUDA_SIM_MEMORY", 8 << 30) as usize
}

fn device() -> usize {
    CURRENT.get().saturating_sub(1) as usize
}

/// Gives a result to the caller.
fn put<T>(to: *mut T, value: T) -> Status {
    if to.is_null() {
        return INVALID_VALUE;
    }
    // SAFETY: not null, so the caller says that it is writable.
    unsafe { to.write(value) };
    SUCCESS
}

/// The default streams are all one.
fn stream(handle: u64) -> u64 {
    if handle <= 2 { 0 } else { handle }
}

fn name<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, so the caller says that a zero byte ends it.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(_flags: c_uint) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuDriverGetVersion(version: *mut c_int) -> Status {
    put(version, 13000)
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetCount(count: *mut c_int) -> Status {
    put(count, devices() as c_int)
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGet(to: *mut c_int, ordinal: c_int) -> Status {
    if ordinal < 0 || ordinal as usize >= devices() {
        return INVALID_DEVICE;
    }
    put(to, ordinal)
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetName(to: *mut c_char, length: c_int, _device: c_int) -> Status {
    let text = b"cuda-sim\0";
    if (length as usize) < text.len() {
        return INVALID_VALUE;
    }
    for (place, &byte) in text.iter().enumerate() {
        put(to.wrapping_add(place), byte as c_char);
    }
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceTotalMem_v2(to: *mut usize, _device: c_int) -> Status {
    put(to, memory_bytes())
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid(to: *mut [u8; 16], device: c_int) -> Status {
    put(to, [device as u8; 16])
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid_v2(to: *mut [u8; 16], device: c_int) -> Status {
    put(to, [device as u8; 16])
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetAttribute(to: *mut c_int, attribute: c_int, _device: c_int) -> Status {
    let capability = setting("CUDA_SIM_CAPABILITY", 80) as c_int;
    let value = match attribute {
        1..=3 => 1024,
        4 => 64,
        5 => c_int::MAX,
        6 | 7 => 65535,
        8 => SHARED as c_int,
        9 => 65536,
        10 => 32,
        12 | 82 => 65536,
        13 | 36 => 1_000_000,
        16 => 4,
        39 => 2048,
        41 => 1,
        75 => capability / 10,
        76 => capability % 10,
        81 => (LARGEST_SHARED + 1024) as c_int,
        97 => LARGEST_SHARED as c_int,
        106 => 32,
        _ => 0,
    };
    put(to, value)
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRetain(to: *mut u64, device: c_int) -> Status {
    put(to, device as u64 + 1)
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(_device: c_int) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxReset_v2(_device: c_int) -> Status {
    driver().error = SUCCESS;
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceCanAccessPeer(to: *mut c_int, _device: c_int, _peer: c_int) -> Status {
    put(to, 0)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetCurrent(to: *mut u64) -> Status {
    put(to, CURRENT.get())
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: u64) -> Status {
    if context as usize > devices() {
        return INVALID_CONTEXT;
    }
    CURRENT.set(context);
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetDevice(to: *mut c_int) -> Status {
    put(to, device() as c_int)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetFlags(_flags: c_uint) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> Status {
    driver().drain(None)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> Status {
    put(least, 0);
    put(greatest, 0)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCacheConfig(_config: c_int) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetLimit(_limit: c_int, _value: usize) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuProfilerStart() -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuProfilerStop() -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetLimit(to: *mut usize, _limit: c_int) -> Status {
    put(to, 0)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetCacheConfig(to: *mut c_int) -> Status {
    put(to, 0)
}

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

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreate(to: *mut u64, flags: c_uint) -> Status {
    let mut driver = driver();
    let handle = driver.handle();
    driver.streams.insert(handle, Stream { blocking: flags & 1 == 0, ..Stream::default() });
    put(to, handle)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreateWithPriority(to: *mut u64, flags: c_uint, _priority: c_int) -> Status {
    cuStreamCreate(to, flags)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(handle: u64) -> Status {
    let mut driver = driver();
    let status = driver.drain(Some(handle));
    driver.streams.remove(&handle);
    status
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(handle: u64) -> Status {
    driver().drain(Some(stream(handle)))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamQuery(handle: u64) -> Status {
    driver().drain(Some(stream(handle)))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(handle: u64, event: u64, _flags: c_uint) -> Status {
    let mut driver = driver();
    let Some(found) = driver.events.get(&event) else { return INVALID_HANDLE };
    if let Some(origin) = found.capture {
        if let Some(waiting) = driver.streams.get_mut(&stream(handle)) {
            waiting.capture = Some(origin);
        }
        return SUCCESS;
    }
    let ticket = found.asked;
    driver.submit(stream(handle), Work::Wait { event, ticket })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamBeginCapture_v2(handle: u64, _mode: c_int) -> Status {
    let mut driver = driver();
    let Some(found) = driver.streams.get_mut(&handle) else { return INVALID_HANDLE };
    found.capture = Some(handle);
    driver.captures.insert(handle, Vec::new());
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamEndCapture(handle: u64, to: *mut u64) -> Status {
    let mut driver = driver();
    let Some(work) = driver.captures.remove(&handle) else { return INVALID_VALUE };
    for stream in driver.streams.values_mut().filter(|stream| stream.capture == Some(handle)) {
        stream.capture = None;
    }
    for event in driver.events.values_mut().filter(|event| event.capture == Some(handle)) {
        event.capture = None;
    }
    let graph = driver.handle();
    driver.graphs.insert(graph, work);
    put(to, graph)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamIsCapturing(handle: u64, to: *mut c_int) -> Status {
    let capturing = driver().streams.get(&stream(handle)).is_some_and(|stream| stream.capture.is_some());
    put(to, capturing.into())
}

#[unsafe(no_mangle)]
extern "C" fn cuEventCreate(to: *mut u64, _flags: c_uint) -> Status {
    let mut driver = driver();
    let handle = driver.handle();
    driver.events.insert(handle, Event::default());
    put(to, handle)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: u64) -> Status {
    let mut driver = driver();
    let status = driver.drain_event(event);
    driver.events.remove(&event);
    status
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: u64, handle: u64) -> Status {
    let mut driver = driver();
    let stream = stream(handle);
    let capture = driver.streams.get(&stream).and_then(|stream| stream.capture);
    let Some(found) = driver.events.get_mut(&event) else { return INVALID_HANDLE };
    found.capture = capture;
    if capture.is_some() {
        return SUCCESS;
    }
    found.asked += 1;
    let ticket = found.asked;
    driver.submit(stream, Work::Record { event, ticket })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: u64) -> Status {
    driver().drain_event(event)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: u64) -> Status {
    let mut driver = driver();
    let status = driver.drain_event(event);
    match driver.events.get(&event) {
        Some(found) if found.done < found.asked && status == SUCCESS => NOT_READY,
        Some(_) => status,
        None => INVALID_HANDLE,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime(to: *mut f32, from: u64, until: u64) -> Status {
    let driver = driver();
    let time = |event| driver.events.get(&event).and_then(|event| event.time);
    match (time(from), time(until)) {
        (Some(from), Some(until)) => put(to, until.saturating_duration_since(from).as_secs_f32() * 1000.0),
        _ => NOT_READY,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime_v2(to: *mut f32, from: u64, until: u64) -> Status {
    let driver = driver();
    let time = |event| driver.events.get(&event).and_then(|event| event.time);
    match (time(from), time(until)) {
        (Some(from), Some(until)) => put(to, until.saturating_duration_since(from).as_secs_f32() * 1000.0),
        _ => NOT_READY,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadData(to: *mut u64, image: *const c_char) -> Status {
    let Some(text) = name(image).filter(|text| !text.starts_with('\x7f')) else { return NO_BINARY_FOR_GPU };
    let mut driver = driver();
    match Module::load(text, &mut driver.memory, device()) {
        Ok(module) => {
            let handle = driver.handle();
            driver.modules.insert(handle, module);
            put(to, handle)
        }
        Err(error) => {
            eprintln!("cuda-sim: {error}");
            INVALID_PTX
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadDataEx(
    to: *mut u64,
    image: *const c_char,
    _count: c_uint,
    _options: u64,
    _values: u64,
) -> Status {
    cuModuleLoadData(to, image)
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoad(to: *mut u64, path: *const c_char) -> Status {
    let Some(mut text) = name(path).and_then(|path| std::fs::read(path).ok()) else { return NOT_FOUND };
    text.push(0);
    cuModuleLoadData(to, text.as_ptr().cast())
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: u64) -> Status {
    let mut driver = driver();
    let status = driver.drain(None);
    if let Some(module) = driver.modules.remove(&module) {
        for (address, _) in module.variables.values() {
            driver.memory.free(*address);
        }
    }
    status
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetFunction(to: *mut u64, module: u64, kernel: *const c_char) -> Status {
    let mut driver = driver();
    let Some(found) = driver.modules.get(&module) else { return INVALID_HANDLE };
    let Some(kernel) = name(kernel).and_then(|kernel| found.kernels.get(kernel)).cloned() else {
        return NOT_FOUND;
    };
    let handle = driver.handle();
    driver.functions.insert(handle, Function { kernel, largest_shared: SHARED });
    put(to, handle)
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetGlobal_v2(
    to: *mut u64,
    bytes: *mut usize,
    module: u64,
    variable: *const c_char,
) -> Status {
    let driver = driver();
    let Some(found) = driver.modules.get(&module) else { return INVALID_HANDLE };
    let Some(&(address, size)) = name(variable).and_then(|name| found.variables.get(name)) else {
        return NOT_FOUND;
    };
    if !bytes.is_null() {
        put(bytes, size);
    }
    put(to, address)
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetAttribute(to: *mut c_int, attribute: c_int, function: u64) -> Status {
    let driver = driver();
    let Some(found) = driver.functions.get(&function) else { return INVALID_HANDLE };
    let value = match attribute {
        0 => found.kernel.max_threads as usize,
        1 => found.kernel.shared_bytes,
        3 => found.kernel.local_bytes,
        // Registers are known to NVIDIA's assembler alone.
        4 => 32,
        5 | 6 => 80,
        8 => found.largest_shared - found.kernel.shared_bytes,
        _ => 0,
    };
    put(to, value as c_int)
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(function: u64, attribute: c_int, value: c_int) -> Status {
    let mut driver = driver();
    let Some(found) = driver.functions.get_mut(&function) else { return INVALID_HANDLE };
    if attribute == 8 {
        let asked = value.max(0) as usize + found.kernel.shared_bytes;
        if asked > LARGEST_SHARED {
            return INVALID_VALUE;
        }
        found.largest_shared = asked.max(SHARED);
    }
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetCacheConfig(_function: u64, _config: c_int) -> Status {
    SUCCESS
}

/// A copy of a kernel's arguments, laid out as the kernel reads them.
fn arguments(parameters: &[crate::program::Parameter], pointers: *const *const u8) -> Option<Vec<u8>> {
    let end = parameters.iter().map(|parameter| parameter.offset + parameter.bytes).max().unwrap_or(0);
    let mut bytes = vec![0; end];
    if pointers.is_null() && !parameters.is_empty() {
        return None;
    }
    for (index, parameter) in parameters.iter().enumerate() {
        // SAFETY: the caller says that there is a pointer for each of the kernel's parameters.
        let from = unsafe { pointers.add(index).read() };
        if from.is_null() {
            return None;
        }
        let to = &mut bytes[parameter.offset..parameter.offset + parameter.bytes];
        // SAFETY: the caller says that each points to as many bytes as the parameter has.
        unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
    }
    Some(bytes)
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchKernel(
    function: u64,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    dynamic_shared: c_uint,
    handle: u64,
    pointers: *const *const u8,
    _extra: *const c_void,
) -> Status {
    let mut driver = driver();
    let Some(found) = driver.functions.get(&function) else { return INVALID_HANDLE };
    let kernel = found.kernel.clone();
    let grid = Grid {
        blocks: [grid_x, grid_y, grid_z],
        threads: [block_x, block_y, block_z],
        dynamic_shared: dynamic_shared as usize,
    };
    let threads = grid.threads.iter().map(|&threads| u64::from(threads)).product::<u64>();
    let fits = threads > 0
        && threads <= u64::from(kernel.max_threads)
        && block_z <= 64
        && grid.blocks.iter().all(|&blocks| blocks > 0)
        && grid_x <= i32::MAX as u32
        && grid_y <= 65535
        && grid_z <= 65535
        && kernel.shared_bytes + grid.dynamic_shared <= found.largest_shared;
    if !fits {
        let (name, shared, most) = (&kernel.name, kernel.shared_bytes, found.largest_shared);
        eprintln!(
            "cuda-sim: launch of `{name}` refused: {grid:?}, {shared} bytes of its own shared memory of {most}"
        );
        return INVALID_VALUE;
    }
    let Some(parameters) = arguments(&kernel.parameters, pointers) else { return INVALID_VALUE };
    driver.submit(stream(handle), Work::Launch { kernel, parameters, grid })
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchCooperativeKernel() -> Status {
    NOT_SUPPORTED
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchHostFunc(
    handle: u64,
    function: extern "C" fn(*mut c_void),
    argument: *mut c_void,
) -> Status {
    driver().submit(stream(handle), Work::Call { function, argument: argument.expose_provenance() })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphInstantiateWithFlags(to: *mut u64, graph: u64, _flags: u64) -> Status {
    let mut driver = driver();
    let Some(work) = driver.graphs.get(&graph).cloned() else { return INVALID_HANDLE };
    let handle = driver.handle();
    driver.graphs.insert(handle, work);
    put(to, handle)
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphLaunch(graph: u64, handle: u64) -> Status {
    let mut driver = driver();
    let Some(work) = driver.graphs.get(&graph).cloned() else { return INVALID_HANDLE };
    work.into_iter()
        .map(|work| driver.submit(stream(handle), work))
        .find(|&status| status != SUCCESS)
        .unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphUpload(_graph: u64, _stream: u64) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphDestroy(graph: u64) -> Status {
    driver().graphs.remove(&graph);
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphExecDestroy(graph: u64) -> Status {
    driver().graphs.remove(&graph);
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    to: *mut c_int,
    function: u64,
    threads: c_int,
    dynamic_shared: usize,
) -> Status {
    let driver = driver();
    let Some(found) = driver.functions.get(&function) else { return INVALID_HANDLE };
    let shared = (found.kernel.shared_bytes + dynamic_shared).max(1);
    let by_threads = 2048 / threads.max(1) as usize;
    put(to, by_threads.min(32).min((LARGEST_SHARED + 1024) / shared) as c_int)
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    to: *mut c_int,
    function: u64,
    threads: c_int,
    dynamic_shared: usize,
    _flags: c_uint,
) -> Status {
    cuOccupancyMaxActiveBlocksPerMultiprocessor(to, function, threads, dynamic_shared)
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorName(status: Status, to: *mut *const c_char) -> Status {
    describe(status).map_or(INVALID_VALUE, |(name, _)| put(to, name.as_ptr().cast()))
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorString(status: Status, to: *mut *const c_char) -> Status {
    describe(status).map_or(INVALID_VALUE, |(_, text)| put(to, text.as_ptr().cast()))
}
