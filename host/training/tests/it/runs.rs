//! Runs from a configuration to files: repeatable, and as if they had never been interrupted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use espalier_kernels::WeightFormat;
use espalier_model::{Checkpoint, synthesize};
use espalier_training::{
    Cancellation, Configuration, FinishedTraining, TrainingError, TrainingProgress, train,
};
use tempfile::TempDir;

use crate::models::{llama, synthesized};

const TEXT: &str = "The history of our country shows that a people who govern themselves can be both free and strong. \
    We have seen in every year that has passed the increase of our commerce, of our harvests and of our schools, and \
    we owe it to those who will come after us that what we have received is given to them undiminished and improved.\n";

struct Room {
    directory: TempDir,
}

impl Room {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("text.txt"), TEXT.repeat(40)).unwrap();
        synthesize(&llama(), &directory.path().join("model"), 5).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configuration(&self, text: &str) -> Configuration {
        let text = format!("texts = [\"text.txt\"]\nwindow_tokens = 32\nbatch_windows = 2\n{text}");
        Configuration::parse(&text, "train.toml", self.directory.path()).unwrap()
    }

    /// Trains to the end and returns the losses.
    fn train(&self, configuration: &Configuration, out: &str) -> Result<Vec<f64>, TrainingError> {
        let mut losses = Vec::new();
        train(
            configuration,
            &self.path(out),
            &Cancellation::default(),
            &mut |progress: &TrainingProgress| {
                losses.push(progress.loss);
                true
            },
        )?;
        Ok(losses)
    }

    /// Trains until `step` and stops there.
    fn stop_after(&self, configuration: &Configuration, out: &str, step: u64) {
        let unless = Cancellation::default();
        let mut until = |progress: &TrainingProgress| progress.step < step;
        let stopped = train(configuration, &self.path(out), &unless, &mut until);
        assert!(matches!(stopped, Err(TrainingError::Cancelled { step: at }) if at == step));
        assert!(self.path(out).join("run.safetensors").exists() && !self.path(out).join("model").exists());
    }
}

impl Room {
    /// Trains, unless that takes longer than `time`.
    fn train_for(
        &self,
        configuration: &Configuration,
        out: &str,
        time: Duration,
    ) -> Result<(), TrainingError> {
        let cancellation = Cancellation::default();
        let other = cancellation.clone();
        let waiting = std::thread::spawn(move || {
            std::thread::sleep(time);
            other.cancel();
        });
        let trained = train(configuration, &self.path(out), &cancellation, &mut |_: &TrainingProgress| true);
        waiting.join().unwrap();
        trained.map(|_| ())
    }
}

/// Every file below a directory.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let relative = |path: PathBuf| path.strip_prefix(directory).unwrap().to_owned();
    files(directory).into_iter().map(|(path, bytes)| (relative(path), bytes)).collect()
}

const LORA: &str = "method = \"lora\"\nmodel = \"model\"\nsteps = 6\naccumulation = 2\ncheckpoint_steps = 2\n\
    [adapter]\nrank = 4\n[optimizer]\nlearning_rate = 0.01\nwarmup_steps = 2\n";

#[test]
fn a_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one() {
    let room = Room::new();
    for (name, text) in [
        ("lora", LORA.to_owned()),
        ("full", LORA.replace("lora", "full").replace("[adapter]\nrank = 4\n", "")),
        ("lora-in-bf16", format!("precision = \"bf16\"\n{LORA}")),
    ] {
        let configuration = room.configuration(&text);
        let losses = room.train(&configuration, &format!("{name}-whole")).unwrap();
        assert!(losses[5] < losses[0], "{losses:?}");
        let parts = format!("{name}-parts");
        room.stop_after(&configuration, &parts, 1);
        room.stop_after(&configuration, &parts, 4);
        let rest = room.train(&configuration, &parts).unwrap();
        assert_eq!(rest, losses[4..]);
        assert_eq!(contents(&room.path(&format!("{name}-whole"))), contents(&room.path(&parts)));
        assert!(!room.path(&parts).join("run.safetensors").exists());
        Checkpoint::open(&room.path(&parts).join("model")).unwrap();
        assert_eq!(FinishedTraining::read(&room.path(&parts)).unwrap().last_loss, losses[5]);
        assert_eq!(room.path(&parts).join("adapter").exists(), name != "full");
    }
}

#[test]
fn a_cancellation_is_noticed_within_a_step() {
    let room = Room::new();
    // One step of this would take an hour.
    let endless = room.configuration(&LORA.replace("accumulation = 2", "accumulation = 10000000"));
    let begun = Instant::now();
    let stopped = room.train_for(&endless, "endless", Duration::from_millis(300)).unwrap_err();
    assert!(matches!(stopped, TrainingError::Cancelled { step: 0 }), "{stopped}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn a_run_that_is_cancelled_at_any_moment_ends_with_the_bytes_of_an_uninterrupted_one() {
    let room = Room::new();
    let text = LORA.replace("lora", "full").replace("[adapter]\nrank = 4\n", "");
    // Where weights are rounded, a step has other weights in place while it runs.
    let configuration = room.configuration(&format!("{text}[output]\nrounding_aware = true\n"));
    room.train(&configuration, "whole").unwrap();
    let (mut interrupted, mut time) = (0, Duration::from_millis(4));
    while let Err(error) = room.train_for(&configuration, "parts", time) {
        assert!(matches!(error, TrainingError::Cancelled { .. }), "{error}");
        interrupted += 1;
        time = time.mul_f64(1.3);
    }
    assert!(interrupted > 2, "{interrupted}");
    assert_eq!(contents(&room.path("whole")), contents(&room.path("parts")));
}

#[test]
fn equal_seeds_give_equal_bytes_and_others_dont() {
    let room = Room::new();
    let text = LORA.replace("steps = 6", "steps = 2");
    let out = |seed: u64, name: &str| {
        room.train(&room.configuration(&format!("seed = {seed}\n{text}")), name).unwrap();
        contents(&room.path(name))
    };
    assert_eq!(out(1, "a"), out(1, "b"));
    assert_ne!(out(1, "c"), out(2, "d"));
}

#[test]
fn another_run_or_a_finished_one_is_not_continued() {
    let room = Room::new();
    room.stop_after(&room.configuration(LORA), "out", 1);
    let other = room.configuration(&LORA.replace("0.01", "0.02"));
    let error = room.train(&other, "out").unwrap_err().to_string();
    assert!(error.contains("run.safetensors is the checkpoint of another run"), "{error}");
    room.train(&room.configuration(LORA), "out").unwrap();
    let error = room.train(&room.configuration(LORA), "out").unwrap_err().to_string();
    assert!(error.contains("expected a directory without a finished model"), "{error}");
}

#[test]
fn a_loss_that_is_no_number_keeps_the_last_checkpoint() {
    let room = Room::new();
    // Weights decay by more than themselves, so that they grow until they overflow.
    let text =
        LORA.replace("lora", "full").replace("[adapter]\nrank = 4\n", "").replace("steps = 6", "steps = 200");
    let text = text.replace("learning_rate = 0.01", "learning_rate = 1e18\nweight_decay = 1.0");
    let error = room.train(&room.configuration(&text), "out").unwrap_err();
    let TrainingError::NotFinite { step, kept, .. } = error else { panic!("{error}") };
    assert!(step > kept && kept.is_multiple_of(2), "{step} {kept}");
    assert_eq!(room.path("out").join("run.safetensors").exists(), kept > 0);
    assert!(!room.path("out").join("model").exists());
}

#[test]
fn a_student_comes_nearer_to_its_teacher() {
    let room = Room::new();
    synthesize(&llama(), &room.path("teacher"), 6).unwrap();
    let text = LORA.replace("steps = 6", "teacher = \"teacher\"\nsteps = 12")
        + "[distillation]\ntop_k = 20\nhidden_weight = 0.1\n";
    let losses = room.train(&room.configuration(&text), "out").unwrap();
    assert!(losses[11] < 0.8 * losses[0], "{losses:?}");
    let other = llama().with("vocab_size", 321);
    let (directory, _) = synthesized(&other);
    let text = text.replace("\"teacher\"", &format!("{:?}", directory.path().join("model")));
    let error = room.train(&room.configuration(&text), "other").unwrap_err().to_string();
    assert_eq!(error, "vocabulary size of the teacher: found 321, expected 320, the student's");
}

#[test]
fn a_new_gpt_oss_learns_its_words_and_is_written_in_mxfp4() {
    let room = Room::new();
    let text = "method = \"scratch\"\nsteps = 40\n[optimizer]\nlearning_rate = 0.01\n[output]\nexperts = \"mxfp4\"\nrounding_aware = true\n\
        [scratch]\nvocabulary = 300\nconversations = 0.5\nshape = { model_type = \"gpt_oss\", hidden_size = 32, \
        num_hidden_layers = 2, num_local_experts = 8, intermediate_size = 32 }\n";
    let losses = room.train(&room.configuration(text), "out").unwrap();
    assert!(losses[39] < 0.6 * losses[0], "{losses:?}");
    let checkpoint = Checkpoint::open(&room.path("out").join("model")).unwrap();
    let up = checkpoint.tensor("model.layers.1.mlp.experts.up_proj.weight").unwrap();
    assert_eq!(up.format, WeightFormat::Mxfp4);
    let tokenizer = checkpoint.tokenizer().unwrap();
    assert_eq!(tokenizer.vocab_size(), 300);
    assert!(checkpoint.chat_format(&tokenizer).unwrap().is_some(), "it can be talked to");
}
