//! `espalier component`: components of one's own (new, test, record), and those of a running host.

mod even_model;
mod link;
mod new;
mod project;
mod record;
mod scripted_models;
mod test;

mod distribution;
mod signing;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args as ClapArgs, Subcommand};
use espalier_components::{GrantedHost, Signature, find_component, read_component};
use serde_json::{Value, json};

use crate::admin::{Admin, AdminArgs, cell, segment, table};
use crate::oci::{Pulled, Reference};

/// `espalier component …`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    action: Action,
}

/// What a component gets with its place in a slot.
#[derive(ClapArgs, Debug)]
struct Given {
    /// Tell it this; may be given more than once.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Let an endpoint send requests to this host, with every port or with the given one; may be given more than once.
    #[arg(long = "grant-host", value_name = "HOST[:PORT]")]
    granted_hosts: Vec<GrantedHost>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Make a folder with a component that builds, its test and its WIT.
    New(new::Args),
    /// Make a component of the core module that clang links for a project in C.
    Link(link::Args),
    /// Run a component without a model or a host, and print what it answers as JSON lines.
    Test(test::Args),
    /// Run a model on a little text and write what its layers compute, for `component test`.
    Record(record::Args),
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
        #[arg(required_unless_present = "from")]
        component: Option<String>,
        /// Take it from a registry: oci://REGISTRY/REPOSITORY:TAG or …@sha256:DIGEST.
        #[arg(long, value_name = "REFERENCE", conflicts_with_all = ["component", "signature"])]
        from: Option<Reference>,
        /// Speak plain HTTP to a registry that is not on this machine.
        #[arg(long, requires = "from")]
        plain_http: bool,
        /// Slot to activate it in: router, scoring/NAME, metric/NAME or ext/NAME [default: its world's and name's].
        #[arg(long, value_name = "SLOT")]
        slot: Option<String>,
        #[command(flatten)]
        given: Given,
        /// Who vouches for it [default: the file beside it, NAME.wasm.sig, if there is one].
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
        /// Only store it.
        #[arg(long, conflicts_with_all = ["expected_revision", "settings", "granted_hosts"])]
        no_activate: bool,
        /// Activate only if the slot is at this revision.
        #[arg(long, value_name = "N")]
        expected_revision: Option<u64>,
    },
    /// Activate a deployed component in a slot.
    Activate {
        /// router, scoring/NAME, metric/NAME or ext/NAME.
        slot: String,
        /// A digest, a name, or name@version.
        component: String,
        #[command(flatten)]
        given: Given,
        /// Only if the slot is at this revision.
        #[arg(long, value_name = "N")]
        expected_revision: Option<u64>,
    },
    /// Give a share of a slot's calls to a deployed component, beside the active one.
    Canary {
        /// A digest, a name, or name@version.
        component: String,
        /// The share, above 0 and at most 1.
        #[arg(long, value_name = "SHARE")]
        weight: f64,
        /// router, scoring/NAME, metric/NAME or ext/NAME [default: its world's and name's].
        #[arg(long, value_name = "SLOT")]
        slot: Option<String>,
        #[command(flatten)]
        given: Given,
        /// Only if the slot is at this revision.
        #[arg(long, value_name = "N")]
        expected_revision: Option<u64>,
    },
    /// Make a slot's canary its active component.
    Promote {
        /// router, scoring/NAME, metric/NAME or ext/NAME.
        slot: String,
        /// Only if the slot is at this revision.
        #[arg(long, value_name = "N")]
        expected_revision: Option<u64>,
    },
    /// End a slot's canary; where there is none, activate what the slot had active before.
    Rollback {
        /// router, scoring/NAME, metric/NAME or ext/NAME.
        slot: String,
        /// The revision to return to [default: what was active before the present component].
        #[arg(long, value_name = "N")]
        to_revision: Option<u64>,
        /// Only if the slot is at this revision.
        #[arg(long, value_name = "N")]
        expected_revision: Option<u64>,
    },
    /// Fetch a component from an OCI registry, with its signature. Credentials are those of Docker's configuration file.
    Pull(distribution::PullArgs),
    /// Store a component in an OCI registry, with its signature. Credentials are those of Docker's configuration file.
    Push(distribution::PushArgs),
    /// Make a pair of keys to sign components with: NAME.key, which stays yours, and NAME.pub, a line for the file of a
    /// host's --component-keys.
    Keygen {
        /// Lower-case letters, digits and hyphens.
        name: String,
        /// The folder for the two files.
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Sign a component: writes FILE.wasm.sig beside it, which `deploy` and a watched folder find there.
    Sign {
        /// The component's file.
        component: PathBuf,
        /// The private key that `keygen` wrote.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Remove a component that is neither active nor a canary anywhere.
    Remove {
        /// A digest, a name, or name@version.
        component: String,
    },
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<()> {
    let admin = args.admin.client();
    match &args.action {
        Action::New(args) => new::run(args),
        Action::Link(args) => link::run(args),
        Action::Test(args) => test::run(args),
        Action::Record(args) => record::run(args),
        Action::List => admin.show(&admin.get("components")?, listing),
        Action::Inspect { component } => {
            admin.show(&admin.get(&format!("components/{}", segment(component)))?, details)
        }
        Action::Deploy {
            component,
            from,
            plain_http,
            slot,
            given,
            signature,
            no_activate,
            expected_revision,
        } => {
            let upload = match (from, component) {
                (Some(reference), _) => Upload::pulled(reference, *plain_http)?,
                (None, Some(component)) => Upload::read(component, signature.as_deref())?,
                (None, None) => bail!("found no component, expected a path, a name or --from"),
            };
            let slot = slot.as_deref();
            let query = DeployQuery { slot, given, activate: !no_activate };
            deploy(&admin, &upload, &query, *expected_revision)
        }
        Action::Activate { slot, component, given, expected_revision } => {
            let body = json!({
                "slot": slot, "component": component, "configuration": configuration(&given.settings)?,
                "granted_hosts": given.granted_hosts,
                "expected_revision": expected_revision,
            });
            admin.show(&admin.post("slots/activate", &body)?, activation)
        }
        Action::Canary { component, weight, slot, given, expected_revision } => {
            let body = json!({
                "component": component, "weight": weight, "slot": slot,
                "configuration": configuration(&given.settings)?, "granted_hosts": given.granted_hosts,
                "expected_revision": expected_revision,
            });
            admin.show(&admin.post("slots/canary", &body)?, activation)
        }
        Action::Promote { slot, expected_revision } => {
            let body = json!({"slot": slot, "expected_revision": expected_revision});
            admin.show(&admin.post("slots/promote", &body)?, activation)
        }
        Action::Rollback { slot, to_revision, expected_revision } => {
            let body =
                json!({"slot": slot, "to_revision": to_revision, "expected_revision": expected_revision});
            admin.show(&admin.post("slots/rollback", &body)?, activation)
        }
        Action::Pull(args) => distribution::pull(args),
        Action::Push(args) => distribution::push(&admin, args),
        Action::Keygen { name, out } => signing::keygen(name, out),
        Action::Sign { component, key } => signing::sign(component, key),
        Action::Remove { component } => {
            let removed = admin.delete(&format!("components/{}", segment(component)))?;
            admin.show(&removed, |removed| {
                format!("removed {}@{}\n", cell(&removed["name"]), cell(&removed["version"]))
            })
        }
    }
}

/// What a deployment says beside the component.
struct DeployQuery<'a> {
    slot: Option<&'a str>,
    given: &'a Given,
    activate: bool,
}

/// What is deployed.
struct Upload {
    label: String,
    bytes: Vec<u8>,
    signature: Option<Signature>,
}

impl Upload {
    fn read(component: &str, signature: Option<&Path>) -> Result<Self> {
        let path = find_component(component)?;
        let bytes = read_component(&path)?;
        let label = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let signature = match signature {
            Some(signature) => Some(Signature::read(signature)?),
            None => Signature::beside(&path)?,
        };
        Ok(Self { label, bytes, signature })
    }

    fn pulled(reference: &Reference, plain_http: bool) -> Result<Self> {
        let Pulled { component, signature } = distribution::fetch(reference, plain_http)?;
        Ok(Self { label: reference.to_string(), bytes: component, signature })
    }
}

fn deploy(
    admin: &Admin,
    upload: &Upload,
    wanted: &DeployQuery<'_>,
    expected_revision: Option<u64>,
) -> Result<()> {
    let mut query = format!("components?activate={}&label={}", wanted.activate, segment(&upload.label));
    if let Some(slot) = wanted.slot {
        query.push_str(&format!("&slot={}", segment(slot)));
    }
    let Given { settings, granted_hosts } = wanted.given;
    if !settings.is_empty() {
        let configuration = configuration(settings)?.to_string();
        query.push_str(&format!("&configuration={}", segment(&configuration)));
    }
    if !granted_hosts.is_empty() {
        let hosts: Vec<_> = granted_hosts.iter().map(ToString::to_string).collect();
        query.push_str(&format!("&granted_hosts={}", segment(&hosts.join(","))));
    }
    if let Some(signature) = &upload.signature {
        query.push_str(&format!("&signature={}", segment(&signature.to_string())));
    }
    if let Some(revision) = expected_revision {
        query.push_str(&format!("&expected_revision={revision}"));
    }
    admin.show(&admin.upload(&query, &upload.bytes)?, |answer| {
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

/// Reads `KEY=VALUE`.
fn setting(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = parts.ok_or_else(|| format!("found '{text}', expected KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn configuration(settings: &[(String, String)]) -> Result<Value> {
    let mut object = serde_json::Map::new();
    for (key, value) in settings {
        if object.insert(key.clone(), json!(value)).is_some() {
            bail!("--set {key} is given twice, expected each key once");
        }
    }
    Ok(Value::Object(object))
}

fn activation(activation: &Value) -> String {
    let mut text = format!(
        "{} is active in {}, revision {}{}\n",
        cell(&activation["component"]),
        cell(&activation["slot"]),
        cell(&activation["revision"]),
        told(activation),
    );
    let canary = &activation["canary"];
    if !canary.is_null() {
        text.push_str(&format!(
            "{} gets a share of {} of its calls{}\n",
            cell(&canary["component"]),
            cell(&canary["weight"]),
            told(canary),
        ));
    }
    text
}

/// What a component was given with its place, if anything.
fn told(place: &Value) -> String {
    let settings = place["configuration"].as_object().into_iter().flatten();
    let settings = settings.map(|(key, value)| format!(", {key}={}", cell(value)));
    let hosts = place["granted_hosts"].as_array().into_iter().flatten();
    settings.chain(hosts.map(|host| format!(", may reach {}", cell(host)))).collect()
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
    format!(
        "{components}\n{}",
        table(&["SLOT", "COMPONENT", "REVISION ", "CANARY", "WEIGHT ", "PROBLEM"], &slots)
    )
}

fn rows_of_slots(slots: &Value) -> Vec<Vec<String>> {
    rows(slots, |slot| {
        vec![
            cell(&slot["slot"]),
            cell(&slot["component"]),
            cell(&slot["revision"]),
            cell(&slot["canary"]["component"]),
            cell(&slot["canary"]["weight"]),
            ["problem", "canary_problem"].iter().filter_map(|key| slot[*key].as_str()).collect(),
        ]
    })
}

fn rows(list: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    list.as_array().into_iter().flatten().map(row).collect()
}

fn details(component: &Value) -> String {
    let keys = ["name", "version", "summary", "world", "digest", "size", "active_in"];
    let mut text: String = keys.iter().map(|key| format!("{key:<10} {}\n", cell(&component[*key]))).collect();
    let signer = component["signer"].as_str().unwrap_or("a key that the host has no name for");
    // `ed25519 KEY SIGNATURE`
    match component["signature"].as_str().and_then(|signature| signature.split(' ').nth(1)) {
        Some(key) => text.push_str(&format!("{:<10} {signer}, {key}\n", "signed by")),
        None => text.push_str(&format!("{:<10} nobody\n", "signed by")),
    }
    for place in component["places"].as_array().into_iter().flatten() {
        let role = if place["canary"] == true { "canary" } else { "active" };
        text.push_str(&format!(
            "{role:<10} in {}, weight {}{}\n",
            cell(&place["slot"]),
            cell(&place["weight"]),
            told(place)
        ));
    }
    text.push_str(&permissions(component));
    text
}

/// What it may reach and use.
fn permissions(component: &Value) -> String {
    let grants = component["grants"]
        .as_array()
        .map_or_else(String::new, |grants| grants.iter().map(cell).collect::<Vec<_>>().join(", "));
    let grants = if grants.is_empty() { "none: no files, no network, no clock" } else { &grants };
    let mut text = format!("{:<10} {grants}\n", "grants");
    for (limit, value) in component["limits"].as_object().into_iter().flatten() {
        text.push_str(&format!("{:<10} {limit} {}\n", "limit", cell(value)));
    }
    text
}

/// The first digits of a digest, which are enough to name a component.
fn short(digest: &Value) -> String {
    digest.as_str().unwrap_or_default().chars().take(12).collect()
}
