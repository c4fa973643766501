//! A component by name or path, ready to run.

use std::path::Path;

use anyhow::Result;
use espalier_components::{
    Component, EvaluationMetric, Host, HostConfig, ScoringPolicy, World, find_component, read_component,
};

/// A scoring policy.
pub(crate) fn scoring_policy(name: &str) -> Result<ScoringPolicy> {
    let host = Host::new(HostConfig::default())?;
    Ok(ScoringPolicy::new(load(&host, name, World::ScoringPolicy)?)?)
}

/// Evaluation metrics.
pub(crate) fn evaluation_metrics(names: &[String]) -> Result<Vec<EvaluationMetric>> {
    let host = Host::new(HostConfig::default())?;
    names.iter().map(|name| Ok(EvaluationMetric::new(load(&host, name, World::EvaluationMetric)?)?)).collect()
}

fn load(host: &Host, name: &str, world: World) -> Result<Component> {
    let path = find_component(name)?;
    let bytes = read_component(&path)?;
    let label = path.file_name().unwrap_or(Path::new(name).as_os_str()).to_string_lossy();
    Ok(host.load(&label, &bytes, Some(world))?)
}
