//! What the intersections in a grammar may cost.
//!
//! llguidance compiles the intersection of expressions by multiplying their branches, and counts the fuel of it only
//! afterwards. So the product is bounded here from above, before anything is compiled: a text under a JSON schema has to
//! match all patterns that `allOf` and `$ref` bring together, one in Lark all that stand between `&`.

use std::collections::HashMap;

use serde_json::Value;

/// Most branches that the expressions of one intersection may have, multiplied.
pub(super) const BRANCH_LIMIT: f64 = 1e6;
/// Branches of a `format`, which stands for an expression of llguidance's.
const FORMAT_BRANCHES: f64 = 16.0;
/// References that may lead to each other, beyond what llguidance follows.
const DEPTH_LIMIT: usize = 256;
/// Characters of an expression that may begin a branch.
const BRANCHING: &[char] = &['|', '?', '*', '+', '{', '[', '.', '\\'];

/// The branches of the most expensive intersection in a JSON schema.
pub(super) fn of_json_schema(schema: &Value) -> f64 {
    Schema { root: schema, references: HashMap::new(), depth: 0 }.branches(schema)
}

/// The branches of the most expensive intersection in a Lark grammar: as if each had all branches of the grammar.
pub(super) fn of_lark(text: &str) -> f64 {
    let mut intersections = operators(text).filter(|&operator| operator == '&').count();
    if text.contains("%json") {
        intersections += text.matches("\"pattern\"").count();
    }
    if intersections == 0 { 1.0 } else { branches_of(text).powi(intersections.min(1000) as i32 + 1) }
}

fn branches_of(expression: &str) -> f64 {
    1.0 + expression.matches(BRANCHING).count() as f64
}

/// The characters of a Lark grammar outside of its strings, expressions and comments.
fn operators(text: &str) -> impl Iterator<Item = char> {
    let mut characters = text.chars().peekable();
    std::iter::from_fn(move || {
        let character = characters.next()?;
        let end = match (character, characters.peek()) {
            ('/', Some('/')) => Some('\n'),
            ('"' | '/', _) => Some(character),
            _ => None,
        };
        if let Some(end) = end {
            while let Some(inside) = characters.next() {
                match inside {
                    '\\' if end != '\n' => drop(characters.next()),
                    _ if inside == end => break,
                    _ => {}
                }
            }
        }
        Some(character)
    })
}

struct Schema<'a> {
    root: &'a Value,
    /// The branches of what references stand for; those that are being counted count as 1, like every circle.
    references: HashMap<&'a str, f64>,
    /// References that are being followed.
    depth: usize,
}

impl<'a> Schema<'a> {
    /// At least as many as the expressions have that apply together anywhere in what `schema` describes.
    fn branches(&mut self, schema: &'a Value) -> f64 {
        let Value::Object(keywords) = schema else { return 1.0 };
        let mut product = 1.0;
        let mut inside: f64 = 1.0;
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("pattern", Value::String(pattern)) => product *= branches_of(pattern),
                ("format", _) => product *= FORMAT_BRANCHES,
                ("$ref", Value::String(reference)) => product *= self.reference(reference),
                ("allOf", Value::Array(all)) => {
                    product *= all.iter().map(|one| self.branches(one)).product::<f64>()
                }
                ("anyOf" | "oneOf", Value::Array(some)) => product *= self.greatest(some.iter()),
                ("patternProperties", Value::Object(some)) => {
                    product *= some.values().map(|one| self.branches(one)).product::<f64>();
                    product *= some.keys().map(|pattern| branches_of(pattern)).product::<f64>();
                }
                ("$defs" | "definitions" | "enum" | "const", _) => {}
                ("properties", Value::Object(some)) => inside = inside.max(self.greatest(some.values())),
                (_, Value::Array(some)) => inside = inside.max(self.greatest(some.iter())),
                (_, one) => inside = inside.max(self.branches(one)),
            }
        }
        product * inside
    }

    fn greatest(&mut self, schemas: impl Iterator<Item = &'a Value>) -> f64 {
        schemas.fold(1.0, |greatest, schema| greatest.max(self.branches(schema)))
    }

    fn reference(&mut self, reference: &'a str) -> f64 {
        if let Some(&known) = self.references.get(reference) {
            return known;
        }
        if self.depth == DEPTH_LIMIT {
            return f64::INFINITY;
        }
        self.depth += 1;
        self.references.insert(reference, 1.0);
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let branches = target.map_or(1.0, |target| self.branches(target));
        self.references.insert(reference, branches);
        self.depth -= 1;
        branches
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_multiply_where_they_meet() {
        let pattern = |branches: usize| json!({"pattern": "a|".repeat(branches - 1)});
        let schema = json!({"properties": {"a": pattern(5), "b": {"items": pattern(7)}}});
        assert_eq!(of_json_schema(&schema), 7.0);
        let met = json!({"allOf": [{"properties": {"a": pattern(5)}}, {"properties": {"a": pattern(7)}}]});
        assert_eq!(of_json_schema(&met), 35.0);
        let defs =
            json!({"x": {"pattern": "a|b", "$ref": "#/$defs/y"}, "y": {"anyOf": [pattern(3), pattern(4)]}});
        assert_eq!(of_json_schema(&json!({"$ref": "#/$defs/x", "$defs": defs})), 8.0);
        assert_eq!(of_json_schema(&json!({"$ref": "#", "pattern": "a|b"})), 4.0);
        assert!(of_json_schema(&json!({"allOf": vec![pattern(2); 40]})) > BRANCH_LIMIT);
    }

    #[test]
    fn lark_intersects_with_an_ampersand() {
        assert_eq!(of_lark("start: /a|b&c/ \"x & y\" // & no\n"), 1.0);
        assert_eq!(of_lark(r#"start: "\" & " /\/&/"#), 1.0);
        assert_eq!(of_lark("start: A\nA: /a|b|c/ & /d*/"), 16.0);
        assert!(of_lark(&format!("start: A\nA: {}/x*/", "/a|b/ & ".repeat(40))) > BRANCH_LIMIT);
    }
}
