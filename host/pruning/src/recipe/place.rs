//! Where in a recipe a field is, for errors.

use std::fmt::Display;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::PruningError;

/// A recipe's text and its name.
pub(super) struct Places<'a> {
    pub(super) text: &'a str,
    pub(super) name: &'a str,
}

impl Places<'_> {
    /// What the TOML reader says, as one sentence.
    pub(super) fn refused(&self, error: &toml::de::Error) -> PruningError {
        let place = self.at(error.span().map(|span| span.start));
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        PruningError::RecipeText { place, message }
    }

    /// An error about a field, whose name has its tables and the place in a list of tables: `stages.0.keep`. Where the
    /// field itself is not in the text, the line is that of the closest table.
    pub(super) fn field(
        &self,
        field: &str,
        found: impl Display,
        expected: impl Into<String>,
    ) -> PruningError {
        PruningError::Recipe {
            place: self.at(self.offset(field)),
            field: field.to_owned(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    /// A message about a table of which only the name of a key is known.
    pub(super) fn message(&self, field: &str, message: String) -> PruningError {
        PruningError::RecipeText {
            place: self.at(self.offset(field)),
            message: format!("{field}: {message}"),
        }
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
