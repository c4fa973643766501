//! Model shapes and scores for tests.

use espalier_model::{Activation, Architecture, ExpertsSpec, LayerSpec, ModelSpec, RopeScaling, RopeSpec};
use espalier_pruning::{
    Constraints, NumberFormat, PlanRequest, PolicyReference, Scores, Storage, Target, Unit, check_supported,
    unit_count,
};

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

/// gpt-oss-20b's shape.
pub(crate) fn gpt_oss_20b() -> ModelSpec {
    let layer = LayerSpec {
        heads: 64,
        kv_heads: 8,
        ffn_size: 2880,
        attention_bias: true,
        output_bias: true,
        sliding_window: None,
        attention_sinks: true,
        experts: Some(ExpertsSpec { count: 32, active: 4 }),
    };
    let sliding = LayerSpec { sliding_window: Some(128), ..layer.clone() };
    ModelSpec {
        architecture: Architecture::GptOss,
        hidden_size: 2880,
        vocab_size: 201_088,
        head_dim: 64,
        layers: (0..24).map(|index| if index % 2 == 0 { sliding.clone() } else { layer.clone() }).collect(),
        rope: RopeSpec { theta: 150_000.0, scaling: RopeScaling::None },
        max_positions: 131_072,
        tie_word_embeddings: false,
        activation: Activation::ClampedSwiglu { alpha: 1.702, limit: 7.0 },
        ..llama(1, 1, 1, 1, 1)
    }
}

/// A gpt-oss of four layers with 8 experts of 128 channels, 8 query heads in 4 groups.
pub(crate) fn small_gpt_oss() -> ModelSpec {
    let mut spec = gpt_oss_20b();
    spec.hidden_size = 64;
    spec.vocab_size = 256;
    spec.head_dim = 16;
    spec.layers.truncate(4);
    for layer in &mut spec.layers {
        layer.heads = 8;
        layer.kv_heads = 4;
        layer.ffn_size = 128;
        layer.experts = Some(ExpertsSpec { count: 8, active: 4 });
    }
    spec
}

/// Scores for every kind of unit that the model has, in every layer.
pub(crate) fn scores(spec: &ModelSpec, seed: u64) -> Scores {
    let mut next = numbers(seed);
    let mut scores = Scores::new();
    for unit in Unit::ALL {
        if check_supported(unit, spec).is_ok() {
            let layers = spec.layers.iter();
            let draw = layers.map(|layer| (0..unit_count(unit, layer)).map(|_| next()).collect());
            scores.insert(unit, draw.collect());
        }
    }
    scores
}

/// A request for this share and these units.
pub(crate) fn request(keep: f64, units: &[Unit]) -> PlanRequest {
    PlanRequest {
        target: Target::share(keep),
        units: units.to_vec(),
        constraints: Constraints::default(),
        storage: Storage::uniform(NumberFormat::Bf16),
        policies: vec![PolicyReference {
            name: "activation-norm".to_owned(),
            version: "0.1.0".to_owned(),
            digest: "00".repeat(32).parse().unwrap(),
        }],
        calibration: None,
    }
}

/// A request for these counts, of a model whose experts are stored as MXFP4.
pub(crate) fn counted<const N: usize>(counts: [(Unit, usize); N]) -> PlanRequest {
    PlanRequest { target: Target::counts(counts), storage: Storage::mxfp4_experts(), ..request(1.0, &[]) }
}
