//! The components of a recipe, found before anything is computed.

use espalier_components::{
    Component, EvaluationMetric, Host, HostConfig, ScoringPolicy, World, find_component, read_component,
};

use crate::error::PruningError;
use crate::recipe::Recipe;

/// The policies and metrics that a recipe names. One that is missing is found out here and not after the stages before it.
#[derive(Clone, Debug)]
pub struct RecipeComponents {
    /// Those of each stage, none for one that cuts nothing.
    policies: Vec<Vec<ScoringPolicy>>,
    metrics: Vec<EvaluationMetric>,
}

impl RecipeComponents {
    /// Asks `policy` and `metric` for each name that the recipe has.
    ///
    /// # Errors
    /// The first that they answer with.
    pub fn find(
        recipe: &Recipe,
        policy: impl Fn(&str) -> Result<ScoringPolicy, PruningError>,
        metric: impl Fn(&str) -> Result<EvaluationMetric, PruningError>,
    ) -> Result<Self, PruningError> {
        let of_stage = |names: &[String]| names.iter().map(|name| policy(name)).collect();
        Ok(Self {
            policies: recipe.policies().map(of_stage).collect::<Result<_, _>>()?,
            metrics: recipe.evaluation.metrics.iter().map(|name| metric(name)).collect::<Result<_, _>>()?,
        })
    }

    /// The files of those names, or beside this program.
    ///
    /// # Errors
    /// A file that is missing, or no component of the world.
    pub fn from_files(recipe: &Recipe) -> Result<Self, PruningError> {
        let host = Host::new(HostConfig::default())?;
        Self::find(
            recipe,
            |name| Ok(ScoringPolicy::new(component(&host, name, World::ScoringPolicy)?)?),
            |name| Ok(EvaluationMetric::new(component(&host, name, World::EvaluationMetric)?)?),
        )
    }

    /// The policies of the stage at `index`, counted from 0.
    pub(super) fn policies(&self, index: usize) -> &[ScoringPolicy] {
        self.policies.get(index).map_or(&[], Vec::as_slice)
    }

    pub(super) fn metrics(&self) -> &[EvaluationMetric] {
        &self.metrics
    }
}

fn component(host: &Host, name: &str, world: World) -> Result<Component, PruningError> {
    let path = find_component(name)?;
    let bytes = read_component(&path)?;
    let label = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    Ok(host.load(&label, &bytes, Some(world))?)
}
