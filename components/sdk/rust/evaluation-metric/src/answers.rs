//! The samples of the evaluation data with the answers that are measured.

use crate::bindings::espalier::kernels::samples;

/// An answer beside the ones that are right.
#[derive(Clone, Debug)]
pub struct AnsweredSample {
    /// The data's candidate or what the model said.
    pub answer: String,
    /// At least one.
    pub references: Vec<String>,
}

/// All samples. The error says that the data has none, which is for the operator to see.
pub fn answered_samples() -> Result<Vec<AnsweredSample>, String> {
    let count = samples::count();
    if count == 0 {
        return Err("the data has no samples, expected JSONL with `prompt` and `reference`".to_owned());
    }
    (0..count)
        .map(|index| {
            Ok(AnsweredSample {
                answer: samples::answer(index)?,
                references: samples::get(index)?.references,
            })
        })
        .collect()
}
