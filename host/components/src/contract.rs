//! Checks a component's imports and exports against its world before anything of it runs.
//!
//! What a world says is read from the WIT when this crate is built, so there is one source. Both sides are written as
//! text in WIT's notation and compared; a difference is reported as one sentence with the name, what was found and what
//! was expected.

mod declared;
mod found;

use std::collections::BTreeMap;

use wasmtime::Engine;

use crate::{ComponentError, World};

/// How many problems are told at most, and how many characters of each: the names and types are the component's own.
const PROBLEM_LIMIT: usize = 20;
const PROBLEM_LENGTH: usize = 2_000;

/// The functions of an interface: name to type.
pub(crate) type Functions = BTreeMap<String, String>;

/// Interfaces by versioned name: `espalier:kernels/tensor@0.1.0`.
pub(crate) type Interfaces = BTreeMap<String, Functions>;

/// What a component or a world takes and gives.
#[derive(Debug, Default)]
pub(crate) struct Contract {
    pub(crate) imports: Interfaces,
    pub(crate) exports: Interfaces,
}

/// The contracts of all worlds.
pub(crate) struct Contracts(Vec<(World, Contract)>);

impl Contracts {
    pub(crate) fn new() -> Self {
        Self(World::ALL.map(|world| (world, declared::contract(world))).into())
    }

    /// The world of a component: the one whose interface it exports.
    pub(crate) fn detect(&self, label: &str, found: &Contract) -> Result<World, ComponentError> {
        let exports =
            |world: &World| found.exports.keys().any(|name| unversioned(name) == world.exported_interface());
        World::ALL.into_iter().find(exports).ok_or_else(|| {
            let names: Vec<&str> = found.exports.keys().map(String::as_str).take(PROBLEM_LIMIT).collect();
            let mut exports = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            shorten(&mut exports);
            ComponentError::UnknownWorld { component: label.to_owned(), exports }
        })
    }

    /// Fails with everything that keeps the component from fitting the world.
    pub(crate) fn check(&self, label: &str, found: &Contract, world: World) -> Result<(), ComponentError> {
        let Some((_, declared)) = self.0.iter().find(|(of, _)| *of == world) else {
            return Err(ComponentError::Engine(format!("the world {world} has no description")));
        };
        let mut problems = Vec::new();
        for (name, functions) in &found.imports {
            match compatible(&declared.imports, name) {
                None => problems.push(format!("it imports {name}, which the world does not give")),
                Some(given) => missing(&mut problems, "imports", name, functions, "gives", given),
            }
        }
        for (name, functions) in &declared.exports {
            match compatible(&found.exports, name) {
                None => problems.push(format!("the export {name} is missing")),
                Some(given) => missing(&mut problems, "must export", name, functions, "exports", given),
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        let further = problems.len().saturating_sub(PROBLEM_LIMIT);
        problems.truncate(PROBLEM_LIMIT);
        problems.iter_mut().for_each(shorten);
        if further > 0 {
            problems.push(format!("and {further} more"));
        }
        Err(ComponentError::WrongWorld { component: label.to_owned(), expected: world, problems })
    }
}

fn shorten(problem: &mut String) {
    if let Some((end, _)) = problem.char_indices().nth(PROBLEM_LENGTH) {
        problem.truncate(end);
        problem.push('…');
    }
}

/// Reports each function of `wanted` that `given` lacks or has with another type.
fn missing(
    problems: &mut Vec<String>,
    wants: &str,
    interface: &str,
    wanted: &Functions,
    gives: &str,
    given: &Functions,
) {
    for (name, expected) in wanted {
        match given.get(name) {
            Some(found) if found == expected => {}
            Some(found) => problems.push(format!(
                "{interface} {gives} \"{name}\" as `{found}`, the component {wants} `{expected}`"
            )),
            None => {
                problems.push(format!("the component {wants} \"{name}\" of {interface}, which is not there"))
            }
        }
    }
}

/// The interface of that name, or of a compatible version: the same major one, or the same 0.minor one.
fn compatible<'a>(interfaces: &'a Interfaces, name: &str) -> Option<&'a Functions> {
    interfaces.get(name).or_else(|| {
        let wanted = (unversioned(name), track(name)?);
        interfaces
            .iter()
            .find(|(name, _)| track(name).map(|track| (unversioned(name), track)) == Some(wanted))
            .map(|(_, functions)| functions)
    })
}

fn unversioned(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

/// The part of a version within which interfaces are compatible: `1` of 1.2.3, `0.1` of 0.1.7, all of 1.0.0-rc.1.
fn track(name: &str) -> Option<&str> {
    let (_, version) = name.split_once('@')?;
    let without_build = version.split('+').next().unwrap_or(version);
    if without_build.contains('-') {
        return Some(version);
    }
    let mut dots = version.match_indices('.').map(|(at, _)| at);
    let first = dots.next()?;
    match version.get(..first)? {
        "0" => version.get(..dots.next()?),
        major => Some(major),
    }
}

/// What a compiled component takes and gives.
pub(crate) fn of_component(engine: &Engine, component: &wasmtime::component::Component) -> Contract {
    found::contract(engine, component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compatible_as_semver_says() {
        assert_eq!(track("a:b/c@1.2.3"), Some("1"));
        assert_eq!(track("a:b/c@0.1.7"), Some("0.1"));
        assert_eq!(track("a:b/c"), None);
        assert_eq!(track("a:b/c@1.0.0-rc.1"), Some("1.0.0-rc.1"));
        let interfaces = Interfaces::from([("a:b/c@0.1.0".to_owned(), Functions::new())]);
        assert!(compatible(&interfaces, "a:b/c@0.1.9").is_some());
        assert!(compatible(&interfaces, "a:b/c@0.2.0").is_none());
        assert!(compatible(&interfaces, "a:b/d@0.1.0").is_none());
    }

    #[test]
    fn every_world_is_read_from_its_wit() {
        let contracts = Contracts::new();
        let (_, router) = contracts.0.iter().find(|(world, _)| *world == World::RequestRouter).unwrap();
        let imports: Vec<_> = router.imports.keys().map(String::as_str).collect();
        assert_eq!(imports, ["espalier:kernels/telemetry@1.0.0-rc.1", "espalier:policy/types@1.0.0-rc.1"]);
        let routing = &router.exports["espalier:policy/routing@1.0.0-rc.1"];
        assert_eq!(
            routing["route"],
            "func(request: record { model: string, prompt-tokens: u32, max-tokens: u32, streaming: bool, \
             session: option<u64>, quality: option<f32>, draw: u64 }, variants: list<record { name: string, \
             accepts: bool, running: u32, waiting: u32, kv-usage: f32, milliseconds-per-token: option<f32>, \
             parameters: u64, active-parameters: u64, weight-bytes: u64 }>) -> result<record { order: list<u32>, \
             shadow: option<record { target: u32, share: f32 }> }, string>"
        );
    }
}
