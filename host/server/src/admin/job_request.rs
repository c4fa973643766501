//! The body of a new job, checked as far as it can be before the job waits in a queue.

use std::path::Path;

use espalier_components::ComponentError;
use espalier_pruning::{EvaluateJob, JobRequest, PruneJob, PruningError};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api_error::{ApiError, ErrorKind};
use crate::application::Application;
use crate::fields::Fields;
use crate::model_address::ModelAddress;

/// Parses a job and checks that what it names is there.
pub(super) fn parse(application: &Application, body: Value) -> Result<JobRequest, ApiError> {
    let mut fields = Fields::of_body(body)?;
    match fields.required_string("kind", "prune or evaluate")?.as_str() {
        "prune" => {
            let job: PruneJob = read(fields)?;
            check_prune(application, &job)?;
            Ok(JobRequest::Prune(job))
        }
        "evaluate" => {
            let job: EvaluateJob = read(fields)?;
            check_evaluate(application, &job)?;
            Ok(JobRequest::Evaluate(job))
        }
        other => Err(ApiError::field("kind", other, "prune or evaluate")),
    }
}

/// Reads what is left into a typed request. The type's own errors name the field by its path.
fn read<T: DeserializeOwned>(fields: Fields) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(fields.into_value()).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner().to_string();
        // A missing field is an error of the whole object; its name stands in the sentence.
        let field = match path.as_str() {
            "." => reason.split('`').nth(1).unwrap_or_default().to_owned(),
            _ => path,
        };
        let unknown = reason.starts_with("unknown field");
        let kind = if unknown { ErrorKind::UnsupportedParameter } else { ErrorKind::InvalidValue };
        ApiError::new(kind, format!("{field}: {reason}")).at(field)
    })
}

fn check_prune(application: &Application, job: &PruneJob) -> Result<(), ApiError> {
    application.registry().variant(&job.model, &job.variant)?;
    application.deployments().scoring_policy(&job.policy).map_err(|error| unknown("policy", error))?;
    if job.units.is_empty() {
        return Err(ApiError::field("units", Vec::<String>::new(), "at least one kind of unit"));
    }
    if !(job.keep > 0.0 && job.keep <= 1.0) {
        return Err(ApiError::field("keep", job.keep, "a share of the parameters above 0, at most 1"));
    }
    if job.calibration.is_empty() {
        return Err(ApiError::field("calibration", Vec::<String>::new(), "at least one text file"));
    }
    for path in &job.calibration {
        check_file("calibration", path)?;
    }
    if let Some(refit) = &job.refit {
        refit.check().map_err(|_| ApiError::field("refit.ridge", refit.ridge, "a number above 0"))?;
    }
    if job.out.symlink_metadata().is_ok() {
        return Err(ApiError::field("out", job.out.display().to_string(), "a path that does not exist yet"));
    }
    if let Some(variant) = &job.load_as {
        check_load_as(&job.model, variant)?;
    }
    Ok(())
}

/// Whether `variant` can be the name of one of the model's.
pub(super) fn check_load_as(model: &str, variant: &str) -> Result<(), ApiError> {
    let address = format!("{model}@{variant}").parse::<ModelAddress>();
    address.map(|_| ()).map_err(|_| ApiError::field("load_as", variant, "the name of a variant"))
}

fn check_evaluate(application: &Application, job: &EvaluateJob) -> Result<(), ApiError> {
    application.registry().variant(&job.model, &job.variant)?;
    if let Some(baseline) = &job.baseline {
        application.registry().variant(&job.model, baseline)?;
    }
    for metric in &job.metrics {
        application.deployments().evaluation_metric(metric).map_err(|error| unknown("metrics", error))?;
    }
    check_file("data", &job.data)
}

fn check_file(field: &str, path: &Path) -> Result<(), ApiError> {
    if path.is_file() {
        return Ok(());
    }
    Err(ApiError::field(field, path.display().to_string(), "a text file that this server can read"))
}

/// A component that is not there is the fault of this field, not of the path.
pub(super) fn unknown(field: &str, error: ComponentError) -> ApiError {
    let error = ApiError::from(error);
    let kind = if error.kind() == ErrorKind::NotFound { ErrorKind::InvalidValue } else { error.kind() };
    error.of_kind(kind).at(field)
}

impl From<PruningError> for ApiError {
    fn from(error: PruningError) -> Self {
        let message = error.to_string();
        match error {
            PruningError::JobNotFound { id } => Self::new(ErrorKind::NotFound, message).at("id").found(id),
            PruningError::JobFinished { state, .. } => {
                Self::new(ErrorKind::Conflict, message).at("id").found(state).expected("queued or running")
            }
            PruningError::JobNotResumable { state, .. } => {
                Self::new(ErrorKind::Conflict, message).at("id").found(state).expected("failed or cancelled")
            }
            PruningError::State(error) => error.into(),
            PruningError::Recipe { place, field, found, expected } => {
                Self::new(ErrorKind::InvalidValue, message)
                    .at(field)
                    .on_line_of(&place)
                    .found(found)
                    .expected(expected)
            }
            PruningError::RecipeText { place, .. } => {
                Self::new(ErrorKind::InvalidValue, message).at("toml").on_line_of(&place)
            }
            other => Self::internal("the jobs could not be read or written", &other),
        }
    }
}
