//! Samples in JSONL: one JSON object a line. An error names the file, the line and the field.

use std::path::Path;

use espalier_components::Sample;
use serde_json::{Map, Value};

use crate::error::EvaluationError;

/// How much of a wrong value an error shows, in characters.
const SHOWN_CHARACTERS: usize = 60;

/// Parses every line that is not blank.
pub(crate) fn parse_samples(path: &Path, text: &str) -> Result<Vec<Sample>, EvaluationError> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let samples: Vec<Sample> = lines
        .map(|(line, text)| {
            parse_sample(text).map_err(|problem| EvaluationError::Sample {
                path: path.to_owned(),
                line,
                problem,
            })
        })
        .collect::<Result<_, _>>()?;
    if samples.is_empty() {
        return Err(EvaluationError::NoSamples { path: path.to_owned() });
    }
    Ok(samples)
}

fn parse_sample(line: &str) -> Result<Sample, String> {
    let object = "an object with prompt, reference and optionally candidate";
    let mut fields: Map<String, Value> = match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => fields,
        Ok(other) => return Err(format!("found {}, expected {object}", shown(&other))),
        Err(error) => return Err(format!("not JSON ({error}), expected {object}")),
    };
    let prompt = string("prompt", fields.remove("prompt"))?;
    let references = match fields.remove("reference") {
        Some(Value::Array(references)) if !references.is_empty() => references
            .into_iter()
            .map(|reference| string("reference", Some(reference)))
            .collect::<Result<_, _>>()?,
        Some(Value::String(reference)) => vec![reference],
        other => return Err(wrong("reference", other.as_ref(), "a text or a list of texts")),
    };
    let candidate = match fields.remove("candidate") {
        None => None,
        some => Some(string("candidate", some)?),
    };
    if prompt.is_empty() && candidate.is_none() {
        return Err("the field \"prompt\" is empty, expected a text to continue where there is no candidate"
            .to_owned());
    }
    match fields.keys().next() {
        Some(unknown) => {
            Err(format!("the field {unknown:?} is unknown, expected prompt, reference and candidate"))
        }
        None => Ok(Sample { prompt, references, candidate }),
    }
}

fn string(field: &str, value: Option<Value>) -> Result<String, String> {
    match value {
        Some(Value::String(text)) => Ok(text),
        other => Err(wrong(field, other.as_ref(), "a text")),
    }
}

fn wrong(field: &str, found: Option<&Value>, expected: &str) -> String {
    match found {
        Some(value) => format!("the field {field:?} is {}, expected {expected}", shown(value)),
        None => format!("the field {field:?} is missing, expected {expected}"),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Sample>, String> {
        parse_samples(Path::new("data.jsonl"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn one_reference_or_several() {
        let text = "{\"prompt\": \"p\", \"reference\": \"r\"}\n\n\
                    {\"prompt\": \"\", \"reference\": [\"a\", \"\"], \"candidate\": \"c\"}\n";
        let sample = |prompt: &str, references: &[&str], candidate: Option<&str>| Sample {
            prompt: prompt.to_owned(),
            references: references.iter().map(|&text| text.to_owned()).collect(),
            candidate: candidate.map(str::to_owned),
        };
        assert_eq!(parse(text).unwrap(), [sample("p", &["r"], None), sample("", &["a", ""], Some("c"))]);
    }

    #[test]
    fn an_error_names_file_line_and_field() {
        let good = "{\"prompt\": \"p\", \"reference\": \"r\"}\n";
        let cases = [
            ("[1]", "found [1], expected an object with prompt, reference and optionally candidate"),
            ("{\"reference\": \"r\"}", "the field \"prompt\" is missing, expected a text"),
            ("{\"prompt\": \"p\"}", "the field \"reference\" is missing, expected a text or a list of texts"),
            (
                "{\"prompt\": \"p\", \"reference\": []}",
                "the field \"reference\" is [], expected a text or a list of texts",
            ),
            ("{\"prompt\": \"p\", \"reference\": [1]}", "the field \"reference\" is 1, expected a text"),
            (
                "{\"prompt\": \"p\", \"reference\": \"r\", \"candidate\": null}",
                "the field \"candidate\" is null, expected a text",
            ),
            (
                "{\"prompt\": \"p\", \"reference\": \"r\", \"answer\": \"a\"}",
                "the field \"answer\" is unknown, expected prompt, reference and candidate",
            ),
            (
                "{\"prompt\": \"\", \"reference\": \"r\"}",
                "the field \"prompt\" is empty, expected a text to continue where there is no candidate",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(&[good, line].concat()).unwrap_err(), format!("data.jsonl, line 2: {expected}"));
        }
        assert!(parse("{").unwrap_err().starts_with("data.jsonl, line 1: not JSON ("));
        assert_eq!(parse("\n").unwrap_err(), "data.jsonl holds no sample; expected at least one line");
    }
}
