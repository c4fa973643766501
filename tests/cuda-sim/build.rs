//! Names the library `libcuda.so` to the loader. With the name of NVIDIA's own, `libcuda.so.1`, NVRTC would take it for
//! the real driver and ask it for tables that it doesn't have.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
}
