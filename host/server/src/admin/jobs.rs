//! Jobs: starting, watching and cancelling prune and evaluate runs.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use espalier_pruning::{Job, JobEvent};
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::job_request;
use crate::api_error::ApiError;
use crate::application::Application;
use crate::body;
use crate::event_stream::{self, KEEP_ALIVE};

/// Jobs in a list.
const LIST_LENGTH: usize = 100;
/// How often a silent stream shows that it lives.
const KEEP_ALIVE_PERIOD: Duration = Duration::from_secs(15);
/// Frames that wait for a slow watcher; the broadcast before them drops the oldest.
const FRAME_BACKLOG: usize = 64;

/// `GET /admin/v1/jobs`.
pub async fn list(State(application): State<Arc<Application>>) -> Result<Json<Value>, ApiError> {
    application
        .clone()
        .blocking(move || Ok(Json(json!({"jobs": application.jobs().list(LIST_LENGTH)?}))))
        .await
}

/// `POST /admin/v1/jobs`: `{kind, …}`.
pub async fn start(
    State(application): State<Arc<Application>>,
    request: Request<Body>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    application.refuse_if_draining()?;
    let body = body::read_json(request).await?;
    application
        .clone()
        .blocking(move || {
            let request = job_request::parse(&application, body)?;
            Ok((StatusCode::ACCEPTED, Json(application.jobs().submit(&request)?)))
        })
        .await
}

/// `GET /admin/v1/jobs/{id}`.
pub async fn get(
    State(application): State<Arc<Application>>,
    Path(id): Path<String>,
) -> Result<Json<Job>, ApiError> {
    let id = number(&id)?;
    application.clone().blocking(move || Ok(Json(application.jobs().get(id)?))).await
}

/// `DELETE /admin/v1/jobs/{id}`.
pub async fn cancel(
    State(application): State<Arc<Application>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let id = number(&id)?;
    application
        .clone()
        .blocking(move || Ok((StatusCode::ACCEPTED, Json(application.jobs().cancel(id)?))))
        .await
}

/// `GET /admin/v1/jobs/events`: `progress` events of all jobs.
pub async fn all_events(State(application): State<Arc<Application>>) -> Response {
    let events = application.jobs().subscribe();
    event_stream::response(watch(application, None, events))
}

/// `GET /admin/v1/jobs/{id}/events`: the job, its `progress` events, and the job again when it has ended.
pub async fn events(
    State(application): State<Arc<Application>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id = number(&id)?;
    // Subscribed before the first look, so that nothing falls between the two.
    let events = application.jobs().subscribe();
    let looked_up = Arc::clone(&application);
    let job = application.blocking(move || Ok(looked_up.jobs().get(id)?)).await?;
    Ok(stream(application, job, events))
}

/// The job, its `progress` events from `events` on, and the job again when it has ended.
pub(super) fn stream(
    application: Arc<Application>,
    job: Job,
    events: broadcast::Receiver<JobEvent>,
) -> Response {
    event_stream::response(watch(application, Some(job), events))
}

/// The frames of one job, or of all. A task feeds them; it ends when the client goes away.
fn watch(
    application: Arc<Application>,
    job: Option<Job>,
    events: broadcast::Receiver<JobEvent>,
) -> impl Stream<Item = String> + Send + 'static {
    let (sender, receiver) = mpsc::channel(FRAME_BACKLOG);
    tokio::spawn(async move {
        tokio::select! {
            () = follow(&application, job, events, &sender) => {}
            () = sender.closed() => {}
            () = application.drain().draining() => {}
        }
    });
    Received(receiver)
}

async fn follow(
    application: &Arc<Application>,
    job: Option<Job>,
    mut events: broadcast::Receiver<JobEvent>,
    frames: &mpsc::Sender<String>,
) {
    let wanted = job.as_ref().map(|job| job.id);
    if let Some(job) = job {
        let ended = job.state.is_final();
        if frames.send(job_frame(&job)).await.is_err() || ended {
            return;
        }
    }
    loop {
        let frame = tokio::select! {
            event = events.recv() => match event {
                Ok(event) if wanted.is_none_or(|id| id == event.id) => {
                    if wanted.is_some() && event.state.is_final() {
                        break;
                    }
                    event_stream::named("progress", &json!(event))
                }
                Ok(_) => continue,
                // The watcher was too slow: the job as it is now makes up for what it missed.
                Err(RecvError::Lagged(_)) => match wanted {
                    Some(id) => match snapshot(application, id).await {
                        Some(job) if job.state.is_final() => break,
                        Some(job) => job_frame(&job),
                        None => break,
                    },
                    None => continue,
                },
                Err(RecvError::Closed) => break,
            },
            () = tokio::time::sleep(KEEP_ALIVE_PERIOD) => KEEP_ALIVE.to_owned(),
        };
        if frames.send(frame).await.is_err() {
            return;
        }
    }
    if let Some(id) = wanted
        && let Some(job) = snapshot(application, id).await
    {
        // A watcher that is gone misses nothing.
        let _ = frames.send(job_frame(&job)).await;
    }
}

async fn snapshot(application: &Arc<Application>, id: u64) -> Option<Job> {
    let looked_up = Arc::clone(application);
    application.blocking(move || Ok(looked_up.jobs().get(id)?)).await.ok()
}

fn job_frame(job: &Job) -> String {
    event_stream::named("job", &json!(job))
}

pub(super) fn number(id: &str) -> Result<u64, ApiError> {
    id.parse().map_err(|_| ApiError::field("id", id, "the number of a job"))
}

/// A channel as a stream.
struct Received(mpsc::Receiver<String>);

impl Stream for Received {
    type Item = String;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<String>> {
        self.0.poll_recv(context)
    }
}
