//! A recipe: the stages from a model to a smaller one, in TOML, read into values that are valid.
//!
//! Every error names the recipe, the line, the field, what it holds and what it may hold. Paths in a recipe are relative to
//! its file. What depends on the model (units that it has, counts that it allows) is refused when the stage begins.

mod place;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use espalier_components::Unit;
use espalier_state::Digest;
use espalier_training::{Configuration, TomlText, TrainingError};
use serde::{Deserialize, Serialize};

use self::place::Places;
use self::table::{File, GateTable, StageTable};
use crate::calibration::CalibrationRequest;
use crate::error::PruningError;
use crate::plan::{Constraints, Count};
use crate::refit::RefitRequest;
use crate::storage::StorageType;

/// Settings of training that the run gives itself.
const GIVEN: [&str; 5] = ["model", "teacher", "texts", "seed", "scratch"];

/// A valid recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub about: Option<String>,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Texts to calibrate, to refit and to train on; the built-in text where there are none.
    pub texts: Vec<PathBuf>,
    /// How much of them a policy sees.
    pub calibration: CalibrationRequest,
    /// What every stage is measured on.
    pub evaluation: RecipeEvaluation,
    /// The stages in order, at least one.
    pub stages: Vec<Stage>,
    /// SHA-256 of the recipe's text, of the texts' paths and of what is in them, by which a run knows its recipe again.
    pub digest: Digest,
}

/// What every stage is measured on.
#[derive(Clone, Debug, PartialEq)]
pub struct RecipeEvaluation {
    /// Plain text, or samples in a `.jsonl` file.
    pub text: PathBuf,
    /// Metric components, by file or name.
    pub metrics: Vec<String>,
    /// Tokens of the text to use; all if none.
    pub max_tokens: Option<usize>,
    /// Whether speed is measured too.
    pub timing: bool,
}

/// Texts that take the place of a recipe's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecipeTexts {
    /// Instead of `texts`, where there are any.
    pub calibration: Vec<PathBuf>,
    /// Instead of `evaluation.text`.
    pub evaluation: Option<PathBuf>,
}

/// One stage: a cut, recovery, or both.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// What it is called; a directory has this name.
    pub name: String,
    /// What goes, if anything.
    pub cut: Option<Cut>,
    /// The configuration of training without model, teacher, texts and seed, which the run adds.
    training: Option<toml::Table>,
    /// What must hold afterwards.
    pub gates: Vec<Gate>,
}

/// What goes in a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// The scoring policy: a component's file or name.
    pub policy: String,
    /// The kinds that may go.
    pub units: Vec<Unit>,
    /// How much stays.
    pub goal: Goal,
    /// Cuts on the way to the goal, each scored on what the last one left.
    pub cuts: usize,
    /// What plans respect.
    pub constraints: Constraints,
    /// Number format of the stage's model.
    pub storage: StorageType,
    /// Closed-form recovery after each cut.
    pub refit: Option<RefitRequest>,
}

/// How much stays after a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// A share of the unpruned model's parameters.
    Keep(f64),
    /// So many parameters at most.
    Parameters(u64),
    /// Units of each kind.
    Counts(BTreeMap<Unit, Count>),
}

/// What must hold after a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// A measurement's name, such as `perplexity.stride`.
    pub metric: String,
    /// The limit.
    pub bound: Bound,
    /// Whether the limit is a multiple of what the unpruned model has.
    pub relative: bool,
}

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Bound {
    /// Whether `value` is within it.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl Recipe {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read; a field that is unknown, missing or holds what it must not.
    pub fn read(path: &Path, texts: &RecipeTexts) -> Result<Self, PruningError> {
        let text = std::fs::read_to_string(path).map_err(PruningError::file("read", path))?;
        Self::parse(&text, &path.display().to_string(), path.parent().unwrap_or(Path::new("")), texts)
    }

    /// Reads the text of a recipe that is called `name` in errors, with paths relative to `directory`; `texts` are not.
    ///
    /// # Errors
    /// See [`Recipe::read`].
    pub fn parse(
        text: &str,
        name: &str,
        directory: &Path,
        texts: &RecipeTexts,
    ) -> Result<Self, PruningError> {
        let places = Places(TomlText::new(text, name));
        let file: File = toml::from_str(text).map_err(|error| places.refused(&error))?;
        if file.stages.is_empty() {
            return Err(places.field("stages", "none", "at least one"));
        }
        let own = || file.texts.iter().map(|path| directory.join(path)).collect();
        let from = |given: &Vec<PathBuf>| if given.is_empty() { own() } else { given.clone() };
        let used: Vec<PathBuf> = from(&texts.calibration);
        for path in &used {
            exists(&places, "texts", path)?;
        }
        let evaluation = file.evaluation.text.as_ref().map(|path| directory.join(path));
        let Some(evaluation) = texts.evaluation.clone().or(evaluation) else {
            return Err(places.field(
                "evaluation.text",
                "nothing",
                "a text to measure on, here or as --data",
            ));
        };
        exists(&places, "evaluation.text", &evaluation)?;
        if file.evaluation.metrics.is_empty() {
            return Err(places.field("evaluation.metrics", "none", "at least one metric"));
        }
        let mut stages: Vec<Stage> = Vec::new();
        for (index, table) in file.stages.into_iter().enumerate() {
            let stage = table.validate(&places, index, file.seed)?;
            if stages.iter().any(|other| other.name == stage.name) {
                let field = format!("stages.{index}.name");
                return Err(places.field(&field, stage.name, "a name that no other stage has"));
            }
            stages.push(stage);
        }
        check_shares(&places, &stages)?;
        let mut identity = text.to_owned();
        for path in used.iter().chain([&evaluation]) {
            let contents = std::fs::read(path).map_err(PruningError::file("read", path))?;
            identity += &format!("\n{} {}", path.display(), Digest::of(&contents));
        }
        Ok(Self {
            name: file.name,
            about: file.about,
            seed: file.seed,
            texts: used,
            calibration: CalibrationRequest {
                windows: file.calibration.windows,
                window_tokens: file.calibration.window_tokens,
                seed: file.seed,
            },
            evaluation: RecipeEvaluation {
                text: evaluation,
                metrics: file.evaluation.metrics,
                max_tokens: file.evaluation.max_tokens,
                timing: file.evaluation.timing,
            },
            stages,
            digest: Digest::of(identity.as_bytes()),
        })
    }

    /// Whether a stage trains.
    #[must_use]
    pub fn trains(&self) -> bool {
        self.stages.iter().any(|stage| stage.training.is_some())
    }
}

impl Stage {
    /// The configuration of this stage's training, if it has one.
    ///
    /// # Errors
    /// A setting that training refuses.
    pub fn configuration(
        &self,
        model: &Path,
        teacher: &Path,
        texts: &[PathBuf],
        seed: u64,
    ) -> Option<Result<Configuration, TrainingError>> {
        let mut table = self.training.clone()?;
        let text = |path: &Path| toml::Value::String(path.display().to_string());
        table.insert("model".to_owned(), text(model));
        if table.contains_key("distillation") {
            table.insert("teacher".to_owned(), text(teacher));
        }
        table.insert("texts".to_owned(), texts.iter().map(|path| text(path)).collect::<Vec<_>>().into());
        table.insert("seed".to_owned(), toml::Value::Integer(i64::try_from(seed).unwrap_or(i64::MAX)));
        Some(Configuration::parse(&table.to_string(), &self.name, Path::new("")))
    }
}

impl StageTable {
    fn validate(self, places: &Places<'_>, index: usize, seed: u64) -> Result<Stage, PruningError> {
        let at = |field: &str| format!("stages.{index}.{field}");
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            let found = format!("{:?}", self.name);
            return Err(places.field(&at("name"), found, "letters, digits, - and _"));
        }
        if let Some(refit) = &self.refit
            && refit.check().is_err()
        {
            return Err(places.field(&at("refit.ridge"), refit.ridge, "a number above 0"));
        }
        let goal = self.goal(places, index)?;
        let cut = match (self.policy, goal) {
            (Some(policy), Some(goal)) => {
                if self.units.is_empty() && !matches!(goal, Goal::Counts(_)) {
                    return Err(places.field(&at("units"), "none", "the kinds of units that may go"));
                }
                let cuts = self.cuts.unwrap_or(1);
                if cuts == 0 || (cuts > 1 && matches!(goal, Goal::Counts(_))) {
                    let expected = "1, or more on the way to keep or parameters";
                    return Err(places.field(&at("cuts"), cuts, expected));
                }
                let (units, constraints, storage) = (self.units, self.constraints, self.dtype);
                Some(Cut { policy, units, goal, cuts, constraints, storage, refit: self.refit })
            }
            (Some(_), None) => {
                return Err(places.field(
                    &at("keep"),
                    "nothing",
                    "keep, parameters or counts, as there is a policy",
                ));
            }
            (None, Some(_)) => {
                return Err(places.field(&at("policy"), "nothing", "a policy that says what goes"));
            }
            (None, None) if self.training.is_none() => {
                return Err(places.field(&at("policy"), "nothing", "a policy, or training"));
            }
            (None, None) => None,
        };
        let gates = self.gates.into_iter().enumerate();
        let gates = gates.map(|(gate, table)| table.validate(places, &at(&format!("gates.{gate}"))));
        let gates = gates.collect::<Result<_, _>>()?;
        let stage = Stage { name: self.name, cut, training: self.training, gates };
        stage.check_training(places, &at("training"), seed)?;
        Ok(stage)
    }

    fn goal(&self, places: &Places<'_>, index: usize) -> Result<Option<Goal>, PruningError> {
        let at = |field: &str| format!("stages.{index}.{field}");
        match (self.keep, &self.parameters, self.counts.is_empty()) {
            (None, None, true) => Ok(None),
            (Some(keep), None, true) => {
                if keep > 0.0 && keep < 1.0 {
                    return Ok(Some(Goal::Keep(keep)));
                }
                let expected = "a share of the unpruned model's parameters above 0 and below 1";
                Err(places.field(&at("keep"), keep, expected))
            }
            (None, Some(text), true) => match count_of(text) {
                Some(count) => Ok(Some(Goal::Parameters(count))),
                None => {
                    let expected = "a number of parameters such as \"90M\" or \"15B\"";
                    Err(places.field(&at("parameters"), format!("{text:?}"), expected))
                }
            },
            (None, None, false) => Ok(Some(Goal::Counts(self.counts.clone()))),
            _ => Err(places.field(
                &format!("stages.{index}"),
                "several goals",
                "one of keep, parameters and counts",
            )),
        }
    }
}

impl Stage {
    /// Refuses what training would refuse, before anything is computed.
    fn check_training(&self, places: &Places<'_>, field: &str, seed: u64) -> Result<(), PruningError> {
        let given =
            self.training.iter().flat_map(toml::Table::keys).find(|key| GIVEN.contains(&key.as_str()));
        if let Some(key) = given {
            return Err(places.field(&format!("{field}.{key}"), "a value", "nothing, as the run sets it"));
        }
        let texts = [PathBuf::from("text")];
        match self.configuration(Path::new("model"), Path::new("teacher"), &texts, seed) {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(TrainingError::Configuration { field: inner, found, expected, .. })) => {
                Err(places.field(&format!("{field}.{inner}"), found, expected))
            }
            Some(Err(TrainingError::ConfigurationText { message, .. })) => {
                let named = message.split('`').nth(1).unwrap_or_default();
                Err(places.message(&format!("{field}.{named}"), message.clone()))
            }
            Some(Err(other)) => Err(other.into()),
        }
    }
}

impl GateTable {
    fn validate(self, places: &Places<'_>, field: &str) -> Result<Gate, PruningError> {
        let bound = match (self.at_most, self.at_least) {
            (Some(limit), None) if limit.is_finite() => Bound::AtMost(limit),
            (None, Some(limit)) if limit.is_finite() => Bound::AtLeast(limit),
            _ => return Err(places.field(field, "no single limit", "at_most or at_least, a finite number")),
        };
        Ok(Gate { metric: self.metric, bound, relative: self.relative })
    }
}

fn exists(places: &Places<'_>, field: &str, path: &Path) -> Result<(), PruningError> {
    if path.is_file() {
        return Ok(());
    }
    Err(places.field(field, path.display(), "a file that exists"))
}

/// Shares are of the unpruned model, so they can only fall.
fn check_shares(places: &Places<'_>, stages: &[Stage]) -> Result<(), PruningError> {
    let mut last = 1.0;
    for (index, stage) in stages.iter().enumerate() {
        if let Some(Cut { goal: Goal::Keep(keep), .. }) = stage.cut {
            if keep >= last {
                let expected = format!("less than {last}, what the stage before it leaves");
                return Err(places.field(&format!("stages.{index}.keep"), keep, expected));
            }
            last = keep;
        }
    }
    Ok(())
}

/// `90M`, `15B`, `1.5B`, `800K` or a plain number.
fn count_of(text: &str) -> Option<u64> {
    let (number, factor) = match text.as_bytes().last()? {
        b'K' => (text.get(..text.len() - 1)?, 1e3),
        b'M' => (text.get(..text.len() - 1)?, 1e6),
        b'B' => (text.get(..text.len() - 1)?, 1e9),
        _ => (text, 1.0),
    };
    let count = number.parse::<f64>().ok()? * factor;
    (count.is_finite() && (1.0..9e18).contains(&count)).then_some(count.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = "name = \"x\"\n[[stages]]\nname = \"a\"\npolicy = \"random\"\nunits = [\"head\"]\nkeep = 0.9\n\
        [stages.training]\nmethod = \"lora\"\nsteps = 1\nadapter = { rank = 2 }\n[[stages.gates]]\nmetric = \"perplexity\"\n\
        at_most = 2.0\nrelative = true\n";

    fn parse(text: &str) -> Result<Recipe, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let texts = RecipeTexts { evaluation: Some(file.path().to_owned()), ..RecipeTexts::default() };
        Recipe::parse(text, "r.toml", Path::new("/base"), &texts).map_err(|error| error.to_string())
    }

    #[test]
    fn a_recipe_becomes_stages() {
        let recipe = parse(RECIPE).unwrap();
        let stage = &recipe.stages[0];
        assert_eq!(stage.cut.as_ref().unwrap().goal, Goal::Keep(0.9));
        let gate = Gate { metric: "perplexity".to_owned(), bound: Bound::AtMost(2.0), relative: true };
        assert_eq!(stage.gates, [gate]);
        assert!(recipe.trains());
        let recipe = parse(&RECIPE.replace("keep = 0.9", "parameters = \"1.5B\"")).unwrap();
        assert_eq!(recipe.stages[0].cut.as_ref().unwrap().goal, Goal::Parameters(1_500_000_000));
    }

    #[test]
    fn errors_name_line_field_found_and_expected() {
        for (from, to, expected) in [
            ("keep = 0.9", "keep = 1.5", "r.toml, line 6: stages.0.keep: found 1.5, expected a share"),
            ("keep = 0.9", "kepe = 0.9", "r.toml, line 6: unknown field `kepe`"),
            ("\"head\"", "\"haed\"", "r.toml, line 5: unknown variant `haed`"),
            ("keep = 0.9", "parameters = \"9X\"", "line 6: stages.0.parameters: found \"9X\", expected"),
            ("rank = 2", "rank = 0", "line 10: stages.0.training.adapter.rank: found 0, expected at least 1"),
            ("steps = 1", "stpes = 1", "line 9: stages.0.training.stpes: unknown field `stpes`"),
            (
                "steps = 1",
                "steps = 1\nseed = 3",
                "line 10: stages.0.training.seed: found a value, expected nothing",
            ),
            ("at_most = 2.0\n", "", "line 11: stages.0.gates.0: found no single limit, expected at_most"),
            ("name = \"a\"", "name = \"../a\"", "line 3: stages.0.name: found \"../a\", expected letters"),
            ("policy = \"random\"\n", "", "stages.0.policy: found nothing, expected a policy"),
            ("keep = 0.9", "keep = 0.9\ncuts = 0", "line 7: stages.0.cuts: found 0, expected 1"),
            (
                "name = \"x\"",
                "name = \"x\"\ntexts = [\"no.txt\"]",
                "line 2: texts: found /base/no.txt, expected a file",
            ),
        ] {
            let error = parse(&RECIPE.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let second = RECIPE.split_once('\n').unwrap().1.replace("\"a\"", "\"b\"");
        let error = parse(&format!("{RECIPE}{second}")).unwrap_err();
        assert!(error.contains("line 19: stages.1.keep: found 0.9, expected less than 0.9"), "{error}");
    }
}
