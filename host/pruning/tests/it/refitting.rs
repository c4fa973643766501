//! Closed-form recovery: what is left is fitted to give what was there before.

use espalier_kernels::{Cpu, Precision};
use espalier_model::{Ablation as NoUnits, Checkpoint, LayerSteps, Model, SynthShape};
use espalier_pruning::{
    Calibration, CalibrationRequest, Constraints, NumberFormat, PROVENANCE_FILE, Plan, PlanRequest,
    PruningError, RefitRequest, Storage, Target, Unit, Unwatched, plan, refit, surgery, surgery_with,
};

use crate::gpt_oss;
use crate::models::{Directory, llama_shape, synth};
use crate::specs::{request, scores};

fn opened(checkpoint: &Checkpoint) -> (Model, Calibration) {
    let tokenizer = checkpoint.tokenizer().unwrap();
    let asked = CalibrationRequest { windows: 24, window_tokens: 64, seed: 5 };
    let calibration = Calibration::draw(&[], &tokenizer, checkpoint.spec(), &asked).unwrap();
    (Model::load(checkpoint, Cpu::new(2).unwrap()).unwrap(), calibration)
}

fn planned<const N: usize>(checkpoint: &Checkpoint, counts: [(Unit, usize); N]) -> Plan {
    let asked = PlanRequest {
        target: Target::counts(counts),
        storage: Storage::uniform(NumberFormat::F32),
        constraints: Constraints { lossless: false, ..Constraints::default() },
        ..request(1.0, &[])
    };
    plan(&scores(checkpoint.spec(), 6), checkpoint.spec(), &asked).unwrap()
}

/// The hidden states behind the last layer.
fn hidden(model: &Model, windows: &[Vec<u32>]) -> Vec<f32> {
    let nothing = NoUnits::new(model.spec());
    let mut steps = LayerSteps::new(model, &nothing, windows[0].len()).unwrap();
    let mut all = Vec::new();
    for window in windows {
        let mut hidden = steps.embed(window).unwrap();
        for layer in 0..model.spec().layers.len() {
            steps.attention(layer, &mut hidden).unwrap();
            steps.feed_forward(layer, &mut hidden).unwrap();
        }
        all.append(&mut hidden);
    }
    all
}

fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let differences = squares(&mut found.iter().zip(expected).map(|(a, b)| f64::from(a - b)));
    (differences / squares(&mut expected.iter().map(|value| f64::from(*value)))).sqrt()
}

/// Cuts with and without a fit, and says how far the hidden states of both are from those of the whole model.
fn distances<const N: usize>(shape: &SynthShape, counts: [(Unit, usize); N]) -> (f64, f64) {
    let directory = Directory::new();
    let original = synth(shape, &directory.join("original"));
    let (model, calibration) = opened(&original);
    let plan = planned(&original, counts);
    let how = RefitRequest { expert_mean: true, ..RefitRequest::default() };
    let fitted = refit(&original, &model, &plan, &calibration, how, &mut Unwatched).unwrap();
    surgery(&plan, &original, &directory.join("cut"), &mut Unwatched).unwrap();
    surgery_with(&plan, &original, Some(&fitted), &directory.join("fitted"), &mut Unwatched).unwrap();
    let expected = hidden(&model, &calibration.windows);
    let of = |name: &str| {
        let checkpoint = Checkpoint::open(&directory.join(name)).unwrap();
        let model = Model::load(&checkpoint, Cpu::new(2).unwrap()).unwrap();
        distance(&hidden(&model, &calibration.windows), &expected)
    };
    (of("cut"), of("fitted"))
}

#[test]
fn steps_through_all_layers_are_the_forward_pass() {
    for shape in [llama_shape(), gpt_oss::shape()] {
        let directory = Directory::new();
        let (model, calibration) = opened(&synth(&shape, &directory.join("model")));
        let window = &calibration.windows[0];
        let mut last = Vec::new();
        struct LastLayer<'a>(usize, &'a mut Vec<f32>);
        impl espalier_model::ProbeSink for LastLayer<'_> {
            fn wants(&self, layer: usize, probe: espalier_model::Probe) -> bool {
                layer == self.0 && probe == espalier_model::Probe::LayerOutput
            }
            fn record(&mut self, _: usize, _: espalier_model::Probe, _: usize, _: usize, values: &[f32]) {
                self.1.extend_from_slice(values);
            }
        }
        let mut sink = LastLayer(model.spec().layers.len() - 1, &mut last);
        model.score(window, Precision::Exact, Some(&mut sink), None).unwrap();
        assert_eq!(hidden(&model, std::slice::from_ref(window)), last);
    }
}

#[test]
fn a_fitted_dense_model_is_nearer_to_the_whole_one() {
    let counts = [(Unit::Head, 6), (Unit::FfnChannel, 64)];
    let (cut, fitted) = distances(&llama_shape(), counts);
    assert!(fitted < 0.9 * cut, "{fitted} with a fit, {cut} without");
}

#[test]
fn a_fitted_mixture_is_nearer_to_the_whole_one() {
    let (cut, fitted) = distances(&gpt_oss::shape(), [(Unit::Head, 4)]);
    assert!(fitted < 0.95 * cut, "{fitted} with a fit, {cut} without");
}

#[test]
fn a_mixture_without_experts_is_nearer_with_the_mean_of_what_went() {
    let (cut, fitted) = distances(&gpt_oss::shape(), [(Unit::Expert, 5)]);
    assert!(fitted < 0.97 * cut, "{fitted} with the mean, {cut} without");
}

#[test]
fn experts_without_some_channels_get_the_mean_of_them_in_their_biases() {
    let (cut, fitted) = distances(&gpt_oss::shape(), [(Unit::ExpertChannel, 64)]);
    assert!(fitted < 0.97 * cut, "{fitted} with the biases, {cut} without");

    let directory = Directory::new();
    let original = synth(&gpt_oss::shape(), &directory.join("original"));
    let (model, calibration) = opened(&original);
    let plan = planned(&original, [(Unit::ExpertChannel, 64)]);
    let how = RefitRequest::default();
    let fitted = refit(&original, &model, &plan, &calibration, how, &mut Unwatched).unwrap();
    assert_eq!(fitted.record.tensors, 4, "a tensor of biases in each layer");
    surgery_with(&plan, &original, Some(&fitted), &directory.join("fitted"), &mut Unwatched).unwrap();
    let cut = Checkpoint::open(&directory.join("fitted")).unwrap();

    // The first layer of the whole model, expert by expert.
    let nothing = NoUnits::new(model.spec());
    let mut steps = LayerSteps::new(&model, &nothing, 64).unwrap();
    let (mut sums, mut counts) = (vec![0.0_f64; 8 * 128], [0.0_f64; 8]);
    for window in &calibration.windows {
        let mut hidden = steps.embed(window).unwrap();
        steps.attention(0, &mut hidden).unwrap();
        let seen = steps.mixture(0, &mut hidden).unwrap();
        sums.iter_mut().zip(seen.activation_sums).for_each(|(sum, value)| *sum += f64::from(value));
        for row in seen.weights.chunks(8) {
            counts
                .iter_mut()
                .zip(row)
                .for_each(|(count, weight)| *count += f64::from(u8::from(*weight > 0.0)));
        }
    }
    let values = |checkpoint: &Checkpoint, name: &str| {
        checkpoint.tensor(&format!("model.layers.0.mlp.experts.down_proj.{name}")).unwrap().to_f32().unwrap()
    };
    let (weights, before, after) =
        (values(&original, "weight"), values(&original, "bias"), values(&cut, "bias"));
    for of in &plan.layers[0].expert_channels {
        let expert = of.expert;
        assert!(counts[expert] > 0.0);
        for output in 0..64 {
            let row = &weights[(expert * 64 + output) * 128..][..128];
            let mean = |channel: usize| sums[expert * 128 + channel] / counts[expert];
            let missed: f64 = of.channels.removed.iter().map(|&gone| f64::from(row[gone]) * mean(gone)).sum();
            let (found, expected) =
                (after[expert * 64 + output], f64::from(before[expert * 64 + output]) + missed);
            assert!(
                (f64::from(found) - expected).abs() < 1e-4 * expected.abs().max(1.0),
                "{found}, expected {expected}"
            );
        }
    }
}

#[test]
fn biases_alone_make_up_for_heads_where_the_projection_has_one() {
    let count = |shape: &SynthShape, heads: usize| {
        let directory = Directory::new();
        let original = synth(shape, &directory.join("original"));
        let (model, calibration) = opened(&original);
        let plan = planned(&original, [(Unit::Head, heads)]);
        let how = RefitRequest { bias_only: true, ..RefitRequest::default() };
        let fitted = refit(&original, &model, &plan, &calibration, how, &mut Unwatched).unwrap();
        surgery(&plan, &original, &directory.join("cut"), &mut Unwatched).unwrap();
        surgery_with(&plan, &original, Some(&fitted), &directory.join("fitted"), &mut Unwatched).unwrap();
        let whole = hidden(&model, &calibration.windows);
        let [cut, with_biases] = ["cut", "fitted"].map(|name| {
            let checkpoint = Checkpoint::open(&directory.join(name)).unwrap();
            let model = Model::load(&checkpoint, Cpu::new(2).unwrap()).unwrap();
            distance(&hidden(&model, &calibration.windows), &whole)
        });
        (fitted.record.tensors, cut, with_biases)
    };
    let (tensors, cut, with_biases) = count(&gpt_oss::shape(), 4);
    assert_eq!(tensors, 4);
    assert!(with_biases < cut, "{with_biases} with the biases, {cut} without");
    let (tensors, cut, with_biases) = count(&llama_shape(), 6);
    assert_eq!((tensors, cut), (0, with_biases), "a Llama has no such bias");
    let biased = llama_shape().with("attention_bias", true);
    assert_eq!(count(&biased, 6).0, 3);
}

#[test]
fn what_was_fitted_is_on_record_and_repeatable() {
    let directory = Directory::new();
    let original = synth(&llama_shape(), &directory.join("original"));
    let (model, calibration) = opened(&original);
    let plan = planned(&original, [(Unit::FfnChannel, 64)]);
    for name in ["first", "second"] {
        let fitted =
            refit(&original, &model, &plan, &calibration, RefitRequest::default(), &mut Unwatched).unwrap();
        assert_eq!(fitted.record.tensors, 3);
        surgery_with(&plan, &original, Some(&fitted), &directory.join(name), &mut Unwatched).unwrap();
    }
    let read = |path: &str| std::fs::read(directory.join(path)).unwrap();
    assert_eq!(read("first/model.safetensors"), read("second/model.safetensors"));
    let record: serde_json::Value =
        serde_json::from_slice(&read(&format!("first/{PROVENANCE_FILE}"))).unwrap();
    assert_eq!(record["refit"]["request"]["ridge"], 0.01);
    assert_eq!(record["refit"]["calibration"]["windows"], 24);
}

#[test]
fn a_plan_that_removes_nothing_leaves_nothing_to_fit() {
    let directory = Directory::new();
    let original = synth(&llama_shape(), &directory.join("original"));
    let (model, calibration) = opened(&original);
    let plan = Plan::unchanged(original.spec(), Storage::uniform(NumberFormat::F32));
    let fitted =
        refit(&original, &model, &plan, &calibration, RefitRequest::default(), &mut Unwatched).unwrap();
    assert_eq!(fitted.record.tensors, 0);
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    let directory = Directory::new();
    let original = synth(&llama_shape(), &directory.join("original"));
    let (model, calibration) = opened(&original);
    let plan = planned(&original, [(Unit::FfnChannel, 64)]);
    for ridge in [0.0, -1.0, f64::NAN] {
        let asked = RefitRequest { ridge, ..RefitRequest::default() };
        let error = refit(&original, &model, &plan, &calibration, asked, &mut Unwatched).unwrap_err();
        assert!(matches!(error, PruningError::Ridge { .. }), "{error}");
    }
    let mut cancelled = |_, _, _| false;
    let error = refit(&original, &model, &plan, &calibration, RefitRequest::default(), &mut cancelled);
    assert!(matches!(error.unwrap_err(), PruningError::Cancelled));
    // Tensors of one plan do not fit another.
    let other = planned(&original, [(Unit::FfnChannel, 32)]);
    let fitted =
        refit(&original, &model, &plan, &calibration, RefitRequest::default(), &mut Unwatched).unwrap();
    let output = directory.join("wrong");
    let error = surgery_with(&other, &original, Some(&fitted), &output, &mut Unwatched).unwrap_err();
    assert!(error.to_string().contains("down_proj"), "{error}");
    assert!(!output.exists());
}
