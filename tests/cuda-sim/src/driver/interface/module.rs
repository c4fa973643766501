//! Modules, functions and launches.

use super::*;

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
