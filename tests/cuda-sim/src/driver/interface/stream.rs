//! Streams, and events between them.

use super::*;

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
