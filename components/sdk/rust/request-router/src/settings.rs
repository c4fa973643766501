//! The configuration of a router, read key by key so that nothing in it goes unnoticed.
//!
//! A router *takes* the settings that it knows and then calls [`Settings::finish`], which refuses what is left by name.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::Setting;

/// Settings that are being read.
pub struct Settings {
    left: BTreeMap<String, String>,
}

impl Settings {
    /// The settings that `configure` was called with.
    pub fn new(settings: Vec<Setting>) -> Self {
        Self { left: settings.into_iter().map(|setting| (setting.key, setting.value)).collect() }
    }

    /// Takes a text.
    pub fn text(&mut self, key: &str) -> Option<String> {
        self.left.remove(key).map(|text| text.trim().to_owned())
    }

    /// Takes a number within `range`.
    pub fn number(&mut self, key: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, String> {
        self.text(key).map(|text| number(key, &text, &range)).transpose()
    }

    /// Takes names of variants, separated by commas.
    pub fn names(&mut self, key: &str) -> Result<Vec<String>, String> {
        let Some(text) = self.text(key) else { return Ok(Vec::new()) };
        let mut names: Vec<String> = Vec::new();
        for name in text.split(',').map(str::trim) {
            if name.is_empty() || names.iter().any(|known| known == name) {
                return Err(format!("{key}: found \"{text}\", expected names of variants, each once: A, B"));
            }
            names.push(name.to_owned());
        }
        Ok(names)
    }

    /// Takes a number within `range` for each of several variants: `A:9, B:1`.
    pub fn numbers(
        &mut self,
        key: &str,
        range: RangeInclusive<f64>,
    ) -> Result<BTreeMap<String, f64>, String> {
        let Some(text) = self.text(key) else { return Ok(BTreeMap::new()) };
        let mut numbers = BTreeMap::new();
        for pair in text.split(',') {
            // A variant's name may have a colon; its number has none.
            let named = pair.rsplit_once(':').map(|(name, value)| (name.trim(), value.trim()));
            let Some((name, value)) = named.filter(|(name, _)| !name.is_empty()) else {
                return Err(format!("{key}: found \"{pair}\", expected VARIANT:NUMBER, separated by commas"));
            };
            if numbers.insert(name.to_owned(), number(key, value, &range)?).is_some() {
                return Err(format!("{key}: found \"{name}\" twice, expected each variant once"));
            }
        }
        Ok(numbers)
    }

    /// Refuses what was not taken.
    pub fn finish(self, known: &[&str]) -> Result<(), String> {
        let Some(unknown) = self.left.keys().next() else { return Ok(()) };
        Err(match known {
            [] => format!("found the setting \"{unknown}\", expected none"),
            known => format!("found the setting \"{unknown}\", expected {}", known.join(", ")),
        })
    }
}

fn number(key: &str, text: &str, range: &RangeInclusive<f64>) -> Result<f64, String> {
    let parsed = text.parse().ok().filter(|number: &f64| number.is_finite() && range.contains(number));
    parsed.ok_or_else(|| {
        let (from, to) = (range.start(), range.end());
        let expected = if *to == f64::MAX {
            format!("a number, at least {from}")
        } else {
            format!("a number from {from} to {to}")
        };
        format!("{key}: found \"{text}\", expected {expected}")
    })
}
