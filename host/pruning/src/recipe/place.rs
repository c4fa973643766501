//! Errors of a recipe's fields, with their place in the text.

use std::fmt::Display;

use espalier_training::TomlText;

use crate::error::PruningError;

/// The recipe's text.
pub(super) struct Places<'a>(pub(super) TomlText<'a>);

impl Places<'_> {
    /// What the TOML reader says, as one sentence.
    pub(super) fn refused(&self, error: &toml::de::Error) -> PruningError {
        let (place, message) = self.0.refusal(error);
        PruningError::RecipeText { place, message }
    }

    /// An error about a field; see [`TomlText::place`] for its name.
    pub(super) fn field(
        &self,
        field: &str,
        found: impl Display,
        expected: impl Into<String>,
    ) -> PruningError {
        PruningError::Recipe {
            place: self.0.place(field),
            field: field.to_owned(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    /// A message about a table of which only the name of a key is known.
    pub(super) fn message(&self, field: &str, message: String) -> PruningError {
        PruningError::RecipeText { place: self.0.place(field), message: format!("{field}: {message}") }
    }
}
