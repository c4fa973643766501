//! What goes from one layer.

use espalier_components::{AblatedUnit, Unit};
use espalier_model::{ExpertsSpec, LayerSpec};
use serde::{Deserialize, Serialize};

use super::{Constraints, Selection, expect, mismatch};
use crate::error::PruningError;

/// What goes from one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerPlan {
    /// The layer's index in the model before.
    pub layer: usize,
    /// Whether the whole layer goes; what is said of its units does not matter then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// Key/value groups, which take their query heads with them.
    pub kv_groups: Selection,
    /// Query heads that go from groups that stay.
    pub heads: Selection,
    /// Channels of a dense feed-forward block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ffn_channels: Option<Selection>,
    /// Experts of a mixture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<Selection>,
    /// Channels that go from experts that stay, the same number from each: empty, or one entry for each such expert.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expert_channels: Vec<ExpertChannels>,
}

/// The channels of one expert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertChannels {
    /// The expert's index in the layer before.
    pub expert: usize,
    /// Its channels.
    #[serde(flatten)]
    pub channels: Selection,
}

impl LayerPlan {
    /// Everything stays.
    #[must_use]
    pub fn unchanged(index: usize, layer: &LayerSpec) -> Self {
        Self {
            layer: index,
            removed: false,
            kv_groups: Selection::everything(layer.kv_heads),
            heads: Selection::everything(layer.heads),
            ffn_channels: layer.experts.is_none().then(|| Selection::everything(layer.ffn_size)),
            experts: layer.experts.map(|experts| Selection::everything(experts.count)),
            expert_channels: Vec::new(),
        }
    }

    /// Whether nothing goes.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        let whole = |selection: &Selection| selection.removed.is_empty();
        !self.removed
            && whole(&self.kv_groups)
            && whole(&self.heads)
            && self.ffn_channels.as_ref().is_none_or(whole)
            && self.experts.as_ref().is_none_or(whole)
            && self.expert_channels.iter().all(|entry| whole(&entry.channels))
    }

    /// Every unit that goes; of a layer that goes as a whole, the layer.
    pub(super) fn removed_units(&self) -> Vec<AblatedUnit> {
        let layer = self.layer;
        if self.removed {
            return vec![AblatedUnit { layer, unit: Unit::Layer, index: 0 }];
        }
        let mut units = Vec::new();
        let mut add = |unit, selection: Option<&Selection>, first: usize| {
            let indices = selection.into_iter().flat_map(|selection| &selection.removed);
            units.extend(indices.map(|index| AblatedUnit { layer, unit, index: first + index }));
        };
        add(Unit::KvGroup, Some(&self.kv_groups), 0);
        add(Unit::Head, Some(&self.heads), 0);
        add(Unit::FfnChannel, self.ffn_channels.as_ref(), 0);
        add(Unit::Expert, self.experts.as_ref(), 0);
        for of in &self.expert_channels {
            add(Unit::ExpertChannel, Some(&of.channels), of.expert * of.channels.count);
        }
        units
    }

    /// Indices of the query heads that stay, ascending: those of the groups that stay, but for the removed ones.
    #[must_use]
    pub fn kept_heads(&self) -> Vec<usize> {
        let group = self.group_size();
        self.heads
            .kept()
            .into_iter()
            .filter(|head| self.kv_groups.removed.binary_search(&(head / group)).is_err())
            .collect()
    }

    fn group_size(&self) -> usize {
        self.heads.count.checked_div(self.kv_groups.count).unwrap_or(0).max(1)
    }

    /// The layer after, unless it goes.
    pub(super) fn apply_to(
        &self,
        layer: &LayerSpec,
        constraints: &Constraints,
    ) -> Result<Option<LayerSpec>, PruningError> {
        if self.removed {
            return Ok(None);
        }
        let index = self.layer;
        self.kv_groups.check(&format!("kv_groups of layer {index}"), layer.kv_heads)?;
        self.heads.check(&format!("heads of layer {index}"), layer.heads)?;
        self.check_groups()?;
        let mut after = layer.clone();
        after.kv_heads = self.kv_groups.kept_count();
        after.heads = self.kept_heads().len();
        match layer.experts {
            None => self.apply_dense(layer, &mut after)?,
            Some(experts) => self.apply_mixture(layer, experts, &mut after)?,
        }
        let multiple = constraints.ffn_channel_multiple.max(1);
        if after.ffn_size != layer.ffn_size && !after.ffn_size.is_multiple_of(multiple) {
            let what = format!("the number of channels kept in layer {index}");
            let expected = format!("all, or a multiple of {multiple}, the constraint ffn_channel_multiple");
            return Err(mismatch(what, after.ffn_size, expected));
        }
        Ok(Some(after))
    }

    fn apply_dense(&self, layer: &LayerSpec, after: &mut LayerSpec) -> Result<(), PruningError> {
        let index = self.layer;
        if self.experts.is_some() || !self.expert_channels.is_empty() {
            return Err(mismatch(format!("the feed-forward part of layer {index}"), "experts", "none"));
        }
        let name = format!("ffn_channels of layer {index}");
        let channels = self.ffn_channels.as_ref().ok_or_else(|| mismatch(&name, "missing", "a selection"))?;
        channels.check(&name, layer.ffn_size)?;
        after.ffn_size = channels.kept_count();
        Ok(())
    }

    fn apply_mixture(
        &self,
        layer: &LayerSpec,
        before: ExpertsSpec,
        after: &mut LayerSpec,
    ) -> Result<(), PruningError> {
        let index = self.layer;
        if self.ffn_channels.is_some() {
            return Err(mismatch(format!("ffn_channels of layer {index}"), "a selection", "none"));
        }
        let name = format!("experts of layer {index}");
        let experts = self.experts.as_ref().ok_or_else(|| mismatch(&name, "missing", "a selection"))?;
        experts.check(&name, before.count)?;
        let (count, active) = (experts.kept_count(), before.active);
        if count < active {
            let what = format!("the number of experts kept in layer {index}");
            let expected =
                format!("at least {active}, through which each token passes (num_experts_per_tok)");
            return Err(mismatch(what, count, expected));
        }
        after.experts = Some(ExpertsSpec { count, active });
        if self.expert_channels.is_empty() {
            return Ok(());
        }
        let named: Vec<usize> = self.expert_channels.iter().map(|entry| entry.expert).collect();
        if named != experts.kept() {
            let what = format!("the list of experts in expert_channels of layer {index}");
            return Err(mismatch(what, format!("{named:?}"), format!("{:?}", experts.kept())));
        }
        let mut width = None;
        for ExpertChannels { expert, channels } in &self.expert_channels {
            channels.check(&format!("channels of expert {expert} of layer {index}"), layer.ffn_size)?;
            let kept = channels.kept_count();
            let what = format!("the number of channels kept in expert {expert} of layer {index}");
            expect(&what, kept, *width.get_or_insert(kept))?;
        }
        after.ffn_size = width.unwrap_or(layer.ffn_size);
        Ok(())
    }

    /// Every key/value head must keep the same number of query heads, or the survivors would read another head's keys.
    fn check_groups(&self) -> Result<(), PruningError> {
        let (index, group) = (self.layer, self.group_size());
        let mut kept = vec![0_usize; self.kv_groups.count];
        for head in self.heads.kept() {
            if let Some(count) = kept.get_mut(head / group) {
                *count += 1;
            }
        }
        let mut first = None;
        for (place, found) in kept.into_iter().enumerate() {
            let what = |group: usize| {
                format!("the number of heads kept in key/value group {group} of layer {index}")
            };
            if self.kv_groups.removed.binary_search(&place).is_ok() {
                if found != group {
                    let what = format!("the removed list of heads of layer {index}");
                    let found = format!("one with heads of group {place}");
                    return Err(mismatch(
                        what,
                        found,
                        "heads of groups that stay, since this one goes whole",
                    ));
                }
                continue;
            }
            if found == 0 {
                return Err(mismatch(what(place), 0, "at least 1, or the group in kv_groups"));
            }
            expect(&what(place), found, *first.get_or_insert(found))?;
        }
        Ok(())
    }
}
