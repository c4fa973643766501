//! ggml's numbers of tensor types.

use espalier_kernels::WeightFormat;

use crate::error::ModelError;

/// The types with a kernel, by ggml's number.
const SUPPORTED: [(u32, WeightFormat); 12] = [
    (0, WeightFormat::F32),
    (1, WeightFormat::F16),
    (2, WeightFormat::Q4_0),
    (3, WeightFormat::Q4_1),
    (6, WeightFormat::Q5_0),
    (7, WeightFormat::Q5_1),
    (8, WeightFormat::Q8_0),
    (12, WeightFormat::Q4K),
    (13, WeightFormat::Q5K),
    (14, WeightFormat::Q6K),
    (30, WeightFormat::Bf16),
    (39, WeightFormat::Mxfp4),
];

/// The others that ggml knows, so that a refusal can name them.
const OTHERS: [(u32, &str); 21] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (40, "NVFP4"),
];

pub(super) fn weight_format(number: u32, tensor: &str) -> Result<WeightFormat, ModelError> {
    if let Some(&(_, format)) = SUPPORTED.iter().find(|&&(known, _)| known == number) {
        return Ok(format);
    }
    let supported: Vec<&str> = SUPPORTED.iter().map(|(_, format)| format.name()).collect();
    let name = OTHERS.iter().find(|&&(known, _)| known == number).map(|&(_, name)| name.to_owned());
    let found = name.unwrap_or_else(|| format!("number {number}"));
    Err(ModelError::unsupported(format!("type of tensor {tensor}:"), found, supported.join(", ")))
}

/// ggml's number of a format.
pub(crate) fn number(format: WeightFormat) -> Option<u32> {
    SUPPORTED.iter().find(|&&(_, known)| known == format).map(|&(number, _)| number)
}
