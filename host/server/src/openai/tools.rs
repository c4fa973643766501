//! The fields `tools`, `tool_choice` and `parallel_tool_calls`.

use espalier_model::chat::FunctionTool;
use serde_json::Value;

use crate::api_error::{ApiError, ErrorKind};
use crate::fields::Fields;

/// Most functions in one request, as in OpenAI's reference.
const TOOL_LIMIT: usize = 128;
/// Longest name of a function, as in OpenAI's reference.
const NAME_LIMIT: usize = 64;

/// What the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolUse {
    /// The functions; none for `tool_choice` `none`.
    pub functions: Vec<FunctionTool>,
    /// Those of them, by their names, whose arguments must be valid under their schema.
    pub strict: Vec<String>,
    /// Whether it must.
    pub requirement: Requirement,
    /// Whether one answer may have several calls.
    pub parallel: bool,
}

/// Whether the model must call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// As it likes.
    Optional,
    /// One of them, or several if there may be several calls.
    Some,
    /// This function, once.
    Function(String),
}

impl Default for ToolUse {
    fn default() -> Self {
        Self { functions: Vec::new(), strict: Vec::new(), requirement: Requirement::Optional, parallel: true }
    }
}

impl ToolUse {
    /// The function that must be called.
    #[must_use]
    pub fn forced(&self) -> Option<&str> {
        match &self.requirement {
            Requirement::Function(name) => Some(name),
            Requirement::Optional | Requirement::Some => None,
        }
    }

    /// Whether calls have to be kept to something.
    #[must_use]
    pub fn is_constrained(&self) -> bool {
        !self.strict.is_empty() || self.requirement != Requirement::Optional
    }
}

enum Choice {
    None,
    Auto,
    Required,
    Function(String),
}

/// Reads the fields.
pub fn tool_use(fields: &mut Fields) -> Result<ToolUse, ApiError> {
    let (functions, strict) = functions(fields)?;
    let choice = choice(fields)?;
    let path = fields.path("parallel_tool_calls");
    let parallel = fields.boolean("parallel_tool_calls")?;
    if functions.is_empty() {
        if let Some(parallel) = parallel {
            return Err(ApiError::field(path, parallel, "no parallel_tool_calls without tools"));
        }
        return match choice {
            Choice::None | Choice::Auto => Ok(ToolUse::default()),
            Choice::Required => {
                Err(ApiError::field("tool_choice", "required", "auto or none, without tools"))
            }
            Choice::Function(name) => Err(unknown_function(&name, &functions)),
        };
    }
    let parallel = parallel.unwrap_or(true);
    let requirement = match choice {
        Choice::None => return Ok(ToolUse::default()),
        Choice::Auto => Requirement::Optional,
        Choice::Required => Requirement::Some,
        Choice::Function(name) if functions.iter().any(|function| function.name == name) => {
            Requirement::Function(name)
        }
        Choice::Function(name) => return Err(unknown_function(&name, &functions)),
    };
    Ok(ToolUse { functions, strict, requirement, parallel })
}

fn unknown_function(name: &str, functions: &[FunctionTool]) -> ApiError {
    let names: Vec<_> = functions.iter().map(|function| function.name.as_str()).collect();
    let expected =
        if names.is_empty() { "one of tools, of which there are none".to_owned() } else { names.join(", ") };
    ApiError::field("tool_choice.function.name", name, expected)
}

/// The functions, and the names of those that are strict.
fn functions(fields: &mut Fields) -> Result<(Vec<FunctionTool>, Vec<String>), ApiError> {
    let Some(items) = fields.list("tools")? else { return Ok((Vec::new(), Vec::new())) };
    if items.len() > TOOL_LIMIT {
        let found = format!("{} tools", items.len());
        return Err(ApiError::field("tools", found, format!("at most {TOOL_LIMIT} tools")));
    }
    let mut functions: Vec<FunctionTool> = Vec::with_capacity(items.len());
    let mut strict = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let mut tool = Fields::of(format!("tools[{index}]"), item)?;
        expect_type(&mut tool)?;
        let path = tool.path("function");
        let definition = tool.take("function").ok_or_else(|| ApiError::missing(&path, "an object"))?;
        tool.finish(&["type", "function"])?;
        let (function, is_strict) = function(Fields::of(path.clone(), definition)?)?;
        if functions.iter().any(|other| other.name == function.name) {
            return Err(ApiError::field(
                format!("{path}.name"),
                function.name,
                "a name that no other tool has",
            ));
        }
        if is_strict {
            strict.push(function.name.clone());
        }
        functions.push(function);
    }
    Ok((functions, strict))
}

/// A function, and whether it is strict.
fn function(mut fields: Fields) -> Result<(FunctionTool, bool), ApiError> {
    let name = function_name(&mut fields)?;
    let description = fields.string("description")?;
    let parameters = match fields.take("parameters") {
        None => None,
        // No properties is no arguments.
        Some(Value::Object(schema)) if schema.is_empty() => None,
        Some(schema @ Value::Object(_)) => Some(schema),
        Some(other) => return Err(ApiError::field(fields.path("parameters"), other, "a JSON schema")),
    };
    let is_strict = fields.boolean("strict")?.unwrap_or(false);
    fields.finish(&["name", "description", "parameters", "strict"])?;
    Ok((FunctionTool { name, description, parameters }, is_strict))
}

/// A name that OpenAI's API takes.
pub fn function_name(fields: &mut Fields) -> Result<String, ApiError> {
    let expected = format!("a name of 1 to {NAME_LIMIT} letters, digits, _ or -");
    let path = fields.path("name");
    let name = fields.string("name")?.ok_or_else(|| ApiError::missing(&path, &expected))?;
    if is_function_name(&name) { Ok(name) } else { Err(ApiError::field(path, name, expected)) }
}

/// Whether OpenAI's API takes a name.
pub fn is_function_name(name: &str) -> bool {
    (1..=NAME_LIMIT).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Takes `type`, which must be `function`.
pub fn expect_type(fields: &mut Fields) -> Result<(), ApiError> {
    let path = fields.path("type");
    match fields.string("type")?.as_deref() {
        Some("function") => Ok(()),
        Some(other) => Err(ApiError::field(path, other, "function: other types are not implemented")
            .of_kind(ErrorKind::UnsupportedParameter)),
        None => Err(ApiError::missing(path, "function")),
    }
}

fn choice(fields: &mut Fields) -> Result<Choice, ApiError> {
    const EXPECTED: &str = "none, auto, required or {\"type\":\"function\",\"function\":{\"name\":…}}";
    let path = fields.path("tool_choice");
    match fields.take("tool_choice") {
        None => Ok(Choice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "none" => Ok(Choice::None),
            "auto" => Ok(Choice::Auto),
            "required" => Ok(Choice::Required),
            _ => Err(ApiError::field(path, word, EXPECTED)),
        },
        Some(value @ Value::Object(_)) => {
            let mut choice = Fields::of(path, value)?;
            expect_type(&mut choice)?;
            let path = choice.path("function");
            let function = choice.take("function").ok_or_else(|| ApiError::missing(&path, "an object"))?;
            choice.finish(&["type", "function"])?;
            let mut function = Fields::of(path, function)?;
            let name = function_name(&mut function)?;
            function.finish(&["name"])?;
            Ok(Choice::Function(name))
        }
        Some(other) => Err(ApiError::field(path, other, EXPECTED)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<ToolUse, ApiError> {
        tool_use(&mut Fields::of_body(body).unwrap())
    }

    fn tool(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
    }

    #[test]
    fn choices_are_read() {
        assert_eq!(read(json!({})).unwrap(), ToolUse::default());
        assert_eq!(read(json!({"tools": [], "tool_choice": "none"})).unwrap(), ToolUse::default());
        assert_eq!(read(json!({"tools": [tool("f")], "tool_choice": "none"})).unwrap(), ToolUse::default());
        let read = |choice: Value| read(json!({"tools": [tool("f"), tool("g")], "tool_choice": choice}));
        assert_eq!(read(json!("auto")).unwrap().functions.len(), 2);
        assert_eq!(read(json!(null)).unwrap().requirement, Requirement::Optional);
        assert_eq!(read(json!("required")).unwrap().requirement, Requirement::Some);
        let named = json!({"type": "function", "function": {"name": "g"}});
        assert_eq!(read(named).unwrap().forced(), Some("g"));
        let unknown = json!({"type": "function", "function": {"name": "h"}});
        assert_eq!(read(unknown).unwrap_err().param(), Some("tool_choice.function.name"));
    }

    #[test]
    fn strict_functions_are_noted() {
        let mut strict = tool("g");
        strict["function"]["strict"] = json!(true);
        let read = read(json!({"tools": [tool("f"), strict]})).unwrap();
        assert_eq!(read.strict, ["g"]);
        assert!(read.is_constrained() && !ToolUse::default().is_constrained());
    }

    #[test]
    fn wrong_tools_are_refused_where_they_are_wrong() {
        for (body, param) in [
            (json!({"tools": {}}), "tools"),
            (json!({"tools": [3]}), "tools[0]"),
            (json!({"tools": [{}]}), "tools[0].type"),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
            (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
            (json!({"tools": [{"type": "function", "function": {}}]}), "tools[0].function.name"),
            (json!({"tools": [tool("a b")]}), "tools[0].function.name"),
            (json!({"tools": [tool("f"), tool("f")]}), "tools[1].function.name"),
            (json!({"tools": vec![tool("f"); 129]}), "tools"),
            (
                json!({"tools": [{"type": "function", "function": {"name": "f", "strict": "yes"}}]}),
                "tools[0].function.strict",
            ),
            (
                json!({"tools": [{"type": "function", "function": {"name": "f", "x": 1}}]}),
                "tools[0].function.x",
            ),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"tool_choice": "maybe"}), "tool_choice"),
            (json!({"tool_choice": 3}), "tool_choice"),
            (json!({"parallel_tool_calls": true}), "parallel_tool_calls"),
        ] {
            assert_eq!(read(body.clone()).unwrap_err().param(), Some(param), "{body}");
        }
    }
}
