//! Model shapes and scores for tests.

use espalier_model::{Activation, Architecture, LayerSpec, ModelSpec, RopeScaling, RopeSpec};
use espalier_pruning::{Constraints, PlanRequest, PolicyReference, Scores, StorageType, Unit};

/// A Llama of this shape, every layer alike.
pub(crate) fn llama(layers: usize, hidden: usize, heads: usize, kv_heads: usize, ffn: usize) -> ModelSpec {
    let layer = LayerSpec {
        heads,
        kv_heads,
        ffn_size: ffn,
        attention_bias: false,
        output_bias: false,
        sliding_window: None,
        attention_sinks: false,
        experts: None,
    };
    ModelSpec {
        architecture: Architecture::Llama,
        hidden_size: hidden,
        vocab_size: 256,
        head_dim: 8,
        layers: vec![layer; layers],
        rms_norm_eps: 1e-5,
        rope: RopeSpec { theta: 10_000.0, scaling: RopeScaling::None },
        max_positions: 128,
        tie_word_embeddings: true,
        bos: None,
        eos: Vec::new(),
        add_bos: false,
        activation: Activation::Silu,
    }
}

/// SmolLM2-135M's shape.
pub(crate) fn smollm2() -> ModelSpec {
    let mut spec = llama(30, 576, 9, 3, 1536);
    spec.head_dim = 64;
    spec.vocab_size = 49_152;
    spec
}

/// Numbers in [0, 1) that look random and depend on the seed alone (splitmix64).
pub(crate) fn numbers(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Scores for heads and channels of every layer.
pub(crate) fn scores(spec: &ModelSpec, seed: u64) -> Scores {
    let mut next = numbers(seed);
    let mut draw = |count: fn(&LayerSpec) -> usize| {
        spec.layers.iter().map(|layer| (0..count(layer)).map(|_| next()).collect()).collect()
    };
    let mut scores = Scores::new();
    scores.insert(Unit::Head, draw(|layer| layer.heads));
    scores.insert(Unit::FfnChannel, draw(|layer| layer.ffn_size));
    scores
}

/// A request for this share and these units.
pub(crate) fn request(keep: f64, units: &[Unit]) -> PlanRequest {
    PlanRequest {
        keep,
        units: units.to_vec(),
        constraints: Constraints::default(),
        storage: StorageType::Bf16,
        policy: Some(PolicyReference {
            name: "activation-norm".to_owned(),
            version: "0.1.0".to_owned(),
            digest: "00".repeat(32).parse().unwrap(),
        }),
        calibration: None,
    }
}
