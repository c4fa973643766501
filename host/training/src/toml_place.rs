//! Where in a TOML text a field is, for errors.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A text and its name.
#[derive(Clone, Copy, Debug)]
pub struct TomlText<'a> {
    text: &'a str,
    name: &'a str,
}

impl<'a> TomlText<'a> {
    /// The text that errors call `name`.
    #[must_use]
    pub fn new(text: &'a str, name: &'a str) -> Self {
        Self { text, name }
    }

    /// Name and line of a field, whose name has its tables and the places in lists of tables: `stages.0.keep`. Where the
    /// field itself is not in the text, the line is that of the closest table; where none is, there is no line.
    #[must_use]
    pub fn place(&self, field: &str) -> String {
        self.at(self.offset(field))
    }

    /// What the TOML reader refused: name and line, and its reason as one sentence.
    #[must_use]
    pub fn refusal(&self, error: &toml::de::Error) -> (String, String) {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        (self.at(error.span().map(|span| span.start)), message)
    }

    fn at(&self, offset: Option<usize>) -> String {
        match offset.and_then(|offset| self.text.get(..offset)) {
            Some(before) => format!("{}, line {}", self.name, before.matches('\n').count() + 1),
            None => self.name.to_owned(),
        }
    }

    fn offset(&self, field: &str) -> Option<usize> {
        let root = DeTable::parse(self.text).ok()?;
        let mut value: Option<&Spanned<DeValue<'_>>> = None;
        let mut found = None;
        for part in field.split('.') {
            let next = match value.map(Spanned::get_ref) {
                None => root.get_ref().iter().find(|(key, _)| key.get_ref() == part),
                Some(DeValue::Table(table)) => table.iter().find(|(key, _)| key.get_ref() == part),
                Some(DeValue::Array(items)) => {
                    value = part.parse::<usize>().ok().and_then(|index| items.get(index));
                    found = value.map(|value| value.span().start).or(found);
                    continue;
                }
                Some(_) => None,
            };
            let Some((key, inner)) = next else { break };
            found = Some(key.span().start);
            value = Some(inner);
        }
        found
    }
}
