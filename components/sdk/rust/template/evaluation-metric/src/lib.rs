//! Exact match: the share of answers that are one of their references, but for white space at the ends.

wit_bindgen::generate!({ path: "wit", world: "evaluation-metric", generate_all });

use espalier::kernels::samples;
use espalier::kernels::types::Error;
use espalier::policy::types::Identity;
use exports::espalier::policy::metric::{Guest, Measurement};

struct Metric;

impl Guest for Metric {
    fn describe() -> Identity {
        Identity {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }

    fn evaluate() -> Result<Vec<Measurement>, String> {
        let count = samples::count();
        if count == 0 {
            return Err("the data has no samples, expected prompts with references".to_owned());
        }
        let mut right = 0;
        for index in 0..count {
            // The model's answer, or the one that the data gives.
            let answer = samples::answer(index).map_err(text)?;
            let sample = samples::get(index).map_err(text)?;
            if sample.references.iter().any(|reference| reference.trim() == answer.trim()) {
                right += 1;
            }
        }
        let value = f64::from(right) / f64::from(count);
        Ok(vec![Measurement { name: "exact-match".to_owned(), value, standard_error: None }])
    }
}

/// The words of a refusal by the host.
fn text(error: Error) -> String {
    match error {
        Error::ShapeMismatch(text)
        | Error::InvalidArgument(text)
        | Error::TooLarge(text)
        | Error::Unavailable(text) => text,
    }
}

export!(Metric);
