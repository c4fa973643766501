//! The contracts of the worlds, as the build script read them from the WIT.

use super::{Contract, Interfaces};
use crate::World;

type InterfaceText = (&'static str, &'static [(&'static str, &'static str)]);

struct WorldText {
    imports: &'static [InterfaceText],
    exports: &'static [InterfaceText],
}

include!(concat!(env!("OUT_DIR"), "/worlds.rs"));

pub(super) fn contract(world: World) -> Contract {
    let text = match world {
        World::ScoringPolicy => SCORING_POLICY,
        World::RequestRouter => REQUEST_ROUTER,
        World::EvaluationMetric => EVALUATION_METRIC,
        World::HttpEndpoint => HTTP_ENDPOINT,
    };
    Contract { imports: interfaces(text.imports), exports: interfaces(text.exports) }
}

fn interfaces(text: &[InterfaceText]) -> Interfaces {
    let functions = |functions: &[(&str, &str)]| {
        functions.iter().map(|(name, signature)| ((*name).to_owned(), (*signature).to_owned())).collect()
    };
    text.iter().map(|(name, of)| ((*name).to_owned(), functions(of))).collect()
}
