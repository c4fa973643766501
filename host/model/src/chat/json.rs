//! `tojson` as HF defines it: Python's `json.dumps(value, ensure_ascii=False, …)`, not Jinja's HTML-safe form.

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};
use serde_json::Value as Json;

/// The filter. `indent` may be given by place or name; `ensure_ascii`, `separators` and `sort_keys` by name.
pub(super) fn tojson(value: Value, indent: Option<Value>, options: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<Value>>("indent")?,
    };
    let indent = match indent.filter(|indent| !indent.is_none() && !indent.is_undefined()) {
        Some(indent) => Some(indent.as_usize().ok_or_else(|| invalid("indent", &indent, "a whole number"))?),
        None => None,
    };
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let (item, key) = match separators.as_deref() {
        None | Some([]) => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(other) => return Err(invalid("separators", &Value::from(other.len()), "two strings")),
    };
    let style = Style {
        indent,
        item,
        key,
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let json = serde_json::to_value(&value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, format!("tojson: {error}")))?;
    let mut text = String::new();
    style.write(&json, 0, &mut text);
    Ok(text)
}

fn invalid(option: &str, found: &Value, expected: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {option} is {found}, expected {expected}"))
}

struct Style {
    indent: Option<usize>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

impl Style {
    fn write(&self, value: &Json, depth: usize, text: &mut String) {
        match value {
            Json::Array(items) if items.is_empty() => text.push_str("[]"),
            Json::Object(fields) if fields.is_empty() => text.push_str("{}"),
            Json::Array(items) => {
                text.push('[');
                for (place, item) in items.iter().enumerate() {
                    self.begin_item(place, depth + 1, text);
                    self.write(item, depth + 1, text);
                }
                self.new_line(depth, text);
                text.push(']');
            }
            Json::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                if self.sorted {
                    fields.sort_by_key(|&(name, _)| name);
                }
                text.push('{');
                for (place, (name, field)) in fields.into_iter().enumerate() {
                    self.begin_item(place, depth + 1, text);
                    self.string(name, text);
                    text.push_str(&self.key);
                    self.write(field, depth + 1, text);
                }
                self.new_line(depth, text);
                text.push('}');
            }
            Json::String(string) => self.string(string, text),
            other => text.push_str(&other.to_string()),
        }
    }

    fn begin_item(&self, place: usize, depth: usize, text: &mut String) {
        if place > 0 {
            text.push_str(&self.item);
        }
        self.new_line(depth, text);
    }

    fn new_line(&self, depth: usize, text: &mut String) {
        if let Some(indent) = self.indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&self, string: &str, text: &mut String) {
        text.push('"');
        for character in string.chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                character if character < ' ' || (self.ascii && character > '~') => {
                    let mut units = [0; 2];
                    for unit in character.encode_utf16(&mut units) {
                        text.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                character => text.push(character),
            }
        }
        text.push('"');
    }
}
