//! What a plan must respect beside its target.

use serde::{Deserialize, Serialize};

use crate::storage::{NumberFormat, Storage};

/// Values of an MXFP4 block.
pub(super) const MXFP4_BLOCK: usize = 32;

/// Who is to load the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// HF transformers, vLLM and llama.cpp: the same counts in every layer, and sliding and full attention in turn where
    /// the model has them so.
    #[default]
    Portable,
    /// This program alone: every layer may have counts of its own, and any layer may go.
    Espalier,
}

impl Layout {
    /// The name in constraints and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Espalier => "espalier",
        }
    }

    /// The layout with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Portable, Self::Espalier].into_iter().find(|layout| layout.name() == name)
    }
}

/// What a plan must respect beside its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Constraints {
    /// The number of channels kept, of a feed-forward block or of each expert, is a multiple of this (or all of them).
    /// Block formats quantise 32 consecutive columns of the down projection together, K-quants 256.
    pub ffn_channel_multiple: usize,
    /// Query heads that stay in every key/value group that stays, at least 1.
    pub min_heads_per_group: usize,
    /// The number of query heads kept divides the hidden size, for architectures other than gpt-oss. The reference
    /// implementation of Llama refuses to load any other count, although it would compute correctly.
    pub heads_divide_hidden_size: bool,
    /// Channels of experts that are stored as MXFP4 go in aligned groups of 32, whole blocks of the down projection, so
    /// that every value that stays is the same to the bit. Without it each channel goes by its own score, and the down
    /// projection is quantised again.
    pub lossless: bool,
    /// Who is to load the result.
    pub layout: Layout,
}

impl Default for Constraints {
    fn default() -> Self {
        Self {
            ffn_channel_multiple: 32,
            min_heads_per_group: 1,
            heads_divide_hidden_size: true,
            lossless: true,
            layout: Layout::Portable,
        }
    }
}

/// How many channels of an expert go or stay together.
pub(super) fn channel_block(constraints: &Constraints, storage: &Storage) -> usize {
    match storage.experts {
        NumberFormat::Mxfp4 if constraints.lossless => MXFP4_BLOCK,
        _ => 1,
    }
}
