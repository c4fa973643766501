//! Unmodified cudarc on the simulated driver, with PTX that NVRTC made of `kernels/kernels.cu` (for compute_80).
//!
//! The loader reads its path when a process begins, so each test runs again in a process of its own that has it.
#![expect(unsafe_code, reason = "a launch trusts that the arguments are the kernel's")]
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaModule, CudaStream, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

/// True in the process that has the simulated driver; elsewhere it starts that process and judges its end.
fn inside(test: &str) -> bool {
    if std::env::var_os("CUDA_SIM_INSIDE").is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let folder = driver_folder(program.parent().unwrap());
    for seed in ["0", "1", "2"] {
        let done = std::process::Command::new(&program)
            .args([test, "--exact", "--nocapture"])
            .env("LD_LIBRARY_PATH", &folder)
            .env("CUDA_SIM_SEED", seed)
            .env("CUDA_SIM_INSIDE", "1")
            .status()
            .unwrap();
        assert!(done.success(), "seed {seed}");
    }
    false
}

/// A folder with the library that cargo built in `built`, under the name that programs look for.
fn driver_folder(built: &Path) -> PathBuf {
    let library = built.join("libcuda_sim.so");
    assert!(library.exists(), "{} is missing", library.display());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda-sim");
    std::fs::create_dir_all(&folder).unwrap();
    // Another test may have made it just now.
    let _ = std::os::unix::fs::symlink(&library, folder.join("libcuda.so"));
    assert_eq!(folder.join("libcuda.so").canonicalize().unwrap(), library.canonicalize().unwrap());
    folder
}

fn open() -> (Arc<CudaStream>, Arc<CudaModule>) {
    let context = CudaContext::new(0).unwrap();
    let module = context.load_module(Ptx::from_src(include_str!("kernels/kernels.ptx"))).unwrap();
    (context.new_stream().unwrap(), module)
}

fn shape(blocks: u32, threads: u32, shared: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: shared }
}

#[test]
fn rows_are_summed_by_shuffles_and_a_barrier() {
    if !inside("rows_are_summed_by_shuffles_and_a_barrier") {
        return;
    }
    let (stream, module) = open();
    let (rows, columns) = (5, 300);
    let values: Vec<f32> = (0..rows * columns).map(|i| (i % 7) as f32).collect();
    let x = stream.clone_htod(&values).unwrap();
    let mut y = stream.alloc_zeros::<f32>(rows).unwrap();
    let kernel = module.load_function("row_sum").unwrap();
    let n = columns as i32;
    // SAFETY: the arguments are those of the kernel.
    unsafe { stream.launch_builder(&kernel).arg(&x).arg(&mut y).arg(&n).launch(shape(5, 128, 16)) }.unwrap();
    let wanted: Vec<f32> = values.chunks(columns).map(|row| row.iter().sum()).collect();
    assert_eq!(stream.clone_dtoh(&y).unwrap(), wanted);
}

#[test]
fn a_missing_barrier_is_a_race() {
    if !inside("a_missing_barrier_is_a_race") {
        return;
    }
    let (stream, module) = open();
    let x = stream.alloc_zeros::<f32>(128).unwrap();
    let mut y = stream.alloc_zeros::<f32>(1).unwrap();
    let kernel = module.load_function("row_sum_without_barrier").unwrap();
    // SAFETY: the arguments are those of the kernel.
    unsafe { stream.launch_builder(&kernel).arg(&x).arg(&mut y).arg(&128).launch(shape(1, 128, 512)) }
        .unwrap();
    let wrong = stream.clone_dtoh(&y).unwrap_err();
    assert!(format!("{wrong:?}").contains("LAUNCH_FAILED"), "{wrong:?}");
}

#[test]
fn an_access_past_the_end_is_an_illegal_address() {
    if !inside("an_access_past_the_end_is_an_illegal_address") {
        return;
    }
    let (stream, module) = open();
    let mut x = stream.alloc_zeros::<f32>(31).unwrap();
    let kernel = module.load_function("scale_past_the_end").unwrap();
    // SAFETY: the simulator checks what the kernel does.
    unsafe { stream.launch_builder(&kernel).arg(&mut x).launch(shape(1, 32, 0)) }.unwrap();
    let wrong = stream.synchronize().unwrap_err();
    assert!(format!("{wrong:?}").contains("ILLEGAL_ADDRESS"), "{wrong:?}");
}

#[test]
fn bins_are_counted_by_atomic_operations() {
    if !inside("bins_are_counted_by_atomic_operations") {
        return;
    }
    let (stream, module) = open();
    let values: Vec<u8> = (0..5000u32).map(|i| (i * i % 16) as u8).collect();
    let v = stream.clone_htod(&values).unwrap();
    let mut bins = stream.alloc_zeros::<u32>(16).unwrap();
    let kernel = module.load_function("count").unwrap();
    // SAFETY: the arguments are those of the kernel.
    unsafe { stream.launch_builder(&kernel).arg(&mut bins).arg(&v).arg(&5000).launch(shape(3, 96, 0)) }
        .unwrap();
    let wanted: Vec<u32> = (0..16).map(|bin| values.iter().filter(|&&v| v == bin).count() as u32).collect();
    assert_eq!(stream.clone_dtoh(&bins).unwrap(), wanted);
}

/// The product of a tile by the kernel of this name, and what it should be.
fn product(name: &str) -> (Vec<f32>, Vec<f32>) {
    let (stream, module) = open();
    let k = 64;
    let number = |i: usize| ((i * 37 % 23) as f32 - 11.0) / 4.0;
    let (a, b): (Vec<f32>, Vec<f32>) =
        ((0..16 * k).map(number).collect(), (0..8 * k).map(|i| number(i + 5)).collect());
    let brains =
        |values: &[f32]| values.iter().map(|&v| half::bf16::from_f32(v).to_bits()).collect::<Vec<_>>();
    let (x, y) = (stream.clone_htod(&brains(&a)).unwrap(), stream.clone_htod(&brains(&b)).unwrap());
    let mut c = stream.alloc_zeros::<f32>(128).unwrap();
    let kernel = module.load_function(name).unwrap();
    let depth = k as i32;
    // SAFETY: the arguments are those of the kernel.
    unsafe { stream.launch_builder(&kernel).arg(&x).arg(&y).arg(&mut c).arg(&depth).launch(shape(1, 32, 0)) }
        .unwrap();
    let dot = |m: usize, n: usize| (0..k).map(|i| a[m * k + i] * b[n * k + i]).sum();
    (stream.clone_dtoh(&c).unwrap(), (0..128).map(|i| dot(i / 8, i % 8)).collect())
}

#[test]
fn a_tile_is_multiplied_by_tensor_instructions() {
    if !inside("a_tile_is_multiplied_by_tensor_instructions") {
        return;
    }
    // All numbers are multiples of 1/16 below 2^20: exact in any order.
    let (found, wanted) = product("multiply");
    assert_eq!(found, wanted);
}

#[test]
fn a_copy_that_is_not_waited_for_leaves_poison() {
    if !inside("a_copy_that_is_not_waited_for_leaves_poison") {
        return;
    }
    let (found, wanted) = product("multiply_without_wait");
    assert_ne!(found, wanted);
    assert!(found.iter().any(|value| value.is_nan()));
}

#[test]
fn exponents_come_as_f16() {
    if !inside("exponents_come_as_f16") {
        return;
    }
    let (stream, module) = open();
    let values: Vec<f32> = (0..100).map(|i| (i as f32 - 50.0) / 8.0).collect();
    let x = stream.clone_htod(&values).unwrap();
    let mut y = stream.alloc_zeros::<u16>(100).unwrap();
    let kernel = module.load_function("exponent").unwrap();
    // SAFETY: the arguments are those of the kernel.
    unsafe { stream.launch_builder(&kernel).arg(&x).arg(&mut y).arg(&100).launch(shape(4, 32, 0)) }.unwrap();
    for (found, value) in stream.clone_dtoh(&y).unwrap().iter().zip(&values) {
        let (found, wanted) = (half::f16::from_bits(*found), value.exp());
        assert!((found.to_f32() - wanted).abs() <= wanted / 1024.0 + 1e-7, "{value}: {found} {wanted}");
    }
}
