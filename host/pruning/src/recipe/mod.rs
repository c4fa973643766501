//! A recipe: the stages from a model to a smaller one, in TOML, read into values that are valid.
//!
//! Every error names the recipe, the line, the field, what it holds and what it may hold. Paths in a recipe are relative to
//! its file. What depends on the model (units that it has, counts that it allows) is refused when the stage begins.

mod place;
#[cfg(test)]
mod schema;
mod stage;
mod table;

use std::path::{Path, PathBuf};

use espalier_components::Unit;
use espalier_kernels::WeightFormat;
use espalier_state::Digest;
use espalier_training::{Configuration, TomlText, TrainingError};
use serde::{Deserialize, Serialize};

use self::place::Places;
use self::table::File;
use crate::aim::Aim;
use crate::allocation::Allocation;
use crate::calibration::CalibrationRequest;
use crate::error::PruningError;
use crate::plan::Constraints;
use crate::protected::Protected;
use crate::refit::RefitRequest;
use crate::storage::StorageType;

/// A valid recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What it is called.
    pub name: String,
    /// The file or the built-in recipe that it was read from.
    pub source: String,
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
    /// Texts that every model is asked to go on with.
    pub prompts: Vec<String>,
    /// Tokens that it may go on for.
    pub answer_tokens: usize,
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
    /// The number format that the stage's model is quantised to at the end, as a GGUF file.
    pub quantize: Option<WeightFormat>,
    /// What must hold afterwards.
    pub gates: Vec<Gate>,
}

/// What goes in a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// The scoring policies: components' files or names. The first that scores a kind of unit is asked for it.
    pub policies: Vec<String>,
    /// The kinds that may go.
    pub units: Vec<Unit>,
    /// How much stays.
    pub goal: Goal,
    /// Cuts on the way to the goal, each scored on what the last one left.
    pub cuts: usize,
    /// How the goal is spread over the layers.
    pub allocation: Allocation,
    /// What must stay.
    pub protected: Vec<Protected>,
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
    /// What one cut aims at: counts, shares of units, a least score, or budgets.
    Aim(Aim),
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
        let last = stages.len() - 1;
        if let Some(index) =
            stages.iter().position(|stage| stage.quantize.is_some()).filter(|&index| index < last)
        {
            let expected = "nothing before the last stage, as later ones would work on rounded weights";
            return Err(places.field(&format!("stages.{index}.quantize"), "a number format", expected));
        }
        let mut identity = text.to_owned();
        for path in used.iter().chain([&evaluation]) {
            let contents = std::fs::read(path).map_err(PruningError::file("read", path))?;
            identity += &format!("\n{} {}", path.display(), Digest::of(&contents));
        }
        Ok(Self {
            name: file.name,
            source: name.to_owned(),
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
                prompts: file.evaluation.prompts,
                answer_tokens: file.evaluation.answer_tokens,
                timing: file.evaluation.timing,
            },
            stages,
            digest: Digest::of(identity.as_bytes()),
        })
    }

    /// The names of each stage's policies, none for a stage that cuts nothing.
    pub fn policies(&self) -> impl Iterator<Item = &[String]> {
        self.stages.iter().map(|stage| stage.cut.as_ref().map_or(&[][..], |cut| &cut.policies))
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
    fn a_stage_may_search_spread_protect_and_quantize() {
        let text = RECIPE.replace(
            "keep = 0.9",
            "target = \"memory<=0.8x,latency<=52ms\"\nprotect = [{ unit = \"layer\", layers = [0] }]\nquantize = \"q8_0\"",
        );
        let recipe = parse(&text).unwrap();
        let (stage, cut) = (&recipe.stages[0], recipe.stages[0].cut.as_ref().unwrap());
        assert_eq!(stage.quantize, Some(WeightFormat::Q8_0));
        assert_eq!(cut.goal, Goal::Aim(Aim::Budgets("memory<=0.8x,latency<=52ms".parse().unwrap())));
        assert_eq!(cut.protected, [Protected { unit: Unit::Layer, layers: Some(vec![0]), indices: None }]);
        let text = RECIPE.replace("keep = 0.9", "keep = 0.9\nallocation = \"global\"");
        assert_eq!(parse(&text).unwrap().stages[0].cut.as_ref().unwrap().allocation, Allocation::Global);
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
                "keep = 0.9",
                "target = \"speed<=1x\"",
                "line 6: stages.0.target: found \"speed<=1x\", expected param",
            ),
            (
                "keep = 0.9",
                "keep = 0.9\ncuts = 2\nallocation = \"global\"",
                "line 8: stages.0.allocation: found global, expected uniform",
            ),
            (
                "keep = 0.9",
                "keep = 0.9\nquantize = \"q3\"",
                "line 7: stages.0.quantize: found \"q3\", expected",
            ),
            (
                "keep = 0.9",
                "keep = 0.9\ntarget = \"memory<=0.9x\"",
                "line 2: stages.0: found several goals, expected one of keep",
            ),
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
