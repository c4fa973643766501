//! `espalier model`: the loaded variants of a running host.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args as ClapArgs, Subcommand};
use espalier_server::admin::models::DEFAULT_VARIANT;
use espalier_server::model_address::ModelAddress;
use serde_json::{Value, json};

use crate::admin::{AdminArgs, cell, segment, table};
use crate::commands::serve::ModelSource;

/// `espalier model …`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List models with their variants and generations.
    List,
    /// Load a variant; one of the same name is replaced without a gap.
    Load {
        /// NAME=PATH or NAME@VARIANT=PATH.
        model: String,
        /// A smaller model with the same vocabulary that guesses ahead what the variant will answer, for example a pruned
        /// one: the answers stay the same and come sooner.
        #[arg(long, value_name = "PATH")]
        draft: Option<PathBuf>,
    },
    /// Unload a variant; its requests in flight finish.
    Unload {
        /// NAME or NAME@VARIANT.
        model: String,
    },
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<()> {
    let admin = args.admin.client();
    match &args.action {
        Action::List => admin.show(&admin.get("models")?, listing),
        Action::Load { model, draft } => {
            let source = ModelSource::parse("the model", model)?;
            let path = absolute(&source.path)?;
            let draft = draft.as_deref().map(absolute).transpose()?;
            let body =
                json!({"model": source.model, "variant": source.variant, "path": path, "draft": draft});
            admin.show(&admin.post("models", &body)?, |variant| format!("loaded {}\n", name(variant)))
        }
        Action::Unload { model } => {
            let address: ModelAddress = model.parse()?;
            let variant = address.variant.as_deref().unwrap_or(DEFAULT_VARIANT);
            let path = format!("models/{}/{}", segment(&address.model), segment(variant));
            admin.show(&admin.delete(&path)?, |variant| format!("unloaded {}\n", name(variant)))
        }
    }
}

/// The host's working directory is another one, so a relative path means this one's.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is not a usable path", path.display()))
}

fn name(variant: &Value) -> String {
    let address = format!("{}@{}", cell(&variant["model"]), cell(&variant["variant"]));
    match &variant["generation"] {
        // It was recorded and could not be loaded when the host started.
        Value::Null => address,
        generation => format!("{address} as generation {}", cell(generation)),
    }
}

fn listing(answer: &Value) -> String {
    let variants = answer["models"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|model| model["variants"].as_array().into_iter().flatten());
    let rows: Vec<_> = variants
        .map(|variant| {
            vec![
                cell(&variant["model"]),
                cell(&variant["variant"]),
                cell(&variant["generation"]),
                cell(&variant["parameters"]),
                cell(&variant["weight_bytes"]),
                cell(&variant["max_model_len"]),
                cell(&variant["running"]),
                cell(&variant["waiting"]),
                cell(&variant["path"]),
            ]
        })
        .collect();
    let mut listing = table(
        &[
            "MODEL",
            "VARIANT",
            "GENERATION ",
            "PARAMETERS ",
            "BYTES ",
            "CONTEXT ",
            "RUNNING ",
            "WAITING ",
            "PATH",
        ],
        &rows,
    );
    for variant in answer["not_loaded"].as_array().into_iter().flatten() {
        let problem = cell(&variant["problem"]);
        listing.push_str(&format!("{} is recorded but not loaded: {problem}\n", name(variant)));
    }
    listing
}
