//! `espalier recipe`: the runs of recipes in a running host.

mod listing;
mod watch;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args as ClapArgs, Subcommand};
use espalier_pruning::{SHIPPED_RECIPES, shipped_recipe};
use espalier_server::admin::models::DEFAULT_VARIANT;
use espalier_server::model_address::ModelAddress;
use serde_json::{Value, json};

use crate::admin::{Admin, AdminArgs, cell};

/// `espalier recipe …`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List the runs: state, hashes of what went in and came out, figures before and after, reports.
    List,
    /// Show one run with its stages.
    Show {
        /// The run's number.
        id: u64,
        /// Print the recipe's text alone.
        #[arg(long)]
        toml: bool,
    },
    /// Queue a run. One runs at a time; a host that is started again goes on with it.
    Start {
        /// A TOML file, or seed, memory-first, latency-first, balanced or edge.
        recipe: String,
        /// The served variant that the run begins with: NAME or NAME@VARIANT.
        #[arg(long, value_name = "NAME[@VARIANT]")]
        model: String,
        /// A text to calibrate, to refit and to train on, in place of the recipe's; may be given more than once.
        #[arg(long, value_name = "FILE")]
        calibration: Vec<PathBuf>,
        /// The text that stages are measured on, in place of the recipe's own.
        #[arg(long, value_name = "FILE")]
        data: Option<PathBuf>,
        /// Serve the result as this variant of the model.
        #[arg(long, value_name = "VARIANT")]
        load_as: Option<String>,
        /// Show the progress until the run ends.
        #[arg(long)]
        watch: bool,
    },
    /// Cancel a run; what it has done is kept.
    Cancel {
        /// The run's number.
        id: u64,
    },
    /// Queue a run again that failed or was cancelled; it goes on from its last checkpoint.
    Resume {
        /// The run's number.
        id: u64,
    },
    /// Show the progress of a run until it ends.
    Watch {
        /// The run's number.
        id: u64,
    },
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<()> {
    let admin = args.admin.client();
    match &args.action {
        Action::List => admin.show(&admin.get("recipes/runs")?, |answer| listing::table_of(&admin, answer)),
        Action::Show { id, toml } => {
            let run = admin.get(&format!("recipes/runs/{id}"))?;
            admin.show(&run, |run| if *toml { cell(&run["toml"]) } else { listing::details(&admin, run) })
        }
        Action::Start { recipe, model, calibration, data, load_as, watch } => {
            let mut body = source(recipe)?;
            let address: ModelAddress = model.parse()?;
            let calibration = calibration.iter().map(|path| absolute(path)).collect::<Result<Vec<_>>>()?;
            let data = data.as_deref().map(absolute).transpose()?;
            let variant = address.variant.as_deref().unwrap_or(DEFAULT_VARIANT);
            for (field, value) in [
                ("model", json!(address.model)),
                ("variant", json!(variant)),
                ("calibration", json!(calibration)),
                ("data", json!(data)),
                ("load_as", json!(load_as)),
            ] {
                body.insert(field.to_owned(), value);
            }
            start(&admin, &Value::Object(body), *watch)
        }
        Action::Cancel { id } => {
            let run = admin.delete(&format!("recipes/runs/{id}"))?;
            admin.show(&run, |run| match run["state"].as_str() {
                Some("cancelled") => format!("run {id} is cancelled\n"),
                _ => format!("run {id} ends at its next step\n"),
            })
        }
        Action::Resume { id } => {
            let run = admin.post(&format!("recipes/runs/{id}/resume"), &json!({}))?;
            admin.show(&run, |run| format!("run {id} is {}\n", cell(&run["state"])))
        }
        Action::Watch { id } => watch::follow(&admin, *id),
    }
}

fn start(admin: &Admin, body: &Value, follow: bool) -> Result<()> {
    let run = admin.post("recipes/runs", body)?;
    let Some(id) = run["id"].as_u64() else { bail!("the host's answer has no number of a run") };
    if follow {
        return watch::follow(admin, id);
    }
    admin.show(&run, |run| format!("run {id} of {} is {}\n", cell(&run["recipe"]), cell(&run["state"])))
}

/// The part of the request that says which recipe.
fn source(recipe: &str) -> Result<serde_json::Map<String, Value>> {
    let path = Path::new(recipe);
    let mut body = serde_json::Map::new();
    if path.exists() {
        let text = std::fs::read_to_string(path).with_context(|| format!("{recipe} cannot be read"))?;
        let directory = absolute(path.parent().unwrap_or(Path::new("")))?;
        body.insert("toml".to_owned(), json!(text));
        body.insert("directory".to_owned(), json!(directory));
        return Ok(body);
    }
    if shipped_recipe(recipe).is_none() {
        let names = SHIPPED_RECIPES.map(|recipe| recipe.name).join(", ");
        bail!("the recipe is {recipe:?}; expected a file that exists, or one of {names}");
    }
    body.insert("recipe".to_owned(), json!(recipe));
    Ok(body)
}

/// The host's working directory is another one, so a relative path means this one's.
fn absolute(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return std::env::current_dir().context("the working directory is not there");
    }
    std::path::absolute(path).with_context(|| format!("{} is not a usable path", path.display()))
}
