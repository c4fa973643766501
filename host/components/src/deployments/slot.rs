//! The places in which components are active.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::identity::is_name;
use crate::{ComponentError, World};

/// Where a component is active: `router`, `scoring/NAME`, `metric/NAME` or `ext/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Slot {
    /// The router of all requests.
    Router,
    /// The scoring policy that prune jobs know under this name.
    Scoring(String),
    /// The metric that evaluations know under this name.
    Metric(String),
    /// The endpoint under the path `/ext/NAME`.
    Endpoint(String),
}

impl Slot {
    /// How slots are written.
    pub const FORMS: &'static str = "router, scoring/NAME, metric/NAME or ext/NAME";

    /// The world of the components that the slot takes.
    pub const fn world(&self) -> World {
        match self {
            Self::Router => World::RequestRouter,
            Self::Scoring(_) => World::ScoringPolicy,
            Self::Metric(_) => World::EvaluationMetric,
            Self::Endpoint(_) => World::HttpEndpoint,
        }
    }

    /// The slot that a component of this world and name goes to unless somebody says otherwise.
    pub fn default_for(world: World, name: &str) -> Self {
        match world {
            World::RequestRouter => Self::Router,
            World::ScoringPolicy => Self::Scoring(name.to_owned()),
            World::EvaluationMetric => Self::Metric(name.to_owned()),
            World::HttpEndpoint => Self::Endpoint(name.to_owned()),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Router => f.write_str("router"),
            Self::Scoring(name) => write!(f, "scoring/{name}"),
            Self::Metric(name) => write!(f, "metric/{name}"),
            Self::Endpoint(name) => write!(f, "ext/{name}"),
        }
    }
}

impl FromStr for Slot {
    type Err = ComponentError;

    fn from_str(text: &str) -> Result<Self, ComponentError> {
        match text.split_once('/') {
            None if text == "router" => Ok(Self::Router),
            Some(("scoring", name)) if is_name(name) => Ok(Self::Scoring(name.to_owned())),
            Some(("metric", name)) if is_name(name) => Ok(Self::Metric(name.to_owned())),
            Some(("ext", name)) if is_name(name) => Ok(Self::Endpoint(name.to_owned())),
            _ => Err(ComponentError::InvalidName {
                kind: "slot",
                found: text.to_owned(),
                expected: Self::FORMS,
            }),
        }
    }
}

impl From<Slot> for String {
    fn from(slot: Slot) -> Self {
        slot.to_string()
    }
}

impl TryFrom<String> for Slot {
    type Error = ComponentError;

    fn try_from(text: String) -> Result<Self, ComponentError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_written_as_they_are_read() {
        for text in ["router", "scoring/activation-norm", "metric/perplexity", "ext/compare"] {
            assert_eq!(text.parse::<Slot>().unwrap().to_string(), text);
        }
        for text in
            ["", "routers", "router/x", "scoring", "scoring/", "scoring/../x", "metric/A", "http/x", "ext/"]
        {
            assert!(text.parse::<Slot>().is_err(), "{text}");
        }
    }
}
