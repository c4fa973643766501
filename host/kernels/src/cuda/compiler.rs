//! NVRTC: from a program's source to machine code of the device.
//!
//! What was compiled is kept on disk, in a file whose name has a hash of source, options and compiler version. A driver
//! that runs PTX only (a simulated one) is served with `ESPALIER_CUDA_CODE=ptx`.

use std::ffi::{CStr, CString, c_char};
use std::fs;
use std::path::{Path, PathBuf};

use cudarc::nvrtc::{result, sys};
use sha2::{Digest, Sha256};

use super::program::Program;
use crate::KernelError;

/// The folder of compiled kernels; `$XDG_CACHE_HOME/espalier/cuda` or `~/.cache/espalier/cuda` where it isn't set.
const CACHE_VARIABLE: &str = "ESPALIER_CUDA_CACHE";
/// `cubin` or `ptx`.
const CODE_VARIABLE: &str = "ESPALIER_CUDA_CODE";

/// Compiled code as the driver takes it: a CUBIN, or PTX with a zero at its end.
pub(super) struct Image(pub(super) Vec<u8>);

/// The code of `program` for architecture `architecture` (`90` for compute capability 9.0), compiled or found on disk.
pub(super) fn compile(program: Program, architecture: &str) -> Result<Image, KernelError> {
    // SAFETY: looks for the library and loads it; NVRTC has no other conditions.
    if !unsafe { sys::is_culib_present() } {
        let reason = "the CUDA compiler (libnvrtc) was not found on this machine".to_owned();
        return Err(KernelError::NoDevice { reason });
    }
    let is_ptx = std::env::var(CODE_VARIABLE).is_ok_and(|code| code == "ptx");
    let kind = if is_ptx { "compute" } else { "sm" };
    let options = [
        format!("--gpu-architecture={kind}_{architecture}"),
        "--std=c++17".to_owned(),
        "-default-device".to_owned(),
    ];
    let source = program.source();
    let place = cache_folder().map(|folder| {
        let hash = hash(&source, &options);
        folder.join(format!("{}-{kind}_{architecture}-{hash}", program.name()))
    });
    if let Some(found) =
        place.as_deref().and_then(|place| fs::read(place).ok()).filter(|code| !code.is_empty())
    {
        return Ok(Image(found));
    }
    let code = run(program, &source, &options, is_ptx)?;
    if let Some(place) = place
        && let Err(error) = keep(&place, &code)
    {
        tracing::warn!(%error, file = %place.display(), "a compiled CUDA kernel could not be kept on disk");
    }
    Ok(Image(code))
}

fn cache_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(CACHE_VARIABLE)
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("espalier/cuda")))
        .or_else(|| set("HOME").map(|folder| folder.join(".cache/espalier/cuda")))
}

fn hash(source: &str, options: &[String]) -> String {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both places can be written; the library is there.
    let _ = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    let mut hasher = Sha256::new();
    hasher.update(format!("{major}.{minor}\0{}\0{source}", options.join("\0")));
    hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Writes beside and renames, so that no other process reads half of it.
fn keep(place: &Path, code: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = place.with_extension(std::process::id().to_string());
    fs::write(&beside, code)?;
    fs::rename(beside, place)
}

/// A program inside NVRTC.
struct Compilation(sys::nvrtcProgram);

impl Drop for Compilation {
    fn drop(&mut self) {
        // SAFETY: made by `create_program`, destroyed once. A failure leaks it, no more.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn run(program: Program, source: &str, options: &[String], is_ptx: bool) -> Result<Vec<u8>, KernelError> {
    let name = program.name();
    let refused = |reason: String| KernelError::Device { action: "compiling a CUDA kernel", reason };
    let source = CString::new(source).map_err(|error| refused(error.to_string()))?;
    let label = CString::new(format!("{name}.cu")).map_err(|error| refused(error.to_string()))?;
    let compilation = result::create_program(&source, Some(label.as_c_str()))
        .map_err(|error| refused(format!("{name}: {error:?}")))?;
    let compilation = Compilation(compilation);
    // SAFETY: the program lives until the end of this function.
    if let Err(error) = unsafe { result::compile_program(compilation.0, options) } {
        // SAFETY: as above.
        let log = unsafe { result::get_program_log(compilation.0) }.unwrap_or_default();
        return Err(refused(format!("{name}: {error:?}: {}", text(&log))));
    }
    if is_ptx {
        // SAFETY: as above; the program was compiled.
        let code = unsafe { result::get_ptx(compilation.0) };
        let code = code.map_err(|error| refused(format!("{name}: {error:?}")))?;
        return Ok(code.into_iter().map(|byte| byte as u8).collect());
    }
    let mut size = 0;
    // SAFETY: as above; the place can be written.
    unsafe { sys::nvrtcGetCUBINSize(compilation.0, &raw mut size) }
        .result()
        .map_err(|error| refused(format!("{name}: {error:?}")))?;
    let mut code = vec![0u8; size];
    // SAFETY: the buffer has the size that NVRTC asked for.
    unsafe { sys::nvrtcGetCUBIN(compilation.0, code.as_mut_ptr().cast()) }
        .result()
        .map_err(|error| refused(format!("{name}: {error:?}")))?;
    Ok(code)
}

fn text(log: &[c_char]) -> String {
    let bytes: Vec<u8> = log.iter().map(|byte| *byte as u8).collect();
    CStr::from_bytes_until_nul(&bytes)
        .map_or_else(|_| String::new(), |log| log.to_string_lossy().into_owned())
}
