//! Which vector instructions this processor and operating system offer.

/// Instruction sets that kernels are compiled for, from least to most.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum InstructionSet {
    /// What every processor of the target has.
    Portable,
    /// AVX2, FMA and F16C (x86-64-v3).
    Avx2,
    /// AVX-512 F, BW, DQ and VL (x86-64-v4).
    Avx512,
    /// `Avx512` with VNNI, the 8-bit dot products.
    Avx512Vnni,
    /// `Avx512Vnni` with VBMI, bf16 conversions and AMX, the tile products of bf16.
    Amx,
}

impl InstructionSet {
    /// The best one here.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            let vnni = avx2 && avx512 && is_x86_feature_detected!("avx512vnni");
            if vnni && super::amx::supported() {
                return Self::Amx;
            }
            if vnni {
                return Self::Avx512Vnni;
            }
            if avx2 && avx512 {
                return Self::Avx512;
            }
            if avx2 {
                return Self::Avx2;
            }
        }
        Self::Portable
    }
}

impl std::fmt::Display for InstructionSet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Amx => "amx",
        })
    }
}

/// Compiles one portable body for each instruction set and picks among them at run time.
///
/// `versions! { fn name(a: A, b: B) -> R = body; }` makes `fn name(set: InstructionSet, a: A, b: B) -> R`. The body
/// must be `#[inline(always)]` so that it takes on the features of its caller. A second body, if given, is the one for
/// AVX-512, whose twice as many, twice as wide registers allow larger tiles; of three, the second is the one for AVX2.
macro_rules! versions {
    ($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:path;) => {
        crate::cpu::instruction_set::versions! {
            $(#[$attribute])* fn $name($($argument: $type),*) = $body, $body, $body;
        }
    };
    (
        $(#[$attribute:meta])*
        fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:path, $wide:path;
    ) => {
        crate::cpu::instruction_set::versions! {
            $(#[$attribute])* fn $name($($argument: $type),*) = $body, $body, $wide;
        }
    };
    (
        $(#[$attribute:meta])*
        fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:path, $avx2:path, $wide:path;
    ) => {
        $(#[$attribute])*
        fn $name(set: crate::cpu::InstructionSet, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($argument: $type),*) {
                $avx2($($argument),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($argument: $type),*) {
                $wide($($argument),*);
            }
            match set {
                // SAFETY: an `InstructionSet` above `Portable` only comes from detection on this machine.
                #[cfg(target_arch = "x86_64")]
                set if set >= crate::cpu::InstructionSet::Avx512 => unsafe { avx512($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                crate::cpu::InstructionSet::Avx2 => unsafe { avx2($($argument),*) },
                _ => $body($($argument),*),
            }
        }
    };
}
pub(crate) use versions;
