//! The web UI's files, which are part of the program.

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::Response;

use crate::api_error::{ApiError, ErrorKind};
use crate::server::text;

/// The page may load nothing but this server's own files and talk to nobody else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, media type and content of what is under `/ui`.
const FILES: &[(&str, &str, &str)] = &[
    ("style.css", "text/css; charset=utf-8", include_str!("../../../web/style.css")),
    ("app.js", SCRIPT, include_str!("../../../web/app.js")),
    ("api.js", SCRIPT, include_str!("../../../web/api.js")),
    ("view.js", SCRIPT, include_str!("../../../web/view.js")),
    ("chat.js", SCRIPT, include_str!("../../../web/chat.js")),
    ("models.js", SCRIPT, include_str!("../../../web/models.js")),
    ("recipes.js", SCRIPT, include_str!("../../../web/recipes.js")),
    ("jobs.js", SCRIPT, include_str!("../../../web/jobs.js")),
    ("components.js", SCRIPT, include_str!("../../../web/components.js")),
];

/// `GET /`.
pub(crate) async fn page() -> Response {
    let mut response = text("text/html; charset=utf-8", include_str!("../../../web/index.html"));
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    fresh(response)
}

/// `GET /ui/{file}`.
pub(crate) async fn file(Path(name): Path<String>) -> Result<Response, ApiError> {
    match FILES.iter().find(|(known, _, _)| *known == name) {
        Some((_, media_type, content)) => Ok(fresh(text(media_type, *content))),
        None => Err(ApiError::new(ErrorKind::NotFound, format!("/ui/{name} is no file of the web UI"))),
    }
}

/// `GET /favicon.svg`.
pub(crate) async fn icon() -> Response {
    fresh(text("image/svg+xml", include_str!("../../../web/favicon.svg")))
}

/// A newer program has newer files under the same names.
fn fresh(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
