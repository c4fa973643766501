//! Policies that see gradients, against PyTorch (`tests/golden/unit_gradients.py`).

use std::collections::BTreeMap;
use std::sync::Arc;

use espalier_components::{Probe, Trace};
use espalier_golden::data;
use espalier_kernels::Cpu;
use espalier_model::{Checkpoint, Model};
use espalier_pruning::{
    Calibration, CalibrationRecord, PruningError, TraceObserver, Unit, Unwatched, calibrate, score_units,
};
use serde::Deserialize;

use crate::policies::policy;

/// Scores by unit and layer.
type LayerScores = BTreeMap<Unit, Vec<Vec<f64>>>;

#[derive(Deserialize)]
struct Golden {
    models: Vec<GoldenModel>,
}

#[derive(Deserialize)]
struct GoldenModel {
    name: String,
    tokens: Vec<Vec<u32>>,
    taylor: LayerScores,
    fisher: LayerScores,
}

impl GoldenModel {
    fn open(&self) -> (Arc<Checkpoint>, Arc<Model>, Calibration) {
        let checkpoint = Arc::new(Checkpoint::open(&data().join("tiny").join(&self.name)).unwrap());
        let model = Arc::new(Model::load(&checkpoint, Cpu::new(1).unwrap()).unwrap());
        let record = CalibrationRecord {
            files: Vec::new(),
            windows: self.tokens.len(),
            window_tokens: self.tokens[0].len(),
            seed: 0,
        };
        (checkpoint, model, Calibration { windows: self.tokens.clone(), record })
    }
}

fn golden() -> Vec<GoldenModel> {
    let text = std::fs::read_to_string(data().join("unit-gradients.json")).unwrap();
    serde_json::from_str::<Golden>(&text).unwrap().models
}

#[test]
fn taylor_and_fisher_are_what_pytorch_differentiates() {
    for expected in golden() {
        let (checkpoint, model, calibration) = expected.open();
        for (name, scores) in [("taylor", &expected.taylor), ("fisher", &expected.fisher)] {
            let policy = policy(name);
            let units: Vec<Unit> = scores.keys().copied().collect();
            let found =
                score_units(&checkpoint, &model, &policy, &units, &calibration, &mut Unwatched).unwrap();
            for (unit, layers) in scores {
                let largest = layers.iter().flatten().fold(0.0_f64, |most, score| most.max(score.abs()));
                let found = found.checked(*unit, checkpoint.spec()).unwrap();
                for (found, expected) in found.iter().flatten().zip(layers.iter().flatten()) {
                    let distance = (found - expected).abs() / largest;
                    assert!(distance < 1e-3, "{name} of {unit}: {found}, expected {expected}");
                }
            }
        }
    }
}

/// Wants the gradient by the heads' outputs alone, and remembers its shapes.
#[derive(Default)]
struct GradientsAlone {
    shapes: Vec<(usize, Vec<usize>)>,
}

impl TraceObserver for GradientsAlone {
    fn probes(&self) -> Vec<Probe> {
        vec![Probe::HeadOutputGradient]
    }

    fn observe(&mut self, layer: usize, traces: &[Trace]) -> Result<(), PruningError> {
        self.shapes.extend(traces.iter().map(|trace| (layer, trace.values.shape().to_vec())));
        Ok(())
    }
}

#[test]
fn gradients_need_the_weights_that_have_them() {
    let models = golden();
    let (_, model, calibration) = models[0].open();
    let mut observer = GradientsAlone::default();
    let error = calibrate(&model, None, &calibration, &mut observer, &mut Unwatched).unwrap_err();
    assert!(matches!(error, PruningError::NoGradients), "{error}");
    assert_eq!(observer.shapes, []);
}
