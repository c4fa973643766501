//! HTTP endpoints: a request in, a response out, streamed, with the host's models at hand.
//!
//! Each request gets an instance of its own, in a task of its own, which ends with the guest's `handle`, with the first limit
//! that it reaches, or with its client: when the future of [`HttpEndpoint::handle`] or the response's body is dropped, the
//! task is stopped and its sessions with the models are cancelled. A guest that computes gives its thread to others at every
//! tick of the host's clock. The request's body is given whole; who reads it from a client bounds it by
//! [`Limits::request_bytes`](crate::Limits::request_bytes).

mod answer;
mod body;
mod call;
mod guest_time;
mod network;
mod prepared;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wasmtime_wasi_http::WasiHttpCtx;

pub(crate) use self::answer::{AnswerInProgress, EndedAnswer, NextStep};
pub use self::body::EndpointBody;
use self::body::{Failure, StopWhenDropped};
use self::call::{Answered, Call, CallEnd};
use self::network::Network;
pub(crate) use self::prepared::EndpointPre;
use crate::calls::CallReport;
use crate::component::{Component, Prepared};
use crate::context::Context;
use crate::{ComponentError, GrantedHosts, Identity, ServedModels, World};

/// The export that answers requests.
const HANDLE: &str = "handle";

/// What one call of an endpoint has beside the interfaces of this host.
pub(crate) struct EndpointContext {
    /// The models that it may use; none while it describes itself.
    pub(crate) models: Option<Arc<dyn ServedModels>>,
    network: Network,
    http: WasiHttpCtx,
}

impl EndpointContext {
    fn new(context: &Context, granted: Arc<GrantedHosts>, models: Option<Arc<dyn ServedModels>>) -> Self {
        let network = Network::new(granted, Arc::clone(&context.label), Arc::clone(&context.allowance));
        Self { models, network, http: WasiHttpCtx::new() }
    }
}

/// A component of the world `http-endpoint` with what its deployment grants.
pub struct HttpEndpoint {
    component: Component,
    granted: Arc<GrantedHosts>,
    report: CallReport,
}

impl HttpEndpoint {
    /// The endpoint of a component; an error for one of another world.
    pub fn new(component: Component, granted: GrantedHosts) -> Result<Self, ComponentError> {
        match component.prepared() {
            Prepared::Endpoint(_) => {
                Ok(Self { component, granted: granted.into(), report: CallReport::none() })
            }
            _ => Err(component.not_a(World::HttpEndpoint)),
        }
    }

    /// Reports its calls from now on.
    pub(crate) fn reporting(self, report: CallReport) -> Self {
        Self { report, ..self }
    }

    /// The component.
    pub fn component(&self) -> &Component {
        &self.component
    }

    /// Name, version and summary.
    pub fn identity(&self) -> &Identity {
        self.component.identity()
    }

    /// The largest body of a request, in bytes.
    pub fn request_bytes(&self) -> usize {
        self.component.limits().request_bytes
    }

    /// Answers a request with `models` at hand. The response is there as soon as the guest has set it; its body comes as the
    /// guest writes it. Needs tokio's runtime.
    ///
    /// # Errors
    /// Too many calls at once, or a guest that ended without a response: it trapped, reached a limit, or gave an error code.
    pub async fn handle(
        &self,
        request: Request<Bytes>,
        models: Arc<dyn ServedModels>,
    ) -> Result<Response<EndpointBody>, ComponentError> {
        let is_head = request.method() == Method::HEAD;
        let Started { mut stop, failure, task, answered } = self.begin(request, models)?;
        match answered.await {
            Ok(Ok(response)) => {
                // Nobody reads the body of such a response, so its end says nothing.
                if is_head {
                    stop.let_go();
                }
                let limit = self.component.limits().response_bytes;
                let announced = announced_length(response.headers());
                let label = self.component.label();
                Ok(response.map(|body| EndpointBody::new(body, label, limit, announced, stop, failure)))
            }
            Ok(Err(code)) => {
                stop.let_go();
                let component = self.component.label().to_owned();
                Err(ComponentError::ErrorCode { component, code: code.to_string() })
            }
            // The sender is gone with the guest.
            Err(_) => Err(match task.await {
                Ok(Err(error)) => error,
                Ok(Ok(())) => ComponentError::InvalidAnswer {
                    component: self.component.label().to_owned(),
                    call: HANDLE,
                    found: "no response".to_owned(),
                    expected: "one response".to_owned(),
                },
                Err(error) => ComponentError::Engine(format!("the task of an endpoint failed: {error}")),
            }),
        }
    }

    /// Starts the call in a task of its own.
    fn begin(
        &self,
        request: Request<Bytes>,
        models: Arc<dyn ServedModels>,
    ) -> Result<Started, ComponentError> {
        let Prepared::Endpoint(pre) = self.component.prepared() else {
            return Err(self.component.not_a(World::HttpEndpoint));
        };
        let end = CallEnd::new(self.component.clone(), self.report.clone());
        let running = match self.component.allowance().begin_call(self.component.limits()) {
            Ok(running) => running,
            Err(limit) => {
                let component = self.component.label().to_owned();
                return end.tell(Err(ComponentError::Limit { component, call: HANDLE, limit }));
            }
        };
        let mut context = self.component.context();
        context.endpoint = Some(EndpointContext::new(&context, Arc::clone(&self.granted), Some(models)));
        let (sender, answered) = oneshot::channel();
        let failure = Failure::default();
        let call = Call::new(pre, &self.component, context, request, sender, failure.clone());
        let task = tokio::spawn(async move {
            let _running = running;
            end.tell(call.run().await)
        });
        Ok(Started { stop: StopWhenDropped::new(task.abort_handle()), failure, task, answered })
    }
}

/// A call that runs.
struct Started {
    stop: StopWhenDropped,
    failure: Failure,
    task: JoinHandle<Result<(), ComponentError>>,
    answered: oneshot::Receiver<Answered>,
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl std::fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HttpEndpoint({})", self.component.label())
    }
}
