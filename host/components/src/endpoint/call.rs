//! One request on its way through a guest.

use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::sync::oneshot;
use wasmtime::{PoolConcurrencyLimitError, Store};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::{WasiBody, WasiHttpView as _};

use super::HANDLE;
use super::body::Failure;
use super::guest_time::GuestTime;
use super::prepared::{EndpointPre, new_store};
use crate::ComponentError;
use crate::calls::CallReport;
use crate::component::Component;
use crate::context::Context;
use crate::error::Limit;
use crate::instance::explain;

/// What the guest gives to `response-outparam.set`.
pub(super) type Answered = Result<Response<WasiBody>, ErrorCode>;

/// A call that has not begun.
pub(super) struct Call {
    component: Component,
    handler: ProxyPre<Context>,
    store: Store<Context>,
    time: GuestTime,
    request: Request<Bytes>,
    sender: oneshot::Sender<Answered>,
    failure: Failure,
}

impl Call {
    pub(super) fn new(
        pre: &EndpointPre,
        component: &Component,
        context: Context,
        request: Request<Bytes>,
        sender: oneshot::Sender<Answered>,
        failure: Failure,
    ) -> Self {
        let time = GuestTime::default();
        let store = new_store(component.host(), context, &time);
        let (component, handler) = (component.clone(), pre.handler.clone());
        Self { component, handler, store, time, request, sender, failure }
    }

    /// Runs the guest to its end. When this returns, its instance and all that it held are gone.
    pub(super) async fn run(self) -> Result<(), ComponentError> {
        let Self { component, handler, mut store, time, request, sender, failure } = self;
        let (config, wall_time) = (component.host().config(), component.limits().wall_time);
        let call = async {
            let instance = handler.instantiate_async(&mut store).await?;
            let mut http = store.data_mut().http();
            let request = http.new_incoming_request(Scheme::Http, request.map(Full::new))?;
            let response = http.new_response_outparam(sender)?;
            instance.wasi_http_incoming_handler().call_handle(&mut store, request, response).await
        };
        let ended = tokio::time::timeout(wall_time, time.of(call, config.tick)).await;
        let ended = ended.unwrap_or_else(|_| Err(Limit::WallTime(wall_time).into()));
        ended.map_err(|error| {
            // The store goes after this, and with it the guest's end of the response's body.
            failure.set();
            if error.is::<PoolConcurrencyLimitError>() {
                let limit = config.pooled_instances;
                return ComponentError::Busy { component: component.label().to_owned(), limit };
            }
            explain(&store, config.stack_bytes, HANDLE, error)
        })
    }
}

/// Tells how a call ended, also where nothing but its drop says that it was stopped.
pub(super) struct CallEnd {
    component: Component,
    report: CallReport,
    began: Instant,
    told: bool,
}

impl CallEnd {
    pub(super) fn new(component: Component, report: CallReport) -> Self {
        Self { component, report, began: Instant::now(), told: false }
    }

    /// Tells it and hands it on.
    pub(super) fn tell<T>(mut self, outcome: Result<T, ComponentError>) -> Result<T, ComponentError> {
        self.told = true;
        // At the pace at which the component may log: its clients decide how often it fails.
        if let Err(error) = &outcome
            && self.component.allowance().admit_line().is_some()
        {
            tracing::warn!("{error}");
        }
        self.report.ended(self.began, outcome.as_ref().err());
        outcome
    }
}

impl Drop for CallEnd {
    fn drop(&mut self) {
        if !self.told {
            let component = self.component.label().to_owned();
            let abandoned = ComponentError::Abandoned { component, call: HANDLE };
            self.report.ended(self.began, Some(&abandoned));
        }
    }
}
