//! `espalier component`: the components of a running host.

use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};
use espalier_components::{find_component, read_component};
use serde_json::{Value, json};

use crate::admin::{Admin, AdminArgs, cell, segment, table};

/// `espalier component …`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List deployed components and what each slot has active.
    List,
    /// Show one component: a digest, a name, or name@version.
    Inspect {
        /// Which one.
        component: String,
    },
    /// Check, store and activate a component: a .wasm file or the name of a built-in one.
    Deploy {
        /// Path ending in .wasm, or a name.
        component: String,
        /// Slot to activate it in: router, scoring/NAME or metric/NAME [default: its world's and name's].
        #[arg(long, value_name = "SLOT")]
        slot: Option<String>,
        /// Only store it.
        #[arg(long, conflicts_with = "expected_revision")]
        no_activate: bool,
        /// Activate only if the slot is at this revision.
        #[arg(long, value_name = "N")]
        expected_revision: Option<u64>,
    },
    /// Activate a deployed component in a slot.
    Activate {
        /// router, scoring/NAME or metric/NAME.
        slot: String,
        /// A digest, a name, or name@version.
        component: String,
        /// Only if the slot is at this revision.
        #[arg(long, value_name = "N")]
        expected_revision: Option<u64>,
    },
    /// Activate what a slot had active before.
    Rollback {
        /// router, scoring/NAME or metric/NAME.
        slot: String,
        /// The revision to return to [default: what was active before the present component].
        #[arg(long, value_name = "N")]
        to_revision: Option<u64>,
        /// Only if the slot is at this revision.
        #[arg(long, value_name = "N")]
        expected_revision: Option<u64>,
    },
    /// Remove a component that is active nowhere.
    Remove {
        /// A digest, a name, or name@version.
        component: String,
    },
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<()> {
    let admin = args.admin.client();
    match &args.action {
        Action::List => admin.show(&admin.get("components")?, listing),
        Action::Inspect { component } => {
            admin.show(&admin.get(&format!("components/{}", segment(component)))?, details)
        }
        Action::Deploy { component, slot, no_activate, expected_revision } => {
            deploy(&admin, component, slot.as_deref(), !no_activate, *expected_revision)
        }
        Action::Activate { slot, component, expected_revision } => {
            let body = json!({"slot": slot, "component": component, "expected_revision": expected_revision});
            admin.show(&admin.post("slots/activate", &body)?, activation)
        }
        Action::Rollback { slot, to_revision, expected_revision } => {
            let body =
                json!({"slot": slot, "to_revision": to_revision, "expected_revision": expected_revision});
            admin.show(&admin.post("slots/rollback", &body)?, activation)
        }
        Action::Remove { component } => {
            let removed = admin.delete(&format!("components/{}", segment(component)))?;
            admin.show(&removed, |removed| {
                format!("removed {}@{}\n", cell(&removed["name"]), cell(&removed["version"]))
            })
        }
    }
}

fn deploy(
    admin: &Admin,
    component: &str,
    slot: Option<&str>,
    activate: bool,
    expected_revision: Option<u64>,
) -> Result<()> {
    let path = find_component(component)?;
    let bytes = read_component(&path)?;
    let label = path.file_name().unwrap_or_default().to_string_lossy();
    let mut query = format!("components?activate={activate}&label={}", segment(&label));
    if let Some(slot) = slot {
        query.push_str(&format!("&slot={}", segment(slot)));
    }
    if let Some(revision) = expected_revision {
        query.push_str(&format!("&expected_revision={revision}"));
    }
    admin.show(&admin.upload(&query, &bytes)?, |answer| {
        let component = &answer["component"];
        let stored = if answer["created"] == true { "deployed" } else { "deployed already:" };
        let mut text = format!(
            "{stored} {}@{} ({}, {})\n",
            cell(&component["name"]),
            cell(&component["version"]),
            cell(&component["world"]),
            short(&component["digest"]),
        );
        if !answer["activation"].is_null() {
            text.push_str(&activation(&answer["activation"]));
        }
        text
    })
}

fn activation(activation: &Value) -> String {
    format!(
        "{} is active in {}, revision {}\n",
        cell(&activation["component"]),
        cell(&activation["slot"]),
        cell(&activation["revision"])
    )
}

fn listing(answer: &Value) -> String {
    let rows: Vec<_> = rows(&answer["components"], |component| {
        vec![
            cell(&component["name"]),
            cell(&component["version"]),
            cell(&component["world"]),
            cell(&component["size"]),
            short(&component["digest"]),
            cell(&component["active_in"]),
        ]
    });
    let slots: Vec<_> = rows_of_slots(&answer["slots"]);
    let components = table(&["NAME", "VERSION", "WORLD", "BYTES ", "DIGEST", "ACTIVE IN"], &rows);
    format!("{components}\n{}", table(&["SLOT", "COMPONENT", "REVISION ", "PROBLEM"], &slots))
}

fn rows_of_slots(slots: &Value) -> Vec<Vec<String>> {
    rows(slots, |slot| {
        vec![
            cell(&slot["slot"]),
            cell(&slot["component"]),
            cell(&slot["revision"]),
            slot["problem"].as_str().unwrap_or_default().to_owned(),
        ]
    })
}

fn rows(list: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    list.as_array().into_iter().flatten().map(row).collect()
}

fn details(component: &Value) -> String {
    let keys = ["name", "version", "summary", "world", "digest", "size", "active_in"];
    keys.iter().map(|key| format!("{key:<10} {}\n", cell(&component[*key]))).collect()
}

/// The first digits of a digest, which are enough to name a component.
fn short(digest: &Value) -> String {
    digest.as_str().unwrap_or_default().chars().take(12).collect()
}
