//! What GGUF can say of a gpt-oss model, and what it can't.

use espalier_model::{
    Activation, Checkpoint, ExpertsSpec, ModelError, ModelSpec, RopeScaling, SynthShape, gguf, write_gguf,
};
use serde_json::json;

use crate::model::{Model, plans_in_f32};

fn shape() -> SynthShape {
    SynthShape::default().with("model_type", "gpt_oss").with("torch_dtype", "bfloat16")
}

/// Writes a file of zeros with this specification and opens it.
fn written(model: &Model, name: &str, spec: &ModelSpec) -> Result<Checkpoint, ModelError> {
    let plans = plans_in_f32(spec);
    let path = model.path(name);
    let files = Checkpoint::open(&model.hugging_face()).unwrap().tokenizer_files().unwrap();
    write_gguf(&path, spec, &files, &plans, &mut |plan| {
        Ok(vec![0; 4 * plan.shape.iter().product::<usize>()])
    })?;
    Checkpoint::open(&path)
}

#[test]
fn a_ramp_that_is_rounded_comes_back_rounded() {
    let yarn = |truncate: bool| {
        json!({
            "rope_type": "yarn", "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": truncate,
            "original_max_position_embeddings": 2048,
        })
    };
    for truncate in [false, true] {
        let model = Model::new(&shape().with("rope_scaling", yarn(truncate)));
        let (hf, gguf) = (Checkpoint::open(&model.hugging_face()).unwrap(), model.gguf());
        assert_eq!(Checkpoint::open(&gguf).unwrap().spec(), hf.spec());
        let RopeScaling::Yarn { truncate: found, .. } = hf.spec().rope.scaling else { panic!("yarn") };
        assert_eq!(found, truncate);
    }
}

#[test]
fn windows_that_do_not_alternate_have_a_place() {
    let model = Model::new(&shape());
    let spec = Checkpoint::open(&model.hugging_face()).unwrap().spec().clone();
    let mut uneven = spec.clone();
    uneven.layers.remove(0);
    let found = written(&model, "uneven.gguf", &uneven).unwrap();
    assert_eq!(found.spec(), &uneven);
    // Where the layers alternate, nothing is said: programs that know no pattern load the file too.
    written(&model, "even.gguf", &spec).unwrap();
    for (name, said) in [("even.gguf", false), ("uneven.gguf", true)] {
        let file = std::fs::read(model.path(name)).unwrap();
        let metadata = gguf::parse(&file).unwrap().metadata;
        assert_eq!(metadata.get("gpt-oss.attention.sliding_window_pattern").is_some(), said, "{name}");
    }
}

#[test]
fn layers_of_unequal_experts_are_refused() {
    let model = Model::new(&shape());
    let mut spec = Checkpoint::open(&model.hugging_face()).unwrap().spec().clone();
    spec.layers[2].experts = Some(ExpertsSpec { count: 5, active: 4 });
    let message = written(&model, "uneven.gguf", &spec).unwrap_err().to_string();
    assert!(
        message.contains("layer 2") && message.contains("5 experts") && message.contains("8 experts"),
        "{message}"
    );
}

#[test]
fn another_activation_is_refused() {
    let model = Model::new(&shape());
    let mut spec = Checkpoint::open(&model.hugging_face()).unwrap().spec().clone();
    spec.activation = Activation::ClampedSwiglu { alpha: 1.702, limit: 6.0 };
    let message = written(&model, "other.gguf", &spec).unwrap_err().to_string();
    assert!(message.contains("limit: 6") && message.contains("alpha 1.702 and limit 7"), "{message}");
    assert!(!model.path("other.gguf").exists());
}
