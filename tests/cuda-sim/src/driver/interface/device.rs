//! Devices and contexts.

use super::*;

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
