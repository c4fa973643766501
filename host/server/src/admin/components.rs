//! Components: deploying, activating, trying as a canary, rolling back, removing.
//!
//! A component is stored under its digest and becomes active in a slot by an activation with a revision. Deploying
//! compiles, checks and configures it before anything changes, so a component that does not fit leaves the active one
//! in place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use espalier_components::{
    Activation, CallShare, ComponentRecord, Configuration, GrantedHosts, Limits, Provision, Signature, Slot,
    Upload,
};
use espalier_state::Revision;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api_error::{ApiError, ErrorKind};
use crate::application::Application;
use crate::body;
use crate::fields::Fields;

/// How a component can be named.
const REFERENCE: &str = "a digest, a name, or name@version";
/// Activations that are shown per slot.
const HISTORY_LENGTH: usize = 20;

/// The query of a deployment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployQuery {
    activate: Option<bool>,
    slot: Option<String>,
    expected_revision: Option<u64>,
    /// A JSON object of texts.
    configuration: Option<String>,
    /// What errors call the component until it has said its name.
    label: Option<String>,
    /// Hosts that it may send requests to, separated by commas.
    granted_hosts: Option<String>,
    /// Who vouches for the component: the content of its `.sig` file.
    signature: Option<String>,
}

/// A component with what it may do.
#[derive(Debug, Serialize)]
pub struct ComponentDetails {
    #[serde(flatten)]
    record: ComponentRecord,
    /// The limits of its world, which hold for each of its calls.
    limits: Limits,
    /// What it may reach beside the interfaces of its world, in any of its places: hosts, as `host:NAME`. Nothing grants
    /// files, a clock or an environment.
    grants: Vec<String>,
}

/// `GET /admin/v1/components`.
pub async fn list(State(application): State<Arc<Application>>) -> Result<Json<Value>, ApiError> {
    application
        .clone()
        .blocking(move || {
            let components = application.deployments().components()?;
            Ok(Json(json!({"components": components, "slots": slots_json(&application)?})))
        })
        .await
}

/// `GET /admin/v1/components/{component}`.
pub async fn inspect(
    State(application): State<Arc<Application>>,
    Path(reference): Path<String>,
) -> Result<Json<ComponentDetails>, ApiError> {
    application
        .clone()
        .blocking(move || {
            let deployments = application.deployments();
            let record = deployments.inspect(&reference)?;
            let limits = deployments.limits(record.world).clone();
            let granted = record.places.iter().flat_map(|place| place.granted_hosts.hosts());
            let grants: BTreeSet<String> = granted.map(|host| format!("host:{host}")).collect();
            Ok(Json(ComponentDetails { record, limits, grants: grants.into_iter().collect() }))
        })
        .await
}

/// `GET /admin/v1/components/{component}/file`.
pub async fn file(
    State(application): State<Arc<Application>>,
    Path(reference): Path<String>,
) -> Result<Response, ApiError> {
    application
        .clone()
        .blocking(move || {
            let file = application.deployments().file(&reference)?;
            Ok(([(header::CONTENT_TYPE, "application/wasm")], file).into_response())
        })
        .await
}

/// `POST /admin/v1/components`: the body is the component.
pub async fn deploy(
    State(application): State<Arc<Application>>,
    query: Result<Query<DeployQuery>, axum::extract::rejection::QueryRejection>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    application.refuse_if_draining()?;
    let Query(query) =
        query.map_err(|error| ApiError::new(ErrorKind::InvalidValue, error.body_text()).at("query"))?;
    let slot: Option<Slot> = query.slot.map(|slot| slot.parse()).transpose()?;
    let media_type = body::media_type(request.headers());
    if !matches!(media_type.as_str(), "application/wasm" | "application/octet-stream") {
        let message = format!("content-type: found {media_type:?}, expected \"application/wasm\"");
        return Err(ApiError::new(ErrorKind::UnsupportedMediaType, message)
            .at("content-type")
            .found(media_type)
            .expected("application/wasm"));
    }
    let signature: Option<Signature> = query.signature.map(|text| text.parse()).transpose()?;
    let activate = query.activate.unwrap_or(true);
    let provision = Provision {
        configuration: configuration_of_query(query.configuration.as_deref(), activate)?,
        granted_hosts: granted_hosts_of_query(query.granted_hosts.as_deref(), activate)?,
    };
    let bytes = body::read(request, body::COMPONENT_LIMIT).await?;
    let label = query.label.unwrap_or_else(|| "the component".to_owned());
    let expected_revision = query.expected_revision.map(Revision);
    application
        .clone()
        .blocking(move || {
            let deployments = application.deployments();
            let world = slot.as_ref().map(Slot::world);
            let upload = Upload { label: &label, bytes: &bytes, signature: signature.as_ref() };
            if activate {
                deployments.try_out(&upload, slot.as_ref(), &provision)?;
            }
            let deployed = deployments.deploy_upload(&upload, world)?;
            let activation = if activate {
                let slot =
                    slot.unwrap_or_else(|| Slot::default_for(deployed.record.world, &deployed.record.name));
                let digest = deployed.record.digest.to_string();
                Some(deployments.configure(&slot, &digest, provision, expected_revision)?)
            } else {
                None
            };
            let status = if deployed.created { StatusCode::CREATED } else { StatusCode::OK };
            let component = deployments.inspect(&deployed.record.digest.to_string())?;
            let answer = json!({
                "component": component,
                "created": deployed.created,
                "compile_ms": milliseconds(deployed.load_time.compile),
                "load_ms": milliseconds(deployed.load_time.total),
                "compiled_before": deployed.load_time.cached,
                "activation": activation,
            });
            Ok((status, Json(answer)).into_response())
        })
        .await
}

/// `DELETE /admin/v1/components/{component}`.
pub async fn remove(
    State(application): State<Arc<Application>>,
    Path(reference): Path<String>,
) -> Result<Json<ComponentRecord>, ApiError> {
    application.clone().blocking(move || Ok(Json(application.deployments().remove(&reference)?))).await
}

/// `GET /admin/v1/slots`.
pub async fn slots(State(application): State<Arc<Application>>) -> Result<Json<Value>, ApiError> {
    application.clone().blocking(move || Ok(Json(json!({"slots": slots_json(&application)?})))).await
}

/// `POST /admin/v1/slots/activate`: `{slot, component, configuration?, granted_hosts?, expected_revision?}`.
pub async fn activate(
    State(application): State<Arc<Application>>,
    request: Request<Body>,
) -> Result<Json<Activation>, ApiError> {
    let mut fields = Fields::of_body(body::read_json(request).await?)?;
    let slot = slot(&mut fields)?;
    let reference = fields.required_string("component", REFERENCE)?;
    let provision = provision(&mut fields)?;
    let expected = expected_revision(&mut fields)?;
    fields.finish(&["slot", "component", "configuration", "granted_hosts", "expected_revision"])?;
    application
        .clone()
        .blocking(move || {
            Ok(Json(application.deployments().configure(&slot, &reference, provision, expected)?))
        })
        .await
}

/// `POST /admin/v1/slots/canary`: `{component, weight, slot?, configuration?, granted_hosts?, expected_revision?}`.
pub async fn canary(
    State(application): State<Arc<Application>>,
    request: Request<Body>,
) -> Result<Json<Activation>, ApiError> {
    let mut fields = Fields::of_body(body::read_json(request).await?)?;
    let slot: Option<Slot> = fields.string("slot")?.map(|slot| slot.parse()).transpose()?;
    let reference = fields.required_string("component", REFERENCE)?;
    let weight = fields.number("weight", 0.0..=1.0)?;
    let weight = weight.ok_or_else(|| ApiError::missing("weight", "a share of the calls above 0"))?;
    let weight = CallShare::new(weight)?;
    let provision = provision(&mut fields)?;
    let expected = expected_revision(&mut fields)?;
    fields.finish(&["component", "weight", "slot", "configuration", "granted_hosts", "expected_revision"])?;
    application
        .clone()
        .blocking(move || {
            let deployments = application.deployments();
            let record = deployments.inspect(&reference)?;
            let slot = slot.unwrap_or_else(|| Slot::default_for(record.world, &record.name));
            let digest = record.digest.to_string();
            Ok(Json(deployments.try_canary(&slot, &digest, provision, weight, expected)?))
        })
        .await
}

/// `POST /admin/v1/slots/promote`: `{slot, expected_revision?}`.
pub async fn promote(
    State(application): State<Arc<Application>>,
    request: Request<Body>,
) -> Result<Json<Activation>, ApiError> {
    let mut fields = Fields::of_body(body::read_json(request).await?)?;
    let slot = slot(&mut fields)?;
    let expected = expected_revision(&mut fields)?;
    fields.finish(&["slot", "expected_revision"])?;
    application.clone().blocking(move || Ok(Json(application.deployments().promote(&slot, expected)?))).await
}

/// `POST /admin/v1/slots/rollback`: `{slot, to_revision?, expected_revision?}`.
pub async fn rollback(
    State(application): State<Arc<Application>>,
    request: Request<Body>,
) -> Result<Json<Activation>, ApiError> {
    let mut fields = Fields::of_body(body::read_json(request).await?)?;
    let slot = slot(&mut fields)?;
    let to = fields.integer("to_revision", 1..=u64::MAX)?.map(Revision);
    let expected = expected_revision(&mut fields)?;
    fields.finish(&["slot", "to_revision", "expected_revision"])?;
    application
        .clone()
        .blocking(move || Ok(Json(application.deployments().roll_back(&slot, to, expected)?)))
        .await
}

fn slot(fields: &mut Fields) -> Result<Slot, ApiError> {
    Ok(fields.required_string("slot", Slot::FORMS)?.parse()?)
}

fn expected_revision(fields: &mut Fields) -> Result<Option<Revision>, ApiError> {
    Ok(fields.integer("expected_revision", 0..=u64::MAX)?.map(Revision))
}

/// Reads what a component gets with its place: `configuration` and `granted_hosts`.
fn provision(fields: &mut Fields) -> Result<Provision, ApiError> {
    Ok(Provision { configuration: configuration(fields)?, granted_hosts: granted_hosts(fields)? })
}

/// Reads `granted_hosts`, a list of texts.
fn granted_hosts(fields: &mut Fields) -> Result<GrantedHosts, ApiError> {
    const EXPECTED: &str = "a list of HOST or HOST:PORT";
    let Some(value) = fields.take("granted_hosts") else { return Ok(GrantedHosts::default()) };
    let Value::Array(list) = &value else { return Err(ApiError::field("granted_hosts", value, EXPECTED)) };
    let hosts = list.iter().map(|host| {
        let text = host.as_str().ok_or_else(|| ApiError::field("granted_hosts", host.clone(), EXPECTED))?;
        Ok(text.parse()?)
    });
    Ok(GrantedHosts::new(hosts.collect::<Result<_, ApiError>>()?)?)
}

fn granted_hosts_of_query(text: Option<&str>, activates: bool) -> Result<GrantedHosts, ApiError> {
    let Some(text) = text else { return Ok(GrantedHosts::default()) };
    if !activates {
        let expected = "none where the component is only stored: grants belong to a slot";
        return Err(ApiError::field("granted_hosts", text, expected));
    }
    let hosts = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
    Ok(GrantedHosts::new(hosts)?)
}

/// Reads `configuration`, an object of texts.
fn configuration(fields: &mut Fields) -> Result<Configuration, ApiError> {
    let Some(value) = fields.take("configuration") else { return Ok(Configuration::default()) };
    settings("configuration", value)
}

fn configuration_of_query(text: Option<&str>, activates: bool) -> Result<Configuration, ApiError> {
    let Some(text) = text else { return Ok(Configuration::default()) };
    if !activates {
        let expected = "none where the component is only stored: a configuration belongs to a slot";
        return Err(ApiError::field("configuration", text, expected));
    }
    let value: Value = serde_json::from_str(text)
        .map_err(|error| ApiError::field("configuration", text, format!("a JSON object ({error})")))?;
    settings("configuration", value)
}

fn settings(path: &str, value: Value) -> Result<Configuration, ApiError> {
    let Value::Object(object) = value else {
        return Err(ApiError::field(path, value, "an object of texts"));
    };
    let mut settings = BTreeMap::new();
    for (key, value) in object {
        match value {
            Value::String(text) => settings.insert(key, text),
            other => return Err(ApiError::field(format!("{path}.{key}"), other, "a text")),
        };
    }
    Ok(Configuration::new(settings)?)
}

fn slots_json(application: &Application) -> Result<Vec<Value>, ApiError> {
    let deployments = application.deployments();
    deployments
        .slots()
        .into_iter()
        .map(|status| {
            let mut history = deployments.history(&status.activation.slot)?;
            history.truncate(HISTORY_LENGTH);
            let mut slot = serde_json::to_value(&status)
                .map_err(|error| ApiError::internal("a slot could not be written as JSON", &error))?;
            if let Some(slot) = slot.as_object_mut() {
                slot.insert("history".into(), json!(history));
            }
            Ok(slot)
        })
        .collect()
}

fn milliseconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 100.0
}
