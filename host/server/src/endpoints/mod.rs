//! Extra endpoints: components that answer what is under `/ext/NAME` on the public listener.
//!
//! The methods, the paths below that and the bodies are the component's own, so they stand in no table of this server. A
//! component gets the request's body whole, once it has arrived within the limit and in time, and no header that names who
//! may administer the host, since the admin listener has no such paths. It sees the path below `/ext/NAME`.

mod models;
mod session;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, Request, Uri, header};
use axum::response::Response;
use bytes::Bytes;
use espalier_components::{ComponentError, Limit};

use crate::api_error::{ApiError, ErrorKind};
use crate::application::Application;
use crate::body;
use models::EngineModels;

/// The paths of endpoints: one itself, and everything below it.
pub const PATHS: [&str; 3] = ["/ext/{name}", "/ext/{name}/", "/ext/{name}/{*rest}"];

/// Tells the component where it is mounted.
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Any method on one of [`PATHS`].
pub async fn answer(
    State(application): State<Arc<Application>>,
    Path(parameters): Path<Vec<(String, String)>>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    application.refuse_if_draining()?;
    let name = parameters.into_iter().next().map(|(_, name)| name).unwrap_or_default();
    let Some(endpoint) = application.deployments().endpoint(&name).map_err(not_answered)? else {
        let message = format!("there is no endpoint '{name}': the slot ext/{name} has no active component");
        return Err(ApiError::new(ErrorKind::NotFound, message).found(name));
    };
    let request = whole(request, &name, endpoint.request_bytes()).await?;
    let models = Arc::new(EngineModels::new(Arc::clone(&application)));
    let response = endpoint.handle(request, models).await.map_err(not_answered)?;
    Ok(response.map(Body::new))
}

/// The request as the component sees it.
async fn whole(request: Request<Body>, name: &str, limit: usize) -> Result<Request<Bytes>, ApiError> {
    let (mut parts, content) = request.into_parts();
    let mut read = Request::new(content);
    *read.headers_mut() = parts.headers.clone();
    let content = body::read(read, limit).await?;
    let prefix = format!("/ext/{name}");
    parts.uri = below(&parts.uri, &prefix)
        .map_err(|error| ApiError::internal("the path of the endpoint could not be formed", &error))?;
    if let Ok(prefix) = HeaderValue::from_str(&prefix) {
        parts.headers.insert(PREFIX, prefix);
    }
    // Of HTTP/1.0 it is not demanded, of a request to a component it is.
    parts.headers.entry(header::HOST).or_insert(HeaderValue::from_static("localhost"));
    let mut whole = Request::new(Bytes::from(content));
    *whole.method_mut() = parts.method;
    *whole.uri_mut() = parts.uri;
    *whole.headers_mut() = parts.headers;
    Ok(whole)
}

/// The path below `prefix`, with its query.
fn below(uri: &Uri, prefix: &str) -> Result<Uri, axum::http::uri::InvalidUri> {
    let whole = uri.path_and_query().map_or("/", |path| path.as_str());
    let rest = whole.strip_prefix(prefix).unwrap_or(whole);
    if rest.starts_with('/') { rest.parse() } else { format!("/{rest}").parse() }
}

/// Why a component gave no response, for its client: the component is named, since it is part of what the host serves.
fn not_answered(error: ComponentError) -> ApiError {
    let message = error.to_string();
    match error {
        ComponentError::Busy { .. } | ComponentError::Limit { limit: Limit::ConcurrentCalls(_), .. } => {
            ApiError::new(ErrorKind::QueueFull, message).retry_after(1)
        }
        _ => ApiError::new(ErrorKind::EndpointFailed, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_sees_the_path_below_its_own() {
        let seen = |uri: &str| below(&uri.parse().unwrap(), "/ext/a").unwrap().to_string();
        assert_eq!(seen("/ext/a"), "/");
        assert_eq!(seen("/ext/a/"), "/");
        assert_eq!(seen("/ext/a?x=1"), "/?x=1");
        assert_eq!(seen("/ext/a/b/c%20d?x=/ext/a"), "/b/c%20d?x=/ext/a");
        assert_eq!(seen("http://host/ext/a/b"), "/b");
    }
}
