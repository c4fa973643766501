//! Graphs, occupancy and the names of errors.

use super::*;

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
