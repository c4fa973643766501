//! Whether this processor has AMX and the operating system lets this process use it.

use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// Asks once. The permission is the process's: threads that start later have it too.
pub(in crate::cpu) fn supported() -> bool {
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(|| {
        let converts = is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vbmi");
        converts && has_tiles() && permitted()
    })
}

/// AMX-TILE and AMX-BF16.
fn has_tiles() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    __cpuid_count(7, 0).edx & (BF16 | TILE) == BF16 | TILE
}

/// Linux gives the registers of tiles only to processes that ask for them.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and changes nothing but the process's permission.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}
