//! The file that `espalier train` takes: TOML, read into values that are valid.
//!
//! Paths in it are relative to the file. Every error names the file, the line, the field, what it holds and what it may hold.

mod place;
mod tables;

use std::path::{Path, PathBuf};

use espalier_kernels::WeightFormat;
use espalier_model::SynthShape;
use serde::{Deserialize, Serialize};

use self::place::Places;
use self::tables::{AdapterTable, DistillationTable, File, OptimizerTable};
use crate::error::TrainingError;
use crate::network::AdapterShape;
use crate::objective::Distillation;
use crate::optimizer::AdamWSettings;
use crate::output::OutputFormats;
use crate::schedule::Schedule;

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// An adapter on a model whose weights are frozen.
    Lora,
    /// All weights of a model.
    Full,
    /// All weights of a new model.
    Scratch,
}

/// The arithmetic of the products of training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TrainingPrecision {
    /// f32 throughout.
    #[default]
    F32,
    /// Dense projections and the output head with factors rounded to bf16, where the processor multiplies pairs of bf16, and
    /// the teacher's pass with activations rounded to 8 bits, where its format allows it.
    Bf16,
}

/// A new model.
#[derive(Clone, Debug, PartialEq)]
pub struct NewModel {
    /// Fields of HF's `config.json`.
    pub shape: SynthShape,
    /// Tokens of its vocabulary, which is learnt from the texts.
    pub vocabulary: usize,
    /// Share of the windows that are conversations made of the texts: a question that quotes, an answer that goes on.
    pub conversations: f64,
}

/// A valid configuration of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// What is trained.
    pub method: Method,
    /// The model that training begins with; a new one has none.
    pub model: Option<PathBuf>,
    /// The new model, for [`Method::Scratch`].
    pub scratch: Option<NewModel>,
    /// The model to learn from, and how.
    pub distillation: Option<(PathBuf, Distillation)>,
    /// The adapter, for [`Method::Lora`].
    pub adapter: Option<AdapterShape>,
    /// Text files.
    pub texts: Vec<PathBuf>,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Tokens of a window.
    pub window_tokens: usize,
    /// Windows of a forward pass.
    pub batch_windows: usize,
    /// Passes of a step.
    pub accumulation: usize,
    /// Steps and their learning rates.
    pub schedule: Schedule,
    /// The optimizer's constants.
    pub optimizer: AdamWSettings,
    /// Largest norm of a step's gradients.
    pub clip_norm: f32,
    /// The arithmetic of the products.
    pub precision: TrainingPrecision,
    /// Whether activations are computed again instead of kept.
    pub activation_checkpointing: bool,
    /// Steps between checkpoints of the run.
    pub checkpoint_steps: u64,
    /// Number formats of the result.
    pub output: OutputFormats,
    /// Whether the loss is that of weights as they will be written: gradients are taken at the rounded weights and applied to
    /// the unrounded ones (a straight-through estimator).
    pub rounding_aware: bool,
    /// The text that the run was configured by, as its checkpoints are held to it.
    pub(crate) text: String,
}

impl Configuration {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read; a field that is unknown, missing or holds what it must not.
    pub fn read(path: &Path) -> Result<Self, TrainingError> {
        let text = std::fs::read_to_string(path).map_err(TrainingError::file("read", path))?;
        let directory = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, &path.display().to_string(), directory)
    }

    /// Reads the text of a file that is called `name` in errors, with paths relative to `directory`.
    ///
    /// # Errors
    /// See [`Configuration::read`].
    pub fn parse(text: &str, name: &str, directory: &Path) -> Result<Self, TrainingError> {
        let places = Places::new(text, name);
        let file: File = toml::from_str(text).map_err(|error| places.refused(&error))?;
        file.validate(&places, directory, text)
    }
}

impl File {
    fn validate(
        self,
        places: &Places<'_>,
        directory: &Path,
        text: &str,
    ) -> Result<Configuration, TrainingError> {
        let path = |path: PathBuf| directory.join(path);
        self.check_method(places)?;
        if self.texts.is_empty() {
            return Err(places.field("texts", "none", "at least one file"));
        }
        places.at_least("steps", self.steps, 1)?;
        places.at_least("window_tokens", self.window_tokens as u64, 2)?;
        places.at_least("batch_windows", self.batch_windows as u64, 1)?;
        places.at_least("accumulation", self.accumulation as u64, 1)?;
        places.at_least("checkpoint_steps", self.checkpoint_steps, 1)?;
        let distillation = match (self.teacher, self.distillation) {
            (Some(teacher), table) => Some((path(teacher), table.unwrap_or_default().validate(places)?)),
            (None, Some(_)) => {
                return Err(places.field("distillation", "a table", "a teacher to learn from"));
            }
            (None, None) => None,
        };
        let format = |field: &str, name: Option<String>, allowed: &[WeightFormat]| {
            name.map(|name| places.one_of(field, &name, allowed)).transpose()
        };
        let plain = [WeightFormat::F32, WeightFormat::F16, WeightFormat::Bf16];
        let output = OutputFormats {
            dtype: format("output.dtype", self.output.dtype, &plain)?,
            experts: format(
                "output.experts",
                self.output.experts,
                &[&plain[..], &[WeightFormat::Mxfp4]].concat(),
            )?,
        };
        if self.output.rounding_aware && self.method == Method::Lora {
            let expected = "false, as the weights below an adapter are frozen";
            return Err(places.field("output.rounding_aware", "true", expected));
        }
        let scratch = match self.scratch {
            Some(table) => Some(table.validate(places)?),
            None => None,
        };
        let (schedule, optimizer, clip_norm) = self.optimizer.validate(places, self.steps)?;
        Ok(Configuration {
            method: self.method,
            model: self.model.map(path),
            scratch,
            distillation,
            adapter: self.adapter.map(|table| table.validate(places)).transpose()?,
            texts: self.texts.into_iter().map(path).collect(),
            seed: self.seed,
            window_tokens: self.window_tokens,
            batch_windows: self.batch_windows,
            accumulation: self.accumulation,
            schedule,
            optimizer,
            clip_norm,
            precision: self.precision,
            activation_checkpointing: self.activation_checkpointing,
            checkpoint_steps: self.checkpoint_steps,
            output,
            rounding_aware: self.output.rounding_aware,
            text: text.to_owned(),
        })
    }

    /// The parts that the method needs are there, and no others.
    fn check_method(&self, places: &Places<'_>) -> Result<(), TrainingError> {
        let parts = [
            ("model", self.model.is_some(), self.method != Method::Scratch),
            ("scratch", self.scratch.is_some(), self.method == Method::Scratch),
            ("adapter", self.adapter.is_some(), self.method == Method::Lora),
        ];
        let method = match self.method {
            Method::Lora => "lora",
            Method::Full => "full",
            Method::Scratch => "scratch",
        };
        for (field, found, wanted) in parts {
            match (found, wanted) {
                (false, true) => {
                    let expected = format!("it, as method = \"{method}\" needs it");
                    return Err(places.field(field, "nothing", expected));
                }
                (true, false) => {
                    let expected = format!("nothing, as method = \"{method}\" has no use for it");
                    return Err(places.field(field, "a value", expected));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl OptimizerTable {
    fn validate(
        self,
        places: &Places<'_>,
        steps: u64,
    ) -> Result<(Schedule, AdamWSettings, f32), TrainingError> {
        places.above("optimizer.learning_rate", self.learning_rate, 0.0)?;
        places.above("optimizer.epsilon", self.epsilon, 0.0)?;
        places.above("optimizer.clip_norm", self.clip_norm, 0.0)?;
        places.share("optimizer.final_share", self.final_share, 1.0)?;
        places.share("optimizer.weight_decay", self.weight_decay, 1.0)?;
        // At 1 a moment would never move.
        places.share("optimizer.beta1", self.beta1, 0.999_999)?;
        places.share("optimizer.beta2", self.beta2, 0.999_999)?;
        if self.warmup_steps > steps {
            let expected = format!("at most {steps}, the steps of the run");
            return Err(places.field("optimizer.warmup_steps", self.warmup_steps, expected));
        }
        let schedule = Schedule {
            learning_rate: self.learning_rate,
            warmup_steps: self.warmup_steps,
            steps,
            final_share: self.final_share,
        };
        let settings = AdamWSettings {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
        };
        Ok((schedule, settings, self.clip_norm))
    }
}

impl AdapterTable {
    fn validate(self, places: &Places<'_>) -> Result<AdapterShape, TrainingError> {
        places.at_least("adapter.rank", self.rank as u64, 1)?;
        places.above("adapter.alpha", self.alpha, 0.0)?;
        if self.targets.is_empty() {
            return Err(places.field("adapter.targets", "none", "at least one projection"));
        }
        let targets = self.targets.iter().map(|name| {
            name.parse()
                .map_err(|expected: String| places.field("adapter.targets", format!("{name:?}"), expected))
        });
        Ok(AdapterShape { rank: self.rank, alpha: self.alpha, targets: targets.collect::<Result<_, _>>()? })
    }
}

impl DistillationTable {
    fn validate(self, places: &Places<'_>) -> Result<Distillation, TrainingError> {
        places.share("distillation.weight", self.weight, 1.0)?;
        places.above("distillation.temperature", self.temperature, 0.0)?;
        places.share("distillation.hidden_weight", self.hidden_weight, f32::MAX)?;
        if let Some(top_k) = self.top_k {
            places.at_least("distillation.top_k", top_k as u64, 1)?;
        }
        Ok(Distillation {
            weight: self.weight,
            temperature: self.temperature,
            top_k: self.top_k,
            hidden_weight: self.hidden_weight,
        })
    }
}

impl tables::ScratchTable {
    fn validate(self, places: &Places<'_>) -> Result<NewModel, TrainingError> {
        let least = espalier_model::TokenizerFiles::LEAST_HARMONY_VOCABULARY;
        places.at_least("scratch.vocabulary", self.vocabulary as u64, least as u64)?;
        if !(0.0..=1.0).contains(&self.conversations) {
            return Err(places.field("scratch.conversations", self.conversations, "a share from 0 to 1"));
        }
        let shape = self.shape.with("vocab_size", self.vocabulary);
        shape.spec().map_err(|error| places.field("scratch.shape", error, "a model's configuration"))?;
        Ok(NewModel { shape, vocabulary: self.vocabulary, conversations: self.conversations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LORA: &str =
        "method = \"lora\"\nmodel = \"m\"\ntexts = [\"a.txt\"]\nsteps = 10\n\n[adapter]\nrank = 4\n";

    fn parse(text: &str) -> Result<Configuration, String> {
        Configuration::parse(text, "train.toml", Path::new("/base")).map_err(|error| error.to_string())
    }

    #[test]
    fn paths_are_relative_to_the_file_and_the_rest_has_defaults() {
        let found = parse(LORA).unwrap();
        assert_eq!(found.model, Some(PathBuf::from("/base/m")));
        assert_eq!(found.texts, [PathBuf::from("/base/a.txt")]);
        assert_eq!(found.adapter.unwrap().alpha, 16.0);
        assert_eq!((found.window_tokens, found.accumulation, found.seed), (512, 1, 0));
    }

    #[test]
    fn errors_name_line_field_found_and_expected() {
        for (text, expected) in [
            (
                LORA.replace("steps = 10", "steps = 0"),
                "train.toml, line 4: steps: found 0, expected at least 1",
            ),
            (
                LORA.replace("rank = 4", "rank = 0"),
                "train.toml, line 7: adapter.rank: found 0, expected at least 1",
            ),
            (LORA.replace("rank", "rang"), "train.toml, line 7: unknown field `rang`"),
            (LORA.replace("10", "\"ten\""), "train.toml, line 4: invalid type: string \"ten\""),
            (LORA.replace("lora", "prompt"), "train.toml, line 1: unknown variant `prompt`"),
            (
                LORA.replace("[\"a.txt\"]", "[]"),
                "train.toml, line 3: texts: found none, expected at least one file",
            ),
            (
                LORA.replace("lora", "full"),
                "train.toml, line 6: adapter: found a value, expected nothing, as method",
            ),
            (LORA.replace("model = \"m\"\n", ""), "train.toml: model: found nothing, expected it, as method"),
            (
                format!("{LORA}targets = [\"x\"]\n"),
                "train.toml, line 8: adapter.targets: found \"x\", expected",
            ),
            (format!("{LORA}[optimizer]\nbeta1 = 1.0\n"), "line 9: optimizer.beta1: found 1, expected"),
            (
                format!("{LORA}[optimizer]\nlearning_rate = nan\n"),
                "line 9: optimizer.learning_rate: found NaN",
            ),
            (
                format!("{LORA}[output]\ndtype = \"q8_0\"\n"),
                "line 9: output.dtype: found \"q8_0\", expected one of",
            ),
            (format!("{LORA}[distillation]\n"), "line 8: distillation: found a table, expected a teacher"),
            (format!("{LORA}[output]\nrounding_aware = true\n"), "line 9: output.rounding_aware: found true"),
            ("method = ".to_owned(), "train.toml, line 1"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_new_model_has_the_vocabulary_asked_for() {
        let text = "method = \"scratch\"\ntexts = [\"a\"]\nsteps = 1\n[scratch]\nvocabulary = 512\n\
            shape = { model_type = \"gpt_oss\" }\n";
        let found = parse(text).unwrap().scratch.unwrap();
        assert_eq!(found.shape.spec().unwrap().vocab_size, 512);
        let error = parse(&text.replace("512", "100")).unwrap_err();
        assert!(error.contains("scratch.vocabulary: found 100, expected at least 265"), "{error}");
        let error = parse(&text.replace("model_type = \"gpt_oss\"", "hidden_size = 0")).unwrap_err();
        assert!(error.contains("line 6: scratch.shape"), "{error}");
    }
}
