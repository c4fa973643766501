//! JSON schemas as TypeScript types, in the style that gpt-oss was trained on.
//!
//! What the style can't say (patterns, bounds, nested definitions) is left out, as in openai/harmony.

use serde_json::{Map, Value};

/// The type, its later lines indented by `indent`.
pub(super) fn type_of(schema: &Value, indent: &str) -> String {
    if let Some(variants) = list(schema, "oneOf") {
        return variants
            .iter()
            .map(|variant| {
                let description = text(variant, "description").map(str::to_owned);
                let default = schema_default(variant, true);
                format!("\n{indent} | {}{}", variant_type(variant, indent), trailing([description, default]))
            })
            .collect();
    }
    match schema.get("type") {
        Some(Value::Array(types)) if types.iter().any(Value::is_string) => {
            let names = types.iter().filter_map(Value::as_str);
            names.map(|name| if name == "integer" { "number" } else { name }).collect::<Vec<_>>().join(" | ")
        }
        Some(Value::String(name)) => named_type(schema, name, indent),
        _ => "any".to_owned(),
    }
}

fn named_type(schema: &Value, name: &str, indent: &str) -> String {
    match name {
        "object" => object_type(schema, indent),
        "string" => {
            let values: Vec<_> = list(schema, "enum")
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(|value| format!("\"{value}\""))
                .collect();
            if values.is_empty() { "string".to_owned() } else { values.join(" | ") }
        }
        "number" | "integer" => "number".to_owned(),
        "boolean" => "boolean".to_owned(),
        "array" => match schema.get("items") {
            Some(items) => format!("{}[]", type_of(items, indent)),
            None => "Array<any>".to_owned(),
        },
        _ => "any".to_owned(),
    }
}

fn object_type(schema: &Value, indent: &str) -> String {
    let description = text(schema, "description").map_or_else(String::new, |text| comment(indent, text));
    let required: Vec<&str> =
        list(schema, "required").into_iter().flatten().filter_map(Value::as_str).collect();
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let fields: String = properties
        .iter()
        .map(|(name, property)| {
            let mark = if required.contains(&name.as_str()) { "" } else { "?" };
            field(&format!("{name}{mark}"), property, indent)
        })
        .collect();
    format!("{description}{{\n{fields}{indent}}}")
}

/// A field with the comments above and behind it.
fn field(name: &str, property: &Value, indent: &str) -> String {
    let mut lines = String::new();
    if let Some(title) = text(property, "title") {
        lines.push_str(&format!("{}{indent}//\n", comment(indent, title)));
    }
    let description = text(property, "description");
    let has_variants = property.get("oneOf").is_some();
    if let Some(description) = description.filter(|_| !has_variants) {
        lines.push_str(&comment(indent, description));
    }
    if let Some(examples) = list(property, "examples").filter(|examples| !examples.is_empty()) {
        lines.push_str(&comment(indent, "Examples:"));
        for example in examples.iter().filter_map(Value::as_str) {
            lines.push_str(&comment(indent, &format!("- \"{example}\"")));
        }
    }
    if let Some(variants) = list(property, "oneOf") {
        lines.push_str(&variant_field(name, property, variants, indent));
    } else {
        let deeper = format!("{indent}    ");
        let kind = nullable(property, type_of(property, &deeper));
        let default = if has_variants { None } else { schema_default(property, false) };
        lines.push_str(&format!("{indent}{name}: {kind},{}\n", trailing([default])));
    }
    lines
}

/// A field that is one of several types, one on each line.
fn variant_field(name: &str, property: &Value, variants: &[Value], indent: &str) -> String {
    let description = text(property, "description");
    let first = variants.first().and_then(|variant| text(variant, "description"));
    // What the first variant says as well is said once, by neither: that is how the model knows it.
    let above = description.filter(|_| description != first);
    let mut lines = above.map_or_else(String::new, |text| comment(indent, text));
    if let Some(default) = schema_default(property, false) {
        lines.push_str(&comment(indent, &default));
    }
    lines.push_str(&format!("{indent}{name}:\n"));
    for (place, variant) in variants.iter().enumerate() {
        let own = text(variant, "description")
            .filter(|_| place > 0 || above.is_none())
            .filter(|own| Some(*own) != description)
            .map(str::to_owned);
        let kind = variant_type(variant, indent);
        lines.push_str(&format!("{indent} | {kind}{}\n", trailing([own, schema_default(variant, false)])));
    }
    lines.push_str(&format!("{indent},\n"));
    lines
}

fn variant_type(variant: &Value, indent: &str) -> String {
    nullable(variant, type_of(variant, &format!("{indent}   ")))
}

fn nullable(schema: &Value, kind: String) -> String {
    let nullable = schema.get("nullable").and_then(Value::as_bool) == Some(true);
    if nullable && !kind.contains("null") { format!("{kind} | null") } else { kind }
}

/// `default: …`; texts in quotes, but not those of an enumeration unless `quote_all`.
fn schema_default(schema: &Value, quote_all: bool) -> Option<String> {
    let is_enumeration = list(schema, "enum").is_some_and(|values| !values.is_empty());
    match schema.get("default")? {
        Value::String(text) if !is_enumeration => Some(format!("default: \"{text}\"")),
        Value::String(text) if !quote_all => Some(format!("default: {text}")),
        other => Some(format!("default: {other}")),
    }
}

fn trailing<const N: usize>(comments: [Option<String>; N]) -> String {
    let comments: Vec<_> = comments.into_iter().flatten().collect();
    if comments.is_empty() { String::new() } else { format!(" // {}", comments.join(" ")) }
}

fn comment(indent: &str, text: &str) -> String {
    format!("{indent}// {text}\n")
}

fn text<'a>(schema: &'a Value, name: &str) -> Option<&'a str> {
    schema.get(name)?.as_str()
}

fn list<'a>(schema: &'a Value, name: &str) -> Option<&'a [Value]> {
    schema.get(name)?.as_array().map(Vec::as_slice)
}
