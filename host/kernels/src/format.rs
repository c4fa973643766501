//! Weight formats: the byte layouts of GGUF (ggml) blocks.

use crate::KernelError;

/// How the values of a matrix row are stored. Layouts are ggml's, little-endian.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightFormat {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    Bf16,
    /// 32 values: f16 scale, 16 bytes of nibbles; `d·(q−8)`.
    Q4_0,
    /// 32 values: f16 scale, f16 minimum, 16 bytes of nibbles; `d·q + m`.
    Q4_1,
    /// 32 values: f16 scale, 32 fifth bits, 16 bytes of nibbles; `d·(q−16)`.
    Q5_0,
    /// 32 values: f16 scale, f16 minimum, 32 fifth bits, 16 bytes of nibbles; `d·q + m`.
    Q5_1,
    /// 32 values: f16 scale, 32 signed bytes; `d·q`.
    Q8_0,
    /// 256 values in 8 groups of 32 with 6-bit scales and minima; `d·s·q − dmin·m`.
    Q4K,
    /// As `Q4K` with a fifth bit.
    Q5K,
    /// 256 values in 16 groups of 16 with 8-bit scales; `d·s·(q−32)`.
    Q6K,
    /// 32 values: an E8M0 scale byte, then 16 bytes of E2M1 codes (low nibbles are values 0–15).
    Mxfp4,
}

impl WeightFormat {
    /// Every format, in declaration order.
    pub const ALL: [Self; 12] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Mxfp4,
    ];

    /// Values in one block (1 for the plain floats).
    pub const fn block_values(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Mxfp4 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::Mxfp4 => 17,
        }
    }

    /// Bytes of a row of `columns` values.
    ///
    /// # Errors
    /// When the row does not divide into blocks or its size overflows.
    pub fn row_bytes(self, columns: usize) -> Result<usize, KernelError> {
        let block = self.block_values();
        if !columns.is_multiple_of(block) {
            return Err(KernelError::RaggedRow { format: self, columns, block });
        }
        (columns / block).checked_mul(self.block_bytes()).ok_or_else(|| KernelError::Shape {
            what: "row",
            reason: format!("{columns} values overflow the address space"),
        })
    }

    /// The name that files and reports use: `f32`, `q4_1`, `q4_k`, `mxfp4`, …
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::Mxfp4 => "mxfp4",
        }
    }

    /// The format of that name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }
}

impl std::fmt::Display for WeightFormat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for format in WeightFormat::ALL {
            assert_eq!(WeightFormat::parse(format.name()), Some(format));
            assert_eq!(WeightFormat::parse(&format.name().to_uppercase()), Some(format));
        }
        assert_eq!(WeightFormat::parse("q2_k"), None);
    }

    #[test]
    fn ragged_rows_are_refused() {
        assert_eq!(WeightFormat::Q4_1.row_bytes(576).unwrap(), 360);
        assert!(matches!(WeightFormat::Q4K.row_bytes(576), Err(KernelError::RaggedRow { block: 256, .. })));
        assert!(WeightFormat::F32.row_bytes(usize::MAX).is_err());
    }
}
