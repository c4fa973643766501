//! What a plan takes away, in words and by layer.

use espalier_components::Unit;
use espalier_evaluation::Language;

use crate::plan::{LayerPlan, Plan, Selection};

/// The kinds of which something went: how many of how many, in all layers that stay.
pub(super) fn removed(plan: &Plan, language: Language) -> Vec<String> {
    let gone: Vec<String> =
        plan.layers.iter().filter(|layer| layer.removed).map(|layer| layer.layer.to_string()).collect();
    let mut lines = Vec::new();
    if !gone.is_empty() {
        let (count, all, list) = (gone.len(), plan.layers.len(), gone.join(", "));
        lines.push(match language {
            Language::English => format!("{count} of {all} layers: {list}"),
            Language::Chinese => format!("{all} 层中的 {count} 层：{list}"),
        });
    }
    for (unit, found) in kinds(plan) {
        let (went, all) =
            (found.iter().map(|kept| kept.0).sum::<usize>(), found.iter().map(|kept| kept.1).sum::<usize>());
        if went > 0 {
            let name = unit_name(unit, language);
            lines.push(match language {
                Language::English => format!("{went} of {all} {name}"),
                Language::Chinese => format!("{all} 个{name}中的 {went} 个"),
            });
        }
    }
    lines
}

/// For each kind, units that go and units that are there, by layer that stays.
fn kinds(plan: &Plan) -> Vec<(Unit, Vec<(usize, usize)>)> {
    let of = |select: &dyn Fn(&LayerPlan) -> Option<(usize, usize)>| {
        plan.layers.iter().filter(|layer| !layer.removed).filter_map(select).collect::<Vec<_>>()
    };
    let counts = |found: &Selection| (found.removed.len(), found.count);
    vec![
        (Unit::KvGroup, of(&|layer| Some(counts(&layer.kv_groups)))),
        // A key/value group takes its heads with it.
        (Unit::Head, of(&|layer| Some((layer.heads.count - layer.kept_heads().len(), layer.heads.count)))),
        (Unit::FfnChannel, of(&|layer| layer.ffn_channels.as_ref().map(counts))),
        (Unit::Expert, of(&|layer| layer.experts.as_ref().map(counts))),
        (
            Unit::ExpertChannel,
            of(&|layer| {
                let all = layer.expert_channels.iter().map(|of| counts(&of.channels));
                all.reduce(|(went, count), (more, further)| (went + more, count + further))
            }),
        ),
    ]
}

/// The share of each layer that stays, by kind.
pub(super) fn kept(plan: &Plan) -> Vec<(Unit, Vec<f64>)> {
    let share = |went: usize, all: usize| 1.0 - went as f64 / all.max(1) as f64;
    let of = |select: &dyn Fn(&LayerPlan) -> Option<(usize, usize)>| -> Option<Vec<f64>> {
        let of_layer = |layer: &LayerPlan| {
            let (went, all) = select(layer)?;
            Some(if layer.removed { 0.0 } else { share(went, all) })
        };
        plan.layers.iter().map(of_layer).collect()
    };
    let counts = |found: &Selection| (found.removed.len(), found.count);
    let heads = of(&|layer| Some((layer.heads.count - layer.kept_heads().len(), layer.heads.count)));
    let channels = of(&|layer| layer.ffn_channels.as_ref().map(counts));
    let experts = of(&|layer| layer.experts.as_ref().map(counts));
    [(Unit::Head, heads), (Unit::FfnChannel, channels), (Unit::Expert, experts)]
        .into_iter()
        .filter_map(|(unit, shares)| Some((unit, shares?)))
        .collect()
}

/// Units of one kind, in the plural.
pub(super) const fn unit_name(unit: Unit, language: Language) -> &'static str {
    match unit {
        Unit::Layer => language.choose("layers", "层"),
        Unit::Head => language.choose("heads", "注意力头"),
        Unit::KvGroup => language.choose("key/value groups", "键值组"),
        Unit::FfnChannel => language.choose("channels", "前馈通道"),
        Unit::Expert => language.choose("experts", "专家"),
        Unit::ExpertChannel => language.choose("expert channels", "专家通道"),
    }
}
