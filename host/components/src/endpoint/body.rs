//! The body of an endpoint's response on its way to the client.
//!
//! It ends with an error when it grows beyond its limit and when the guest was stopped in the middle of it, so the connection
//! is cut and the client sees that something is missing. When it is dropped before its end, the client has gone, and the call that writes it is stopped.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;
use wasmtime_wasi_http::WasiBody;

/// Stops a call when dropped, unless it is let go.
pub(super) struct StopWhenDropped(Option<AbortHandle>);

impl StopWhenDropped {
    pub(super) const fn new(call: AbortHandle) -> Self {
        Self(Some(call))
    }

    /// Lets the call run to its end.
    pub(super) fn let_go(&mut self) {
        self.0 = None;
    }
}

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        if let Some(call) = &self.0 {
            call.abort();
        }
    }
}

/// Whether a call failed. Clones share it; it is set before the guest's end of the body goes away.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure(Arc<AtomicBool>);

impl Failure {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Why a response is cut.
#[derive(Debug, thiserror::Error)]
enum Cut {
    /// It was larger than an endpoint's may be.
    #[error("{component} answered with more than {limit} bytes")]
    TooLarge { component: String, limit: u64 },
    /// The guest was stopped while it wrote.
    #[error("{component} was stopped before the end of its response")]
    Stopped { component: String },
}

/// A response's body.
pub struct EndpointBody {
    inner: WasiBody,
    component: String,
    sent: u64,
    limit: u64,
    /// What the response's `content-length` says.
    announced: Option<u64>,
    call: StopWhenDropped,
    failure: Failure,
}

impl EndpointBody {
    pub(super) fn new(
        inner: WasiBody,
        component: &str,
        limit: u64,
        announced: Option<u64>,
        call: StopWhenDropped,
        failure: Failure,
    ) -> Self {
        Self { inner, component: component.to_owned(), sent: 0, limit, announced, call, failure }
    }
}

impl Body for EndpointBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        Pin::new(&mut this.inner).poll_frame(context).map(|frame| match frame {
            None if this.failure.is_set() => {
                Some(Err(Cut::Stopped { component: this.component.clone() }.into()))
            }
            None => {
                this.call.let_go();
                None
            }
            Some(Err(error)) => Some(Err(error.into())),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                this.sent = this.sent.saturating_add(length);
                if this.sent > this.limit {
                    let error = Cut::TooLarge { component: this.component.clone(), limit: this.limit };
                    tracing::warn!("{error}; the response is cut");
                    return Some(Err(error.into()));
                }
                Some(Ok(frame))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for EndpointBody {
    fn drop(&mut self) {
        // A body of a known length is not asked for its end.
        if self.inner.is_end_stream() || self.announced.is_some_and(|length| self.sent >= length) {
            self.call.let_go();
        }
    }
}

impl std::fmt::Debug for EndpointBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EndpointBody({}, {} bytes sent)", self.component, self.sent)
    }
}
