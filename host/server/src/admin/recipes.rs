//! Recipes: starting, watching and cancelling their runs, the table of all runs, and the runs' reports.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use espalier_pruning::{Job, JobRequest, RecipeJob, SHIPPED_RECIPES};
use serde_json::{Value, json};

use super::{jobs, recipe_request};
use crate::api_error::{ApiError, ErrorKind};
use crate::application::Application;
use crate::body;
use crate::server::text;

/// Runs in the table.
const LIST_LENGTH: usize = 100;
/// The forms of a run's report: what the path says, the file in the run's directory, and its media type.
const REPORTS: [(&str, &str, &str); 3] = [
    ("html", "report.html", "text/html; charset=utf-8"),
    ("markdown", "report.md", "text/markdown; charset=utf-8"),
    ("json", "report.json", "application/json"),
];
/// A report shows what others wrote. Its page runs nothing, loads nothing, and is of no origin, so that it can't reach the
/// admin API with what the browser keeps for this server.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; sandbox";

/// `GET /admin/v1/recipes`.
pub async fn shipped() -> Json<Value> {
    let recipes = SHIPPED_RECIPES.map(|recipe| json!({"name": recipe.name, "toml": recipe.toml}));
    Json(json!({"recipes": recipes}))
}

/// `GET /admin/v1/recipes/runs`.
pub async fn list(State(application): State<Arc<Application>>) -> Result<Json<Value>, ApiError> {
    application
        .clone()
        .blocking(move || {
            let jobs = application.jobs().recipe_runs(LIST_LENGTH)?;
            let runs: Vec<_> =
                jobs.iter().filter_map(|job| Some(run_json(&application, job, recipe_of(job)?))).collect();
            Ok(Json(json!({"runs": runs})))
        })
        .await
}

/// `POST /admin/v1/recipes/runs`: `{model, variant?, recipe or toml, directory?, calibration?, data?, load_as?}`.
pub async fn start(
    State(application): State<Arc<Application>>,
    request: Request<Body>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    application.refuse_if_draining()?;
    let body = body::read_json(request).await?;
    application
        .clone()
        .blocking(move || {
            let run = recipe_request::parse(&application, body)?;
            let job = application.jobs().submit(&JobRequest::Recipe(Box::new(run)))?;
            Ok((StatusCode::ACCEPTED, Json(detailed(&application, &job)?)))
        })
        .await
}

/// `GET /admin/v1/recipes/runs/{id}`: as in the table, with the recipe's text.
pub async fn get(
    State(application): State<Arc<Application>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let id = jobs::number(&id)?;
    application
        .clone()
        .blocking(move || Ok(Json(detailed(&application, &application.jobs().get(id)?)?)))
        .await
}

/// `DELETE /admin/v1/recipes/runs/{id}`: what it has done is kept.
pub async fn cancel(
    State(application): State<Arc<Application>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let id = jobs::number(&id)?;
    application
        .clone()
        .blocking(move || {
            run_of(&application.jobs().get(id)?)?;
            let job = application.jobs().cancel(id)?;
            Ok((StatusCode::ACCEPTED, Json(detailed(&application, &job)?)))
        })
        .await
}

/// `POST /admin/v1/recipes/runs/{id}/resume`.
pub async fn resume(
    State(application): State<Arc<Application>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    application.refuse_if_draining()?;
    let id = jobs::number(&id)?;
    application
        .clone()
        .blocking(move || {
            run_of(&application.jobs().get(id)?)?;
            let job = application.jobs().resume(id)?;
            Ok((StatusCode::ACCEPTED, Json(detailed(&application, &job)?)))
        })
        .await
}

/// `GET /admin/v1/recipes/runs/{id}/events`: those of the run's job.
pub async fn events(
    State(application): State<Arc<Application>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id = jobs::number(&id)?;
    // Subscribed before the first look, so that nothing falls between the two.
    let events = application.jobs().subscribe();
    let looked_up = Arc::clone(&application);
    let job = application.blocking(move || Ok(looked_up.jobs().get(id)?)).await?;
    run_of(&job)?;
    Ok(jobs::stream(application, job, events))
}

/// `GET /admin/v1/recipes/runs/{id}/report/{format}`.
pub async fn report(
    State(application): State<Arc<Application>>,
    Path((id, format)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let id = jobs::number(&id)?;
    let Some((_, file, media_type)) = REPORTS.into_iter().find(|(name, _, _)| *name == format) else {
        let names = REPORTS.map(|(name, _, _)| name).join(", ");
        return Err(ApiError::field("format", format, format!("one of {names}")).of_kind(ErrorKind::NotFound));
    };
    application
        .clone()
        .blocking(move || {
            run_of(&application.jobs().get(id)?)?;
            let path = application.recipe_directory(id).join(file);
            let contents = std::fs::read(&path).map_err(|_| {
                let message = format!("run {id} has no report yet, expected a run with a finished stage");
                ApiError::new(ErrorKind::NotFound, message).at("id").found(id)
            })?;
            let mut response = text(media_type, contents);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(REPORT_POLICY));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok(response)
        })
        .await
}

fn recipe_of(job: &Job) -> Option<&RecipeJob> {
    match &job.request {
        JobRequest::Recipe(run) => Some(run),
        _ => None,
    }
}

fn run_of(job: &Job) -> Result<&RecipeJob, ApiError> {
    recipe_of(job).ok_or_else(|| {
        let (id, kind) = (job.id, job.request.kind());
        let message = format!("job {id} is of the kind {kind}, expected the run of a recipe");
        ApiError::new(ErrorKind::NotFound, message).at("id").found(id)
    })
}

fn detailed(application: &Application, job: &Job) -> Result<Value, ApiError> {
    let run = run_of(job)?;
    let mut described = run_json(application, job, run);
    if let Value::Object(fields) = &mut described {
        fields.insert("toml".to_owned(), json!(run.toml));
    }
    Ok(described)
}

/// A run as a row of the table.
fn run_json(application: &Application, job: &Job, run: &RecipeJob) -> Value {
    let directory = application.recipe_directory(job.id);
    let reports = REPORTS.iter().filter(|(_, file, _)| directory.join(file).is_file());
    let reports: Vec<_> =
        reports.map(|(format, _, _)| format!("/admin/v1/recipes/runs/{}/report/{format}", job.id)).collect();
    json!({
        "id": job.id,
        "recipe": run.recipe,
        "recipe_sha256": run.recipe_sha256,
        "inputs_sha256": run.inputs_sha256,
        "model": run.model,
        "variant": run.variant,
        "path": run.path,
        "texts": run.texts,
        "components": run.components,
        "load_as": run.load_as,
        "state": job.state,
        "phase": job.phase,
        "done": job.done,
        "total": job.total,
        "stage": job.stage,
        "error": job.error,
        "result": job.result,
        "created_ms": job.created_ms,
        "started_ms": job.started_ms,
        "finished_ms": job.finished_ms,
        "directory": directory,
        "reports": reports,
    })
}
