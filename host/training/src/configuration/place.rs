//! Errors of a configuration's fields, with their place in the text.

use std::fmt::Display;

use espalier_kernels::WeightFormat;

use crate::error::TrainingError;
use crate::toml_place::TomlText;

/// The configuration's text.
pub(super) struct Places<'a>(TomlText<'a>);

impl<'a> Places<'a> {
    pub(super) fn new(text: &'a str, name: &'a str) -> Self {
        Self(TomlText::new(text, name))
    }

    /// What the TOML reader says, as one sentence.
    pub(super) fn refused(&self, error: &toml::de::Error) -> TrainingError {
        let (place, message) = self.0.refusal(error);
        TrainingError::ConfigurationText { place, message }
    }

    /// An error about the field `table.field`.
    pub(super) fn field(
        &self,
        field: &str,
        found: impl Display,
        expected: impl Into<String>,
    ) -> TrainingError {
        TrainingError::Configuration {
            place: self.0.place(field),
            field: field.to_owned(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    pub(super) fn at_least(&self, field: &str, value: u64, least: u64) -> Result<(), TrainingError> {
        if value >= least { Ok(()) } else { Err(self.field(field, value, format!("at least {least}"))) }
    }

    pub(super) fn above(&self, field: &str, value: f32, limit: f32) -> Result<(), TrainingError> {
        if value.is_finite() && value > limit {
            return Ok(());
        }
        Err(self.field(field, value, format!("a finite number above {limit}")))
    }

    pub(super) fn share(&self, field: &str, value: f32, largest: f32) -> Result<(), TrainingError> {
        if (0.0..=largest).contains(&value) {
            return Ok(());
        }
        let limit = if largest == f32::MAX { "0 or more".to_owned() } else { format!("0 to {largest}") };
        Err(self.field(field, value, format!("a number from {limit}").replace("from 0 or", "of 0 or")))
    }

    pub(super) fn one_of(
        &self,
        field: &str,
        name: &str,
        allowed: &[WeightFormat],
    ) -> Result<WeightFormat, TrainingError> {
        let found = allowed.iter().find(|format| format.name().eq_ignore_ascii_case(name));
        found.copied().ok_or_else(|| {
            let names = allowed.iter().map(|format| format.name().to_ascii_lowercase()).collect::<Vec<_>>();
            self.field(field, format!("{name:?}"), format!("one of {}", names.join(", ")))
        })
    }
}
