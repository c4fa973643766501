//! Which text a policy sees, and how.

use std::path::PathBuf;

use espalier_components::{Probe, Trace};
use espalier_kernels::Cpu;
use espalier_model::{Checkpoint, Model};
use espalier_pruning::{
    Calibration, CalibrationRequest, Phase, PruningError, TraceObserver, Unwatched, calibrate,
};

use crate::models::{Directory, llama_shape, synth};

fn fixture(directory: &Directory) -> (Checkpoint, Vec<PathBuf>) {
    let checkpoint = synth(&llama_shape(), &directory.join("model"));
    let files = ["first.txt", "second.txt"].map(|name| directory.join(name));
    std::fs::write(&files[0], "a sentence of the first document. ".repeat(40)).unwrap();
    std::fs::write(&files[1], "AND ONE OF THE SECOND. ".repeat(40)).unwrap();
    (checkpoint, files.to_vec())
}

fn draw(
    checkpoint: &Checkpoint,
    files: &[PathBuf],
    request: CalibrationRequest,
) -> Result<Calibration, PruningError> {
    Calibration::draw(files, &checkpoint.tokenizer().unwrap(), checkpoint.spec(), &request)
}

#[test]
fn the_seed_decides_which_windows_are_drawn() {
    let directory = Directory::new();
    let (checkpoint, files) = fixture(&directory);
    let with =
        |seed| draw(&checkpoint, &files, CalibrationRequest { windows: 6, window_tokens: 32, seed }).unwrap();
    assert_eq!(with(1), with(1));
    assert_ne!(with(1).windows, with(2).windows);
    let calibration = with(1);
    assert_eq!(calibration.windows.len(), 6);
    assert!(calibration.windows.iter().all(|window| window.len() == 32));
    assert_eq!(calibration.record.files.len(), 2);
    assert_eq!(calibration.record.files[0].name, "first.txt");
    assert_eq!(
        calibration.record.files[0].sha256,
        espalier_state::Digest::of(&std::fs::read(&files[0]).unwrap())
    );
}

#[test]
fn windows_are_drawn_once_and_mix_no_documents() {
    let directory = Directory::new();
    let (checkpoint, files) = fixture(&directory);
    let all =
        draw(&checkpoint, &files, CalibrationRequest { windows: 1000, window_tokens: 64, seed: 3 }).unwrap();
    assert_eq!(all.record.windows, all.windows.len());
    assert!(all.windows.len() < 1000, "no more than there are");
    let tokenizer = checkpoint.tokenizer().unwrap();
    for window in &all.windows {
        let text = tokenizer.decode(window, true);
        let (upper, lower) = (text.contains("SECOND"), text.contains("first"));
        assert!(upper != lower, "{text}");
    }
}

#[test]
fn there_is_a_built_in_text() {
    let directory = Directory::new();
    let (checkpoint, _) = fixture(&directory);
    let calibration =
        draw(&checkpoint, &[], CalibrationRequest { windows: 128, window_tokens: 512, seed: 0 }).unwrap();
    assert_eq!(calibration.windows.len(), 128);
    assert!(calibration.record.files[0].name.starts_with("built-in"));
}

#[test]
fn text_that_cannot_be_used_is_refused() {
    let directory = Directory::new();
    let (checkpoint, _) = fixture(&directory);
    let refusal = |contents: &[u8]| {
        let path = directory.join("bad.txt");
        std::fs::write(&path, contents).unwrap();
        let request = CalibrationRequest { windows: 1, window_tokens: 32, seed: 0 };
        draw(&checkpoint, &[path], request).unwrap_err().to_string()
    };
    assert_eq!(refusal(b"short"), "the calibration text has 5 tokens; expected at least 31 for one window");
    assert!(refusal(b"").contains("has 0 tokens"));
    assert!(refusal(b"abc\xff").contains("is not UTF-8 text (byte 3)"));
    let missing = draw(&checkpoint, &[directory.join("none.txt")], CalibrationRequest::default());
    assert!(missing.unwrap_err().to_string().contains("none.txt"));
    for (windows, window_tokens) in [(0, 32), (1, 0), (1, 1_000_000)] {
        let request = CalibrationRequest { windows, window_tokens, seed: 0 };
        assert!(matches!(draw(&checkpoint, &[], request), Err(PruningError::CalibrationShape { .. })));
    }
}

/// One probe and the shape of its values.
type Shown = (Probe, Vec<usize>);

/// Remembers what it was shown.
#[derive(Default)]
struct Recorder {
    seen: Vec<(usize, Vec<Shown>)>,
    fail_at: Option<usize>,
}

impl TraceObserver for Recorder {
    fn probes(&self) -> Vec<Probe> {
        vec![Probe::HeadOutput, Probe::FfnActivation]
    }

    fn observe(&mut self, layer: usize, traces: &[Trace]) -> Result<(), PruningError> {
        if self.fail_at == Some(self.seen.len()) {
            return Err(PruningError::NoUnits);
        }
        let shapes = traces.iter().map(|trace| (trace.probe, trace.values.shape().to_vec())).collect();
        self.seen.push((layer, shapes));
        Ok(())
    }
}

#[test]
fn an_observer_sees_every_layer_of_every_window_whole() {
    let directory = Directory::new();
    let (checkpoint, files) = fixture(&directory);
    // Longer than one pass of the forward computation.
    let request = CalibrationRequest { windows: 2, window_tokens: 700, seed: 0 };
    let calibration = draw(&checkpoint, &files, request).unwrap();
    let model = Model::load(&checkpoint, Cpu::new(1).unwrap()).unwrap();
    let mut recorder = Recorder::default();
    calibrate(&model, None, &calibration, &mut recorder, &mut Unwatched).unwrap();
    let layers: Vec<usize> = recorder.seen.iter().map(|(layer, _)| *layer).collect();
    assert_eq!(layers, [0, 1, 2, 0, 1, 2]);
    let expected = vec![(Probe::HeadOutput, vec![700, 8 * 16]), (Probe::FfnActivation, vec![700, 96])];
    assert!(recorder.seen.iter().all(|(_, shapes)| *shapes == expected));
}

#[test]
fn an_observers_failure_ends_the_pass() {
    let directory = Directory::new();
    let (checkpoint, files) = fixture(&directory);
    let calibration =
        draw(&checkpoint, &files, CalibrationRequest { windows: 2, window_tokens: 64, seed: 0 }).unwrap();
    let model = Model::load(&checkpoint, Cpu::new(1).unwrap()).unwrap();
    let mut recorder = Recorder { fail_at: Some(1), ..Recorder::default() };
    let error = calibrate(&model, None, &calibration, &mut recorder, &mut Unwatched).unwrap_err();
    assert!(matches!(error, PruningError::NoUnits));
    assert_eq!(recorder.seen.len(), 1);
}

#[test]
fn a_pass_can_be_cancelled_between_windows() {
    let directory = Directory::new();
    let (checkpoint, files) = fixture(&directory);
    let calibration =
        draw(&checkpoint, &files, CalibrationRequest { windows: 3, window_tokens: 64, seed: 0 }).unwrap();
    let model = Model::load(&checkpoint, Cpu::new(1).unwrap()).unwrap();
    let mut steps = Vec::new();
    let mut progress = |phase: Phase, done: u64, total: u64| {
        steps.push((phase, done, total));
        done < 2
    };
    let error = calibrate(&model, None, &calibration, &mut Recorder::default(), &mut progress).unwrap_err();
    assert!(matches!(error, PruningError::Cancelled));
    assert_eq!(steps, [(Phase::Calibrate, 0, 3), (Phase::Calibrate, 1, 3), (Phase::Calibrate, 2, 3)]);
}
