//! `docs/policies.md`: the scoring policies that come with the host, as they describe themselves.

use std::fmt::Write as _;

use espalier_components::{ScoredUnit, ScoringPolicy, World};

use crate::guests::{self, host};

const HEAD: &str = "\
# Scoring policies

The policies that are built with the host. Each has its formula and source at the head of its code in
`components/scoring/NAME/src/lib.rs`, and is held to an independent computation of it
(`tests/golden/scoring_policies.py`). `espalier prune --policy NAME` takes the name of one, or the file of your own.

The lowest scores go first. Probes are what the host records while calibration text runs through the model; a policy
without probes is asked at once, and one that asks for losses has the model run without some of its units.

A policy gives scores and nothing else; what makes up for a cut is the host's. `--refit` fits the projections behind what goes
anew, a bias included. The bias compensation of FLAP alone is `--policy flap --refit --bias-only`: the output projections of
gpt-oss and of a Llama with `attention_bias` have a bias for it, and so have gpt-oss's experts; the other projections of Llama
and Qwen2 have none, and their fitted weights take its place.

`bench/reports/policies.md` compares the policies on a real model at equal budgets. The first two layers and the last are
far more fragile than the others there; `--protect ffn-channel=0:1:29` keeps them.

| policy | what it scores by | units | probes |
| --- | --- | --- | --- |
";

#[test]
fn the_list_of_policies_is_what_they_say() {
    let host = host();
    let mut page = HEAD.to_owned();
    for name in guests::names().filter(|name| !name.starts_with("fixture-")) {
        let component = guests::load(&host, name).unwrap();
        if component.world() != World::ScoringPolicy {
            continue;
        }
        let policy = ScoringPolicy::new(component).unwrap();
        let units: Vec<&str> = policy.units().iter().map(|scored| scored.unit.name()).collect();
        let mut seen: Vec<String> = policy.units().iter().flat_map(needs).collect();
        seen.sort();
        seen.dedup();
        let seen = if seen.is_empty() { "none".to_owned() } else { seen.join(", ") };
        let summary = &policy.identity().summary;
        writeln!(page, "| `{name}` | {summary} | {} | {seen} |", units.join(", ")).unwrap();
    }
    super::check("policies.md", &page);
}

fn needs(scored: &ScoredUnit) -> Vec<String> {
    let probes = scored.probes.iter().map(|probe| probe.name().to_owned());
    probes.chain(scored.ablation.then(|| "losses without units".to_owned())).collect()
}
