//! Where in a TOML text a field is, for errors.

use std::fmt::Display;

use espalier_kernels::WeightFormat;
use toml::de::{DeTable, DeValue};

use crate::error::TrainingError;

/// A text and its name.
pub(super) struct Places<'a> {
    text: &'a str,
    name: &'a str,
}

impl<'a> Places<'a> {
    pub(super) fn new(text: &'a str, name: &'a str) -> Self {
        Self { text, name }
    }

    /// What the TOML reader says, as one sentence.
    pub(super) fn refused(&self, error: &toml::de::Error) -> TrainingError {
        let place = self.at(error.span().map(|span| span.start));
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
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
            place: self.at(self.offset(field)),
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

    fn at(&self, offset: Option<usize>) -> String {
        let before = offset.and_then(|offset| self.text.get(..offset));
        match before {
            Some(before) => format!("{}, line {}", self.name, before.matches('\n').count() + 1),
            None => self.name.to_owned(),
        }
    }

    /// Where the field begins, if it is in the text.
    fn offset(&self, field: &str) -> Option<usize> {
        let root = DeTable::parse(self.text).ok()?;
        let mut table = root.get_ref();
        let mut parts = field.split('.').peekable();
        while let Some(part) = parts.next() {
            let (key, value) = table.iter().find(|(key, _)| key.get_ref() == part)?;
            match value.get_ref() {
                _ if parts.peek().is_none() => return Some(key.span().start),
                DeValue::Table(inner) => table = inner,
                _ => return None,
            }
        }
        None
    }
}
