//! Requests that an endpoint sends: none but to the hosts that its deployment grants.

use std::sync::Arc;

use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::GrantedHosts;
use crate::allowance::Allowance;

/// What decides about the requests of one call.
pub(crate) struct Network {
    granted: Arc<GrantedHosts>,
    /// Whose requests they are.
    label: Arc<str>,
    allowance: Arc<Allowance>,
}

type Sent = Result<(Response<WasiBody>, BodyTransfer), Error>;
type BodyTransfer = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl Network {
    pub(crate) fn new(granted: Arc<GrantedHosts>, label: Arc<str>, allowance: Arc<Allowance>) -> Self {
        Self { granted, label, allowance }
    }

    /// Tells the operator, at the pace at which the component may log.
    fn tell_of_refusal(&self, uri: &Uri) {
        if self.allowance.admit_line().is_some() {
            let host = uri.authority().map_or("no host", |authority| authority.as_str());
            tracing::warn!(
                component = %self.label,
                "a request to {host} was refused: its deployment does not grant that host (--grant-host {host})"
            );
        }
    }
}

impl WasiHttpHooks for Network {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: BodyTransfer,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        if !self.granted.cover(request.uri()) {
            self.tell_of_refusal(request.uri());
            return Box::new(std::future::ready(Err(Error::HttpRequestDenied)));
        }
        Box::new(async move {
            let (response, transfer) = wasmtime_wasi_http::default_send_request(request, options).await?;
            Ok((response.map(BodyExt::boxed_unsync), Box::new(transfer) as BodyTransfer))
        })
    }
}
