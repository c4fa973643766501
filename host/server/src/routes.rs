//! Every route of both listeners, as data.
//!
//! The routers, the OpenAPI document and the labels of the HTTP metrics are made from this table. The admin listener
//! answers everything, the public one only what is not under `/admin`.
//!
//! What is under `/ext` is not in it: its methods, paths and bodies are those of components ([`crate::endpoints`]), on the
//! public listener alone.
//!
//! Routes: `/` and its files, `/v1/models`, `/v1/models/{model}`, `/v1/completions`, `/v1/chat/completions`,
//! `/health`, `/ready`, `/metrics`, `/openapi.json`; under `/admin/v1`: `models`, `components`, `slots`, `jobs`,
//! `recipes`.

use axum::routing::MethodFilter;

/// HTTP methods in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET (and HEAD).
    Get,
    /// POST.
    Post,
    /// DELETE.
    Delete,
}

impl Method {
    /// Its name in OpenAPI documents.
    #[must_use]
    pub const fn lower(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Delete => "delete",
        }
    }

    /// Its name in HTTP.
    #[must_use]
    pub const fn upper(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }

    /// For axum.
    #[must_use]
    pub const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table below says what each does")]
pub enum Operation {
    UserInterface,
    UserInterfaceFile,
    Icon,
    ListModels,
    RetrieveModel,
    CreateCompletion,
    CreateChatCompletion,
    Health,
    Ready,
    Metrics,
    OpenApi,
    AdminListModels,
    AdminLoadModel,
    AdminUnloadModel,
    AdminListComponents,
    AdminDeployComponent,
    AdminInspectComponent,
    AdminComponentFile,
    AdminRemoveComponent,
    AdminListSlots,
    AdminActivate,
    AdminCanary,
    AdminPromote,
    AdminRollback,
    AdminListJobs,
    AdminStartJob,
    AdminGetJob,
    AdminCancelJob,
    AdminAllJobEvents,
    AdminJobEvents,
    AdminListRecipes,
    AdminListRecipeRuns,
    AdminStartRecipeRun,
    AdminGetRecipeRun,
    AdminCancelRecipeRun,
    AdminResumeRecipeRun,
    AdminRecipeRunEvents,
    AdminRecipeRunReport,
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// What it does.
    pub operation: Operation,
    /// The `operationId` of the OpenAPI document.
    pub id: &'static str,
    /// One sentence for people.
    pub summary: &'static str,
}

impl Route {
    /// Whether only the admin listener answers it.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.path.starts_with("/admin")
    }
}

const fn route(
    method: Method,
    path: &'static str,
    operation: Operation,
    id: &'static str,
    summary: &'static str,
) -> Route {
    Route { method, path, operation, id, summary }
}

use Method::{Delete, Get, Post};
use Operation as O;

/// All of them.
pub const ROUTES: &[Route] = &[
    route(Get, "/", O::UserInterface, "ui", "The web UI."),
    route(Get, "/ui/{file}", O::UserInterfaceFile, "uiFile", "The web UI's scripts and its style sheet."),
    route(Get, "/favicon.svg", O::Icon, "icon", "The icon."),
    route(
        Get,
        "/v1/models",
        O::ListModels,
        "listModels",
        "The models and, as `model@variant`, their variants.",
    ),
    route(Get, "/v1/models/{model}", O::RetrieveModel, "retrieveModel", "One of them."),
    route(Post, "/v1/completions", O::CreateCompletion, "createCompletion", "Continue texts or token ids."),
    route(
        Post,
        "/v1/chat/completions",
        O::CreateChatCompletion,
        "createChatCompletion",
        "Answer a conversation.",
    ),
    route(Get, "/health", O::Health, "health", "200 while the process is alive."),
    route(
        Get,
        "/ready",
        O::Ready,
        "ready",
        "200 while requests are taken; 503 with the reasons while loading, draining or without a model.",
    ),
    route(Get, "/metrics", O::Metrics, "metrics", "Metrics in the Prometheus text format."),
    route(Get, "/openapi.json", O::OpenApi, "openApi", "This document."),
    route(
        Get,
        "/admin/v1/models",
        O::AdminListModels,
        "adminListModels",
        "Loaded variants with their state.",
    ),
    route(
        Post,
        "/admin/v1/models",
        O::AdminLoadModel,
        "adminLoadModel",
        "Load a variant from a path of the server; one of the same name is replaced without a gap.",
    ),
    route(
        Delete,
        "/admin/v1/models/{model}/{variant}",
        O::AdminUnloadModel,
        "adminUnloadModel",
        "Unload a variant; its requests in flight finish.",
    ),
    route(
        Get,
        "/admin/v1/components",
        O::AdminListComponents,
        "adminListComponents",
        "Deployed components and what each slot has active.",
    ),
    route(
        Post,
        "/admin/v1/components",
        O::AdminDeployComponent,
        "adminDeployComponent",
        "Deploy a component (the body) and activate it, unless `activate=false`.",
    ),
    route(
        Get,
        "/admin/v1/components/{component}",
        O::AdminInspectComponent,
        "adminInspectComponent",
        "One component, by digest, `name@version`, or name where there is one version.",
    ),
    route(
        Get,
        "/admin/v1/components/{component}/file",
        O::AdminComponentFile,
        "adminComponentFile",
        "The file of a component, as it was deployed.",
    ),
    route(
        Delete,
        "/admin/v1/components/{component}",
        O::AdminRemoveComponent,
        "adminRemoveComponent",
        "Remove a component that is neither active nor a canary anywhere.",
    ),
    route(
        Get,
        "/admin/v1/slots",
        O::AdminListSlots,
        "adminListSlots",
        "The slots, their active components and the revision of the deployments.",
    ),
    route(
        Post,
        "/admin/v1/slots/activate",
        O::AdminActivate,
        "adminActivate",
        "Activate a deployed component in a slot, with a configuration; a canary there ends.",
    ),
    route(
        Post,
        "/admin/v1/slots/canary",
        O::AdminCanary,
        "adminCanary",
        "Give a share of a slot's calls to a deployed component, beside the active one.",
    ),
    route(
        Post,
        "/admin/v1/slots/promote",
        O::AdminPromote,
        "adminPromote",
        "Make a slot's canary its active component.",
    ),
    route(
        Post,
        "/admin/v1/slots/rollback",
        O::AdminRollback,
        "adminRollback",
        "End a slot's canary; where there is none, activate what the slot had active before.",
    ),
    route(Get, "/admin/v1/jobs", O::AdminListJobs, "adminListJobs", "The newest jobs, newest first."),
    route(Post, "/admin/v1/jobs", O::AdminStartJob, "adminStartJob", "Start a job: `prune` or `evaluate`."),
    route(
        Get,
        "/admin/v1/jobs/events",
        O::AdminAllJobEvents,
        "adminAllJobEvents",
        "The events of all jobs, as server-sent events.",
    ),
    route(Get, "/admin/v1/jobs/{id}", O::AdminGetJob, "adminGetJob", "One job."),
    route(Delete, "/admin/v1/jobs/{id}", O::AdminCancelJob, "adminCancelJob", "Cancel a job."),
    route(
        Get,
        "/admin/v1/jobs/{id}/events",
        O::AdminJobEvents,
        "adminJobEvents",
        "The events of one job until it ends, as server-sent events.",
    ),
    route(
        Get,
        "/admin/v1/recipes",
        O::AdminListRecipes,
        "adminListRecipes",
        "The recipes that are part of the program.",
    ),
    route(
        Get,
        "/admin/v1/recipes/runs",
        O::AdminListRecipeRuns,
        "adminListRecipeRuns",
        "The newest runs of recipes, newest first: state, hashes, figures before and after, reports.",
    ),
    route(
        Post,
        "/admin/v1/recipes/runs",
        O::AdminStartRecipeRun,
        "adminStartRecipeRun",
        "Go through a recipe's stages, beginning with a variant; the run is a job, and goes on where it was when the host \
         starts again.",
    ),
    route(
        Get,
        "/admin/v1/recipes/runs/{id}",
        O::AdminGetRecipeRun,
        "adminGetRecipeRun",
        "One run, with the recipe's text.",
    ),
    route(
        Delete,
        "/admin/v1/recipes/runs/{id}",
        O::AdminCancelRecipeRun,
        "adminCancelRecipeRun",
        "Cancel a run; what it has done is kept.",
    ),
    route(
        Post,
        "/admin/v1/recipes/runs/{id}/resume",
        O::AdminResumeRecipeRun,
        "adminResumeRecipeRun",
        "Queue a run again that failed or was cancelled; it goes on from its last checkpoint.",
    ),
    route(
        Get,
        "/admin/v1/recipes/runs/{id}/events",
        O::AdminRecipeRunEvents,
        "adminRecipeRunEvents",
        "The events of one run until it ends, as server-sent events.",
    ),
    route(
        Get,
        "/admin/v1/recipes/runs/{id}/report/{format}",
        O::AdminRecipeRunReport,
        "adminRecipeRunReport",
        "The report on the stages that are finished; format is html, markdown or json.",
    ),
];

/// The methods that a path has, for the `Allow` header.
#[must_use]
pub fn methods_of(path: &str) -> String {
    let methods: Vec<_> =
        ROUTES.iter().filter(|route| route.path == path).map(|route| route.method.upper()).collect();
    methods.join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn routes_and_ids_are_unique() {
        let routes: BTreeSet<_> = ROUTES.iter().map(|route| (route.path, route.method.lower())).collect();
        let ids: BTreeSet<_> = ROUTES.iter().map(|route| route.id).collect();
        assert_eq!((routes.len(), ids.len()), (ROUTES.len(), ROUTES.len()));
        assert_eq!(methods_of("/admin/v1/jobs/{id}"), "GET, DELETE");
    }
}
