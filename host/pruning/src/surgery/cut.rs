//! What a plan does to one tensor: which parts of each side stay.

use std::ops::Range;

use espalier_model::{ModelSpec, StoredTensor, TensorPlan};

use crate::error::PruningError;
use crate::plan::{LayerPlan, Plan};

/// The parts of one side of a tensor that stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Side {
    /// All of it.
    #[default]
    Whole,
    /// These ranges, ascending.
    Ranges(Vec<Range<usize>>),
    /// Other ranges in each expert that stays, in their order.
    PerExpert(Vec<Vec<Range<usize>>>),
}

impl Side {
    /// The ranges in the expert at this place among those that stay, of a side of `length`.
    pub(super) fn ranges(&self, place: usize, length: usize) -> Vec<Range<usize>> {
        match self {
            Self::Whole => Vec::from([Range { start: 0, end: length }]),
            Self::Ranges(ranges) => ranges.clone(),
            Self::PerExpert(experts) => experts.get(place).cloned().unwrap_or_default(),
        }
    }

    fn fits(&self, found: usize, target: usize) -> bool {
        let fits = |ranges: &[Range<usize>]| {
            ranges.iter().all(|range| range.end <= found) && total(ranges) == target
        };
        match self {
            Self::Whole => found == target,
            Self::Ranges(ranges) => fits(ranges),
            Self::PerExpert(experts) => experts.iter().all(|ranges| fits(ranges)),
        }
    }
}

/// A tensor of the new model, and what it is of the old one.
///
/// Every tensor is seen as `[experts, rows, columns]`: one without experts has one of them, a vector is one column.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    /// The tensor's name in the source.
    pub(super) source: String,
    /// Whether its first side is that of experts.
    pub(super) of_experts: bool,
    /// The experts that stay; of a tensor without experts nothing is said here.
    pub(super) experts: Vec<usize>,
    pub(super) rows: Side,
    pub(super) columns: Side,
}

impl Cut {
    /// How `plan` makes the tensor of this HF name, whose layers are those that stay, counted anew.
    pub(super) fn of(name: &str, plan: &Plan, kept_layers: &[usize], spec: &ModelSpec) -> Self {
        let whole = |source: String| Self {
            source,
            of_experts: false,
            experts: Vec::new(),
            rows: Side::Whole,
            columns: Side::Whole,
        };
        let Some((layer, part)) = split_layer(name) else { return whole(name.to_owned()) };
        let entry = kept_layers.get(layer).and_then(|&source| plan.layers.get(source));
        let Some(entry) = entry else { return whole(name.to_owned()) };
        let mut cut = whole(format!("model.layers.{}.{part}", entry.layer));
        cut.place_sides(part, entry, spec.head_dim);
        cut
    }

    fn place_sides(&mut self, part: &str, entry: &LayerPlan, head_dim: usize) {
        let heads = |width: usize| Side::Ranges(ranges(&entry.kept_heads(), width));
        let groups = || Side::Ranges(ranges(&entry.kv_groups.kept(), head_dim));
        let channels = || match &entry.ffn_channels {
            Some(channels) => Side::Ranges(ranges(&channels.kept(), 1)),
            None if entry.expert_channels.is_empty() => Side::Whole,
            None => {
                let kept = entry.expert_channels.iter().map(|expert| ranges(&expert.channels.kept(), 1));
                Side::PerExpert(kept.collect())
            }
        };
        let experts = || entry.experts.as_ref().map(|experts| experts.kept()).unwrap_or_default();
        if let Some(projection) = part.strip_prefix("mlp.experts.") {
            self.of_experts = true;
            self.experts = experts();
            match projection {
                "gate_proj.weight" | "up_proj.weight" => self.rows = channels(),
                // The bias of one expert is a row.
                "gate_proj.bias" | "up_proj.bias" | "down_proj.weight" => self.columns = channels(),
                _ => {}
            }
            return;
        }
        match part {
            "self_attn.q_proj.weight" | "self_attn.q_proj.bias" => self.rows = heads(head_dim),
            "self_attn.k_proj.weight"
            | "self_attn.k_proj.bias"
            | "self_attn.v_proj.weight"
            | "self_attn.v_proj.bias" => self.rows = groups(),
            "self_attn.sinks" => self.rows = heads(1),
            "self_attn.o_proj.weight" => self.columns = heads(head_dim),
            "mlp.gate_proj.weight" | "mlp.up_proj.weight" => self.rows = channels(),
            "mlp.down_proj.weight" => self.columns = channels(),
            "mlp.router.weight" | "mlp.router.bias" => self.rows = Side::Ranges(ranges(&experts(), 1)),
            _ => {}
        }
    }

    /// Whether the tensor goes over as it is, but for its first side.
    pub(super) fn keeps_rows_and_columns(&self) -> bool {
        self.rows == Side::Whole && self.columns == Side::Whole
    }

    /// Experts, rows and columns of a shape.
    pub(super) fn sides(&self, shape: &[usize]) -> [usize; 3] {
        match *shape {
            [length] => [1, length, 1],
            [experts, columns] if self.of_experts => [experts, 1, columns],
            [rows, columns] => [1, rows, columns],
            [experts, rows, columns] => [experts, rows, columns],
            _ => [1, 1, 1],
        }
    }

    /// The cut stays inside the source, and what stays has the target's shape.
    pub(super) fn check(&self, source: &StoredTensor, target: &TensorPlan) -> Result<(), PruningError> {
        let [experts, rows, columns] = self.sides(&source.shape);
        let [kept_experts, kept_rows, kept_columns] = self.sides(&target.shape);
        let experts_fit = match self.of_experts {
            true => self.experts.iter().all(|&expert| expert < experts) && self.experts.len() == kept_experts,
            false => kept_experts == 1,
        };
        if source.shape.len() == target.shape.len()
            && experts_fit
            && self.rows.fits(rows, kept_rows)
            && self.columns.fits(columns, kept_columns)
        {
            return Ok(());
        }
        Err(PruningError::TensorShape {
            name: source.name.clone(),
            found: source.shape.clone(),
            expected: format!("a shape that becomes {:?} when the plan's units are cut", target.shape),
        })
    }
}

/// `model.layers.3.mlp.up_proj.weight` is part `mlp.up_proj.weight` of layer 3.
fn split_layer(name: &str) -> Option<(usize, &str)> {
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    Some((layer.parse().ok()?, part))
}

/// The index ranges of the kept units, each `width` long, neighbours joined.
pub(super) fn ranges(kept: &[usize], width: usize) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for &unit in kept {
        let next = unit * width..(unit + 1) * width;
        match ranges.last_mut() {
            Some(last) if last.end == next.start => last.end = next.end,
            _ => ranges.push(next),
        }
    }
    ranges
}

/// The part `wanted` of what is left when `ranges` are put side by side.
pub(super) fn window(ranges: &[Range<usize>], wanted: &Range<usize>) -> Vec<Range<usize>> {
    let mut place = 0;
    let mut inside = Vec::new();
    for range in ranges {
        let (start, end) = (wanted.start.max(place), wanted.end.min(place + range.len()));
        if start < end {
            inside.push(range.start + start - place..range.start + end - place);
        }
        place += range.len();
    }
    inside
}

pub(super) fn total(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(ExactSizeIterator::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join_into_one_range() {
        assert_eq!(ranges(&[0, 1, 3], 4), vec![0..8, 12..16]);
        assert_eq!(total(&ranges(&[0, 1, 3], 4)), 12);
        assert!(ranges(&[], 4).is_empty());
    }

    #[test]
    fn windows_cut_what_is_kept() {
        let kept = [2..5, 8..9, 10..14];
        assert_eq!(window(&kept, &(0..8)), kept);
        assert_eq!(window(&kept, &(1..5)), [3..5, 8..9, 10..11]);
        assert_eq!(window(&kept, &(3..4)), [Range { start: 8, end: 9 }]);
        assert!(window(&kept, &(8..8)).is_empty());
    }

    #[test]
    fn only_tensors_inside_a_layer_have_one() {
        assert_eq!(split_layer("model.layers.12.mlp.up_proj.weight"), Some((12, "mlp.up_proj.weight")));
        assert_eq!(split_layer("model.norm.weight"), None);
        assert_eq!(split_layer("model.layers.x.mlp.up_proj.weight"), None);
    }
}
