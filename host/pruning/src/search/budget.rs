//! What a smaller model may cost: `memory<=11GiB,latency<=0.75x`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::PruningError;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cost {
    /// Parameters, each weight once.
    Parameters,
    /// Bytes of the weights in the format that is written.
    Memory,
    /// Floating-point operations per token, see [`Size::flops_per_token`](crate::Size).
    Flops,
    /// Milliseconds per decoded token on this device.
    Latency,
}

impl Cost {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Parameters, Self::Memory, Self::Flops, Self::Latency];

    /// The name in targets.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parameters => "parameters",
            Self::Memory => "memory",
            Self::Flops => "flops",
            Self::Latency => "latency",
        }
    }

    /// Units that an absolute limit may have, longest first.
    const fn units(self) -> &'static [(&'static str, f64)] {
        match self {
            Self::Parameters => &[("K", 1e3), ("M", 1e6), ("B", 1e9), ("", 1.0)],
            Self::Memory => &[
                ("KiB", 1024.0),
                ("MiB", 1_048_576.0),
                ("GiB", 1_073_741_824.0),
                ("KB", 1e3),
                ("MB", 1e6),
                ("GB", 1e9),
                ("", 1.0),
            ],
            Self::Flops => &[("M", 1e6), ("G", 1e9), ("T", 1e12), ("", 1.0)],
            Self::Latency => &[("ms", 1.0)],
        }
    }
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Parameters, bytes, operations or milliseconds.
    Absolute(f64),
    /// A multiple of what the unpruned model costs in the same number format.
    Relative(f64),
}

/// One limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// What is limited.
    pub cost: Cost,
    /// How much of it.
    pub limit: Limit,
    /// As it was written.
    text: String,
}

impl Budget {
    /// The most that may be spent where the unpruned model costs `unpruned`.
    #[must_use]
    pub fn most(&self, unpruned: f64) -> f64 {
        match self.limit {
            Limit::Absolute(value) => value,
            Limit::Relative(factor) => factor * unpruned,
        }
    }

    fn parse(text: &str) -> Result<Self, PruningError> {
        let refused =
            |expected: &str| PruningError::Budget { found: text.to_owned(), expected: expected.to_owned() };
        let form = "COST<=LIMIT, such as memory<=11GiB or latency<=0.75x";
        let (name, limit) = text.split_once("<=").ok_or_else(|| refused(form))?;
        let cost = Cost::ALL.into_iter().find(|cost| cost.name() == name.trim());
        let cost = cost.ok_or_else(|| refused("parameters, memory, flops or latency before <="))?;
        let limit = limit.trim();
        let (limit, relative) = match limit.strip_suffix('x') {
            Some(factor) => (number(factor).map(Limit::Relative), true),
            None => {
                let units = cost.units().iter();
                let of = |(unit, factor): &(&str, f64)| Some(number(limit.strip_suffix(unit)?)? * factor);
                (units.map(of).find_map(|value| value).map(Limit::Absolute), false)
            }
        };
        let names: Vec<&str> =
            cost.units().iter().map(|(unit, _)| *unit).filter(|unit| !unit.is_empty()).collect();
        let limit = limit
            .ok_or_else(|| refused(&format!("a number above 0 with x, {}, after <=", names.join(", "))))?;
        if relative && !matches!(limit, Limit::Relative(factor) if factor < 1.0) {
            return Err(refused("a multiple below 1x, as nothing grows by pruning"));
        }
        Ok(Self { cost, limit, text: text.to_owned() })
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0)
}

impl fmt::Display for Budget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Limits that hold together; at least one, each cost once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Budgets(Vec<Budget>);

impl Budgets {
    /// The limits in the order in which they were written.
    #[must_use]
    pub fn list(&self) -> &[Budget] {
        &self.0
    }

    /// Whether this cost is limited.
    #[must_use]
    pub fn limits(&self, cost: Cost) -> bool {
        self.0.iter().any(|budget| budget.cost == cost)
    }
}

impl FromStr for Budgets {
    type Err = PruningError;

    fn from_str(text: &str) -> Result<Self, PruningError> {
        let budgets =
            text.split(',').map(|part| Budget::parse(part.trim())).collect::<Result<Vec<_>, _>>()?;
        for (index, budget) in budgets.iter().enumerate() {
            if budgets.iter().take(index).any(|other| other.cost == budget.cost) {
                let expected = format!("{} once", budget.cost.name());
                return Err(PruningError::Budget { found: text.to_owned(), expected });
            }
        }
        Ok(Self(budgets))
    }
}

impl TryFrom<String> for Budgets {
    type Error = PruningError;

    fn try_from(text: String) -> Result<Self, PruningError> {
        text.parse()
    }
}

impl From<Budgets> for String {
    fn from(budgets: Budgets) -> Self {
        budgets.to_string()
    }
}

impl fmt::Display for Budgets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, budget) in self.0.iter().enumerate() {
            write!(formatter, "{}{budget}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(text: &str) -> f64 {
        text.parse::<Budgets>().unwrap().list()[0].most(1000.0)
    }

    #[test]
    fn limits_are_absolute_or_multiples() {
        assert_eq!(most("memory<=11GiB"), 11.0 * 1024.0 * 1024.0 * 1024.0);
        assert_eq!(most("memory <= 1.5MB"), 1.5e6);
        assert_eq!(most("parameters<=15B"), 15e9);
        assert_eq!(most("flops<=0.5x"), 500.0);
        assert_eq!(most("latency<=52ms"), 52.0);
        let budgets: Budgets = "memory<=90MB, latency<=0.75x".parse().unwrap();
        assert_eq!(budgets.to_string(), "memory<=90MB,latency<=0.75x");
        assert!(budgets.limits(Cost::Latency) && !budgets.limits(Cost::Flops));
    }

    #[test]
    fn senseless_limits_are_refused() {
        for (text, expected) in [
            ("", "COST<=LIMIT"),
            ("memory=1GB", "COST<=LIMIT"),
            ("speed<=1x", "parameters, memory, flops or latency"),
            ("memory<=11Gb", "KiB"),
            ("memory<=-1GB", "above 0"),
            ("latency<=52", "ms"),
            ("memory<=1.2x", "below 1x"),
            ("memory<=1GB,memory<=0.5x", "memory once"),
        ] {
            let error = text.parse::<Budgets>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
