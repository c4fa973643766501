//! The worlds that a component can have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ComponentError;

/// What a component is for: one of the worlds of the WIT packages `espalier:policy` and `espalier:endpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum World {
    /// Scores units for pruning.
    ScoringPolicy,
    /// Picks the variant that answers a request.
    RequestRouter,
    /// Measures a model's quality.
    EvaluationMetric,
    /// Answers HTTP requests.
    HttpEndpoint,
}

impl World {
    /// Every world.
    pub const ALL: [Self; 4] =
        [Self::ScoringPolicy, Self::RequestRouter, Self::EvaluationMetric, Self::HttpEndpoint];

    /// The world's name in WIT.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScoringPolicy => "scoring-policy",
            Self::RequestRouter => "request-router",
            Self::EvaluationMetric => "evaluation-metric",
            Self::HttpEndpoint => "http-endpoint",
        }
    }

    /// The interface whose export makes a component one of this world, without its version.
    pub(crate) const fn exported_interface(self) -> &'static str {
        match self {
            Self::ScoringPolicy => "espalier:policy/scoring",
            Self::RequestRouter => "espalier:policy/routing",
            Self::EvaluationMetric => "espalier:policy/metric",
            Self::HttpEndpoint => "espalier:endpoint/about",
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for World {
    type Err = ComponentError;

    fn from_str(text: &str) -> Result<Self, ComponentError> {
        Self::ALL.into_iter().find(|world| world.name() == text).ok_or_else(|| ComponentError::InvalidName {
            kind: "world",
            found: text.to_owned(),
            expected: "scoring-policy, request-router, evaluation-metric or http-endpoint",
        })
    }
}
