//! The two listeners and what they answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any, on};
use tokio::net::TcpListener;

use crate::admin::access::Access;
use crate::admin::{components, jobs, models, recipes};
use crate::api_error::{ApiError, ErrorKind};
use crate::application::Application;
use crate::error::ServerError;
use crate::routes::{Operation, ROUTES, Route, methods_of};
use crate::{endpoints, health, interface, listener, openai, openapi};

/// How long jobs and engines get to end after the last connection has.
const SHUTDOWN_TIME: Duration = Duration::from_secs(10);

/// Where to listen and who may use the admin API.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The OpenAI API, UI, health and metrics.
    pub public: SocketAddr,
    /// All of that and the admin API.
    pub admin: SocketAddr,
    /// What admin requests must carry. Needed unless `admin` is a loopback address.
    pub admin_token: Option<String>,
}

/// A server that listens.
pub struct Server {
    application: Arc<Application>,
    public: TcpListener,
    admin: TcpListener,
    access: Access,
}

impl Server {
    /// Binds both addresses; nothing is answered before [`Server::run`].
    ///
    /// # Errors
    /// An address that is taken, or an admin address that is open to other machines without a token.
    pub async fn bind(application: Arc<Application>, addresses: Addresses) -> Result<Self, ServerError> {
        let loopback = addresses.admin.ip().is_loopback();
        let token = addresses.admin_token.filter(|token| !token.is_empty());
        if !loopback && token.is_none() {
            return Err(ServerError::AdminTokenRequired { address: addresses.admin });
        }
        let public = bind("--listen", addresses.public).await?;
        let admin = bind("--admin-listen", addresses.admin).await?;
        Ok(Self { application, public, admin, access: Access::new(loopback, token) })
    }

    /// The public address, with the port that a 0 became.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn public_address(&self) -> std::io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// The admin address, with the port that a 0 became.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Answers until the drain signal, then until what is in flight has ended or the signal says stop.
    pub async fn run(self) {
        let Self { application, public, admin, access } = self;
        let drain = application.drain().clone();
        let public = listener::serve(public, public_router(Arc::clone(&application)), drain.clone());
        let admin = listener::serve(admin, admin_router(Arc::clone(&application), access), drain.clone());
        tokio::join!(public, admin);
        // The worker ends at its next report of progress, which a second signal does not wait for.
        let ending = tokio::task::spawn_blocking(move || application.jobs().shutdown());
        tokio::select! {
            _ = tokio::time::timeout(SHUTDOWN_TIME, ending) => {}
            () = drain.stopped() => {}
        }
    }
}

async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| ServerError::Listen { flag, address, source })
}

/// Everything that is not under `/admin`, and the endpoints that are components.
pub fn public_router(application: Arc<Application>) -> Router {
    let mut endpoints = Router::new();
    for path in endpoints::PATHS {
        endpoints = endpoints.route(path, any(endpoints::answer));
    }
    router(application, endpoints, |route| !route.is_admin())
}

/// Everything, the admin routes behind `access`.
pub fn admin_router(application: Arc<Application>, access: Access) -> Router {
    let access = Arc::new(access);
    router(application, Router::new(), |_| true).layer(middleware::from_fn(
        move |request: Request, next: Next| {
            let access = Arc::clone(&access);
            async move {
                let guarded = request.uri().path().starts_with("/admin");
                match if guarded { access.check(request.headers()) } else { Ok(()) } {
                    Ok(()) => next.run(request).await,
                    Err(error) => error.into_response(),
                }
            }
        },
    ))
}

/// The routes that are `wanted`, beside those of `router`.
fn router(
    application: Arc<Application>,
    mut router: Router<Arc<Application>>,
    wanted: impl Fn(&Route) -> bool,
) -> Router {
    for route in ROUTES.iter().filter(|route| wanted(route)) {
        router = router.route(route.path, endpoint(route));
    }
    router
        .fallback(|request: Request| async move {
            let path = request.uri().path().to_owned();
            ApiError::new(
                ErrorKind::NotFound,
                format!("{path} is not a path of this listener, /openapi.json lists them"),
            )
            .found(path)
        })
        .method_not_allowed_fallback(|path: Option<MatchedPath>, request: Request| async move {
            let allowed = methods_of(path.as_ref().map_or("", MatchedPath::as_str));
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            ApiError::new(
                ErrorKind::MethodNotAllowed,
                format!("{path} does not take {method}, expected {allowed}"),
            )
            .found(method.as_str())
            .expected(allowed.clone())
            .allow(allowed)
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&application), measure))
        .with_state(application)
}

/// The handler of a route. The match is complete: a route without one does not compile.
fn endpoint(route: &Route) -> MethodRouter<Arc<Application>> {
    let method = route.method.filter();
    match route.operation {
        Operation::UserInterface => on(method, interface::page),
        Operation::UserInterfaceFile => on(method, interface::file),
        Operation::Icon => on(method, interface::icon),
        Operation::ListModels => on(method, openai::list_models),
        Operation::RetrieveModel => on(method, openai::retrieve_model),
        Operation::CreateCompletion => on(method, openai::create_completion),
        Operation::CreateChatCompletion => on(method, openai::create_chat_completion),
        Operation::Health => on(method, health::health),
        Operation::Ready => on(method, health::ready),
        Operation::Metrics => on(method, health::metrics),
        Operation::OpenApi => on(method, openapi::serve),
        Operation::AdminListModels => on(method, models::list),
        Operation::AdminLoadModel => on(method, models::load),
        Operation::AdminUnloadModel => on(method, models::unload),
        Operation::AdminListComponents => on(method, components::list),
        Operation::AdminDeployComponent => on(method, components::deploy),
        Operation::AdminInspectComponent => on(method, components::inspect),
        Operation::AdminComponentFile => on(method, components::file),
        Operation::AdminRemoveComponent => on(method, components::remove),
        Operation::AdminListSlots => on(method, components::slots),
        Operation::AdminActivate => on(method, components::activate),
        Operation::AdminCanary => on(method, components::canary),
        Operation::AdminPromote => on(method, components::promote),
        Operation::AdminRollback => on(method, components::rollback),
        Operation::AdminListJobs => on(method, jobs::list),
        Operation::AdminStartJob => on(method, jobs::start),
        Operation::AdminGetJob => on(method, jobs::get),
        Operation::AdminCancelJob => on(method, jobs::cancel),
        Operation::AdminAllJobEvents => on(method, jobs::all_events),
        Operation::AdminJobEvents => on(method, jobs::events),
        Operation::AdminListRecipes => on(method, recipes::shipped),
        Operation::AdminListRecipeRuns => on(method, recipes::list),
        Operation::AdminStartRecipeRun => on(method, recipes::start),
        Operation::AdminGetRecipeRun => on(method, recipes::get),
        Operation::AdminCancelRecipeRun => on(method, recipes::cancel),
        Operation::AdminResumeRecipeRun => on(method, recipes::resume),
        Operation::AdminRecipeRunEvents => on(method, recipes::events),
        Operation::AdminRecipeRunReport => on(method, recipes::report),
    }
}

/// Counts and times every answer, and adds the headers that every answer has.
async fn measure(State(application): State<Arc<Application>>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let label = route.as_ref().map_or("(none)", MatchedPath::as_str);
    let metrics = application.metrics();
    metrics.http_request(method_label(&method), label, response.status().as_u16(), begin.elapsed());
    if let Some(kind) = response.extensions().get::<ErrorKind>() {
        metrics.api_error(*kind);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Methods are the client's free text: only the standard ones become labels.
fn method_label(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// A response without a body of its own, for handlers that answer a fixed text.
pub(crate) fn text(media_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
