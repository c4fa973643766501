//! The run of a recipe as a job: everything that it depends on, as it was when the run was asked for.

use std::path::PathBuf;

use espalier_state::Digest;
use serde::{Deserialize, Serialize};

use crate::error::PruningError;
use crate::recipe::{Recipe, RecipeTexts};

/// Go through the stages of a recipe, beginning with a variant's weights. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeJob {
    /// The served model's name.
    pub model: String,
    /// The variant that the run begins with.
    pub variant: String,
    /// Its weights. The run goes on with them when the variant has gone.
    pub path: PathBuf,
    /// The recipe's name.
    pub recipe: String,
    /// What the recipe's text is called in errors.
    pub source: String,
    /// The recipe.
    pub toml: String,
    /// SHA-256 of its text.
    pub recipe_sha256: Digest,
    /// What paths in the recipe are relative to.
    pub directory: PathBuf,
    /// Texts to calibrate, to refit and to train on, instead of the recipe's.
    pub calibration: Vec<PathBuf>,
    /// The text to measure on, instead of the recipe's.
    pub data: Option<PathBuf>,
    /// What it reads, the text to measure on last.
    pub texts: Vec<RecipeText>,
    /// SHA-256 of the recipe with its texts; see [`Recipe::digest`].
    pub inputs_sha256: Digest,
    /// The components of its stages.
    pub components: Vec<PinnedComponent>,
    /// Serve the result as this variant of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_as: Option<String>,
}

/// A text that a run reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeText {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of what was in it when the run was asked for.
    pub sha256: Digest,
}

/// The version of a component that a run uses from its beginning to its end, whatever is activated meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedComponent {
    /// `scoring/NAME` or `metric/NAME`; the recipe says NAME.
    pub slot: String,
    /// Its own name and version.
    pub component: String,
    /// SHA-256 of its file.
    pub digest: Digest,
}

impl RecipeJob {
    /// The component of a slot, if the recipe has it.
    #[must_use]
    pub fn pinned(&self, slot: &str) -> Option<&PinnedComponent> {
        self.components.iter().find(|pinned| pinned.slot == slot)
    }

    /// The recipe with the run's texts.
    ///
    /// # Errors
    /// What [`Recipe::parse`] refuses, and texts that are not what they were when the run was asked for.
    pub fn recipe(&self) -> Result<Recipe, PruningError> {
        let texts = RecipeTexts { calibration: self.calibration.clone(), evaluation: self.data.clone() };
        let recipe = Recipe::parse(&self.toml, &self.source, &self.directory, &texts)?;
        if recipe.digest == self.inputs_sha256 {
            return Ok(recipe);
        }
        Err(PruningError::TextsChanged {
            recipe: self.recipe.clone(),
            found: recipe.digest.to_string(),
            expected: self.inputs_sha256.to_string(),
        })
    }
}
