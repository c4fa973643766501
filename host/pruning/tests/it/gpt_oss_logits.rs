//! A pruned gpt-oss computes what the original does with the same units muted.

use espalier_model::Checkpoint;
use espalier_pruning::{Count, ExpertChannels, Unit};

use crate::gpt_oss::{Cut, of_heads, shape};
use crate::models::{changed_copy, logits, relative_error};
use crate::specs::counted;

/// The original with what the plan removes without effect: experts that no router picks, heads and channels whose output
/// goes nowhere, layers that add nothing.
fn muted(cut: &Cut) -> Checkpoint {
    changed_copy(&cut.original, &cut.directory.join("muted"), |name, shape, values| {
        let inside = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
        let Some((layer, part)) = inside else { return };
        let entry = &cut.plan.layers[layer.parse::<usize>().unwrap()];
        let adds = [
            "self_attn.o_proj.weight",
            "self_attn.o_proj.bias",
            "mlp.experts.down_proj.weight",
            "mlp.experts.down_proj.bias",
        ];
        match part {
            _ if entry.removed && adds.contains(&part) => values.fill(0.0),
            "self_attn.o_proj.weight" => {
                let kept = of_heads(&entry.kept_heads());
                for (index, value) in values.iter_mut().enumerate() {
                    if !kept.contains(&(index % shape[1])) {
                        *value = 0.0;
                    }
                }
            }
            "mlp.router.bias" => {
                for &expert in &entry.experts.as_ref().unwrap().removed {
                    values[expert] = -1e30;
                }
            }
            "mlp.experts.down_proj.weight" => {
                for ExpertChannels { expert, channels } in &entry.expert_channels {
                    for row in values[expert * 64 * 128..(expert + 1) * 64 * 128].chunks_mut(128) {
                        for &channel in &channels.removed {
                            row[channel] = 0.0;
                        }
                    }
                }
            }
            _ => {}
        }
    })
}

#[test]
fn a_pruned_model_computes_what_the_original_does_with_the_units_muted() {
    let tokens: Vec<u32> = (0..40).map(|place| place * 37 % 250).collect();
    for counts in [
        &[(Unit::Expert, 5)][..],
        &[(Unit::Head, 4)],
        &[(Unit::KvGroup, 3)],
        &[(Unit::ExpertChannel, 96)],
        &[(Unit::Layer, 4)],
        &[
            (Unit::Layer, 4),
            (Unit::KvGroup, 2),
            (Unit::Head, 2),
            (Unit::Expert, 6),
            (Unit::ExpertChannel, 64),
        ],
    ] {
        let mut asked = counted([]);
        asked.target.counts = counts.iter().map(|&(unit, count)| (unit, Count::Uniform(count))).collect();
        let cut = Cut::new(&shape().with("num_hidden_layers", 6), &asked);
        let found = logits(&cut.pruned, &tokens);
        let expected = logits(&muted(&cut), &tokens);
        let error = relative_error(&found, &expected);
        assert!(error < 1e-4, "{counts:?}: relative error {error}");
        let untouched = relative_error(&logits(&cut.original, &tokens), &expected);
        assert!(untouched > 1e-3, "{counts:?}: the removed units did something: {untouched}");
    }
}
