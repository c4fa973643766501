//! Number formats of the key-value store.

/// How keys and values are stored. The default is what serving uses; scoring and evaluation ask for [`Self::F32`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheFormat {
    /// As computed.
    F32,
    /// IEEE half precision, half the memory. Writing rounds to nearest, ties to even; what lies beyond ±65504, the
    /// infinities included, becomes ±65504, so that one outlier does not turn a whole row of attention into NaN.
    #[default]
    F16,
    /// ggml's `q8_0`, a good quarter of the memory: 32 components of a head share a half as scale and are whole numbers
    /// from −127 to 127. The scale is that of the largest component, which comes back to within 2⁻¹¹ of itself; the others
    /// are off by at most half the scale. Heads must divide into 32 components.
    Q8_0,
}

/// Components of a head that share a scale in [`CacheFormat::Q8_0`].
pub(crate) const SCALED: usize = 32;

impl CacheFormat {
    /// Every format, from most to least memory.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8_0];

    /// Bytes that `values` values take, whole heads of them; scales count.
    pub const fn bytes(self, values: usize) -> usize {
        match self {
            Self::F32 => values * size_of::<f32>(),
            Self::F16 => values * size_of::<u16>(),
            Self::Q8_0 => values + values / SCALED * size_of::<u16>(),
        }
    }

    /// What the components of a head must be a multiple of.
    pub const fn head_multiple(self) -> usize {
        match self {
            Self::F32 | Self::F16 => 1,
            Self::Q8_0 => SCALED,
        }
    }

    /// The name that options and messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }
}

impl std::fmt::Display for CacheFormat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
