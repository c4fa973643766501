//! What an answer's text is to be kept to: OpenAI's `response_format`, and vLLM's `structured_outputs` with its older
//! names.

use espalier_engine::Notation;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ErrorKind};
use crate::fields::Fields;

/// A grammar, and the field that it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputConstraint {
    /// What the text may be.
    pub notation: Notation,
    /// For errors about it.
    pub field: String,
}

/// Reads `structured_outputs` and the fields that vLLM had before; a request may have one of all.
pub fn structured_outputs(fields: &mut Fields) -> Result<Option<OutputConstraint>, ApiError> {
    let mut found = Vec::new();
    for (name, read) in READERS {
        found.extend(take(fields, &format!("guided_{name}"), read)?);
    }
    let path = fields.path("structured_outputs");
    if let Some(value) = fields.take("structured_outputs") {
        let mut options = Fields::of(path.clone(), value)?;
        let before = found.len();
        for (name, read) in READERS {
            found.extend(take(&mut options, name, read)?);
        }
        let names: Vec<_> = READERS.iter().map(|(name, _)| *name).collect();
        options.finish(&names)?;
        if found.len() == before {
            return Err(ApiError::missing(path, format!("one of {}", names.join(", "))));
        }
    }
    only(found)
}

/// Reads `response_format` and what vLLM has beside it.
pub fn chat_output_constraint(fields: &mut Fields) -> Result<Option<OutputConstraint>, ApiError> {
    let format = response_format(fields)?;
    let structured = structured_outputs(fields)?;
    only(format.into_iter().chain(structured).collect())
}

/// The only one.
fn only(mut found: Vec<OutputConstraint>) -> Result<Option<OutputConstraint>, ApiError> {
    let last = found.pop();
    match (&last, found.first()) {
        (Some(last), Some(first)) => {
            let message = format!("{}: found beside {}, expected only one of them", last.field, first.field);
            Err(ApiError::new(ErrorKind::InvalidValue, message).at(last.field.clone()))
        }
        _ => Ok(last),
    }
}

type Reader = fn(String, Value) -> Result<Notation, ApiError>;

const READERS: [(&str, Reader); 4] =
    [("json", json_schema), ("regex", regex), ("choice", choice), ("grammar", grammar)];

fn take(fields: &mut Fields, name: &str, read: Reader) -> Result<Option<OutputConstraint>, ApiError> {
    let field = fields.path(name);
    fields
        .take(name)
        .map(|value| Ok(OutputConstraint { notation: read(field.clone(), value)?, field }))
        .transpose()
}

/// A schema, or its JSON in a string.
fn json_schema(field: String, value: Value) -> Result<Notation, ApiError> {
    match value {
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(schema @ Value::Object(_)) => Ok(Notation::JsonSchema(schema)),
            _ => Err(ApiError::field(field, text, "a JSON schema")),
        },
        schema => schema_object(field, schema),
    }
}

fn schema_object(field: String, value: Value) -> Result<Notation, ApiError> {
    match value {
        schema @ Value::Object(_) => Ok(Notation::JsonSchema(schema)),
        other => Err(ApiError::field(field, other, "a JSON schema")),
    }
}

fn regex(field: String, value: Value) -> Result<Notation, ApiError> {
    match value {
        Value::String(pattern) if !pattern.is_empty() => Ok(Notation::Regex(pattern)),
        other => Err(ApiError::field(field, other, "a regular expression")),
    }
}

fn grammar(field: String, value: Value) -> Result<Notation, ApiError> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(Notation::Lark(text)),
        other => Err(ApiError::field(field, other, "a Lark grammar with a rule start")),
    }
}

fn choice(field: String, value: Value) -> Result<Notation, ApiError> {
    const EXPECTED: &str = "a list of at least one text, each of at least one character";
    let Value::Array(items) = value else { return Err(ApiError::field(field, value, EXPECTED)) };
    if items.is_empty() {
        return Err(ApiError::field(field, items, EXPECTED));
    }
    let text = |(index, item)| match item {
        Value::String(text) if !text.is_empty() => Ok(text),
        other => Err(ApiError::field(format!("{field}[{index}]"), other, "a text of at least one character")),
    };
    Ok(Notation::Choice(items.into_iter().enumerate().map(text).collect::<Result<_, _>>()?))
}

fn response_format(fields: &mut Fields) -> Result<Option<OutputConstraint>, ApiError> {
    const TYPES: &str = "text, json_object or json_schema";
    let path = fields.path("response_format");
    let Some(value) = fields.take("response_format") else { return Ok(None) };
    let mut format = Fields::of(path.clone(), value)?;
    let type_path = format.path("type");
    let constraint = match format.string("type")?.as_deref() {
        Some("text") => None,
        Some("json_object") => {
            Some(OutputConstraint { notation: Notation::JsonSchema(json!({"type": "object"})), field: path })
        }
        Some("json_schema") => Some(named_schema(&mut format)?),
        Some(other) => return Err(ApiError::field(type_path, other, TYPES)),
        None => return Err(ApiError::missing(type_path, TYPES)),
    };
    format.finish(&["type", "json_schema"])?;
    Ok(constraint)
}

/// `json_schema`: a name and a description for people, and the schema. The answer keeps to it whether `strict` or not.
fn named_schema(format: &mut Fields) -> Result<OutputConstraint, ApiError> {
    let path = format.path("json_schema");
    let value = format
        .take("json_schema")
        .ok_or_else(|| ApiError::missing(&path, "an object with a name and a schema"))?;
    let mut named = Fields::of(path, value)?;
    named.required_string("name", "a name")?;
    named.string("description")?;
    named.boolean("strict")?;
    let field = named.path("schema");
    let notation = match named.take("schema") {
        Some(schema) => schema_object(field.clone(), schema)?,
        None => return Err(ApiError::missing(field, "a JSON schema")),
    };
    named.finish(&["name", "description", "strict", "schema"])?;
    Ok(OutputConstraint { notation, field })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<Option<OutputConstraint>, ApiError> {
        let mut fields = Fields::of_body(body).unwrap();
        let constraint = chat_output_constraint(&mut fields)?;
        fields.finish(&[])?;
        Ok(constraint)
    }

    #[test]
    fn every_way_to_say_it_is_read() {
        let schema = json!({"type": "array"});
        let named = json!({"name": "x", "schema": schema, "strict": true, "description": null});
        let json = Notation::JsonSchema(schema.clone());
        for (body, notation, field) in [
            (
                json!({"response_format": {"type": "json_schema", "json_schema": named}}),
                json.clone(),
                "response_format.json_schema.schema",
            ),
            (
                json!({"response_format": {"type": "json_object"}}),
                Notation::JsonSchema(json!({"type": "object"})),
                "response_format",
            ),
            (json!({"structured_outputs": {"json": schema}}), json.clone(), "structured_outputs.json"),
            (json!({"guided_json": schema.to_string()}), json, "guided_json"),
            (json!({"guided_regex": "a+"}), Notation::Regex("a+".into()), "guided_regex"),
            (
                json!({"structured_outputs": {"choice": ["a", "b"]}, "response_format": {"type": "text"}}),
                Notation::Choice(vec!["a".into(), "b".into()]),
                "structured_outputs.choice",
            ),
            (
                json!({"guided_grammar": "start: \"x\""}),
                Notation::Lark("start: \"x\"".into()),
                "guided_grammar",
            ),
        ] {
            assert_eq!(read(body).unwrap(), Some(OutputConstraint { notation, field: field.into() }));
        }
        assert_eq!(read(json!({"response_format": {"type": "text"}, "guided_json": null})).unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_refused_where_it_is() {
        let format = |format: Value| json!({"response_format": format});
        for (body, param) in [
            (format(json!("json_object")), "response_format"),
            (format(json!({})), "response_format.type"),
            (format(json!({"type": "xml"})), "response_format.type"),
            (format(json!({"type": "json_object", "json_schema": {}})), "response_format.json_schema"),
            (format(json!({"type": "json_schema"})), "response_format.json_schema"),
            (
                format(json!({"type": "json_schema", "json_schema": {"schema": {}}})),
                "response_format.json_schema.name",
            ),
            (
                format(json!({"type": "json_schema", "json_schema": {"name": "x"}})),
                "response_format.json_schema.schema",
            ),
            (
                format(json!({"type": "json_schema", "json_schema": {"name": "x", "schema": 3}})),
                "response_format.json_schema.schema",
            ),
            (json!({"structured_outputs": {}}), "structured_outputs"),
            (json!({"structured_outputs": {"xml": 1}}), "structured_outputs.xml"),
            (json!({"structured_outputs": {"json": "{"}}), "structured_outputs.json"),
            (json!({"structured_outputs": {"regex": ""}}), "structured_outputs.regex"),
            (json!({"structured_outputs": {"choice": []}}), "structured_outputs.choice"),
            (json!({"structured_outputs": {"choice": ["a", 1]}}), "structured_outputs.choice[1]"),
            (json!({"structured_outputs": {"regex": "a", "choice": ["a"]}}), "structured_outputs.choice"),
            (json!({"guided_regex": "a", "structured_outputs": {"regex": "a"}}), "structured_outputs.regex"),
            (json!({"guided_regex": "a", "response_format": {"type": "json_object"}}), "guided_regex"),
        ] {
            assert_eq!(read(body.clone()).unwrap_err().param(), Some(param), "{body}");
        }
    }
}
