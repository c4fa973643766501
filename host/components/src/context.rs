//! What one instance holds in the host: its tensors and sessions, its inputs, and the account of what it uses.
//!
//! A context is the data of one wasmtime store. Every host function runs through [`Context::host_call`], which keeps the
//! call's [`Account`]. Memory and tables are limited by
//! the [`ResourceLimiter`] implementation; tensors by [`Context::keep`], sessions by [`Context::reserve_session`].

use std::sync::Arc;

use espalier_kernels::Tensor;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime::{ResourceLimiter, StoreContextMut, UpdateDeadline};

use crate::account::Account;
use crate::allowance::Allowance;
use crate::endpoint::{AnswerInProgress, EndpointContext};
use crate::error::Limit;
use crate::guest_metrics::GuestMetrics;
use crate::{Ablation, Limits, MetricInputs, ModelFacts, ModelWeights, TokenStream, Trace};

/// What the bookkeeping of a tensor costs beside its values, counted so that empty tensors are not free.
const TENSOR_OVERHEAD: usize = 128;

/// A tensor behind a guest's handle. Values are never changed in place, so that traces can be shared.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct HostTensor(Arc<Tensor>);

/// The traces behind the handle that a guest gets for one call.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct HostTraces(pub(crate) Arc<[Trace]>);

/// The continuation behind a guest's handle.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct HostSession(pub(crate) Box<dyn TokenStream>);

/// The answer behind an endpoint's handle.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct HostAnswer(pub(crate) AnswerInProgress);

/// The state of one instance.
pub(crate) struct Context {
    pub(crate) facts: Option<Arc<ModelFacts>>,
    /// The weights of the model that a policy scores.
    pub(crate) weights: Option<Arc<dyn ModelWeights>>,
    /// That model without some units, for policies that ask for it.
    pub(crate) ablation: Option<Arc<dyn Ablation>>,
    /// The seed of the scoring job.
    pub(crate) seed: u64,
    /// What a metric measures.
    pub(crate) metric: Option<MetricInputs>,
    /// What an endpoint has beside the interfaces of this host.
    pub(crate) endpoint: Option<EndpointContext>,
    /// What a metric said for the report.
    pub(crate) notes: Vec<String>,
    pub(crate) limits: Arc<Limits>,
    /// `name@version`, or the digest before that is known.
    pub(crate) label: Arc<str>,
    pub(crate) account: Account,
    /// Shared by all instances of the component.
    pub(crate) allowance: Arc<Allowance>,
    /// What it counts and observes; nothing before its name is known.
    pub(crate) metrics: Option<Arc<GuestMetrics>>,
    table: ResourceTable,
    memory_bytes: usize,
    table_elements: usize,
    tensor_bytes: usize,
    tensors: usize,
    sessions: usize,
}

impl Context {
    pub(crate) fn new(label: Arc<str>, limits: Arc<Limits>, allowance: Arc<Allowance>) -> Self {
        Self {
            facts: None,
            weights: None,
            ablation: None,
            seed: 0,
            metric: None,
            endpoint: None,
            notes: Vec::new(),
            limits,
            label,
            account: Account::new(),
            allowance,
            metrics: None,
            table: ResourceTable::new(),
            memory_bytes: 0,
            table_elements: 0,
            tensor_bytes: 0,
            tensors: 0,
            sessions: 0,
        }
    }

    /// Starts the account of a new call.
    pub(crate) fn begin_call(&mut self) {
        self.account = Account::new();
    }

    /// Runs the body of a host function.
    pub(crate) fn host_call<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        let entered = self.account.enter_host(&self.limits)?;
        let answer = body(self);
        self.account.leave_host(entered);
        answer
    }

    /// The epoch callback: lets the guest go on for one more tick unless a time limit is reached.
    pub(crate) fn check_time(mut store: StoreContextMut<'_, Self>) -> wasmtime::Result<UpdateDeadline> {
        let context = store.data_mut();
        context.account.tick(&context.limits)?;
        Ok(UpdateDeadline::Continue(1))
    }

    /// Fails unless the guest's quota has room for a further tensor with so many values. Asked before the values are
    /// allocated, so that the quota bounds the host's memory too.
    pub(crate) fn reserve(&self, values: usize) -> wasmtime::Result<()> {
        let wanted = self.tensor_bytes.saturating_add(tensor_bytes(values));
        if wanted > self.limits.tensor_bytes {
            return Err(Limit::TensorBytes { wanted, allowed: self.limits.tensor_bytes }.into());
        }
        if self.tensors >= self.limits.tensors {
            return Err(Limit::Tensors(self.limits.tensors).into());
        }
        Ok(())
    }

    /// Gives the guest a tensor.
    pub(crate) fn keep(&mut self, tensor: Arc<Tensor>) -> wasmtime::Result<Resource<HostTensor>> {
        let values = tensor.values().len();
        self.reserve(values)?;
        let handle = self.table.push(HostTensor(tensor))?;
        self.tensor_bytes += tensor_bytes(values);
        self.tensors += 1;
        Ok(handle)
    }

    /// The tensor behind a handle.
    pub(crate) fn tensor(&self, handle: &Resource<HostTensor>) -> wasmtime::Result<Arc<Tensor>> {
        Ok(Arc::clone(&self.table.get(handle)?.0))
    }

    /// Puts a tensor of the same size in the place of another.
    pub(crate) fn replace(&mut self, handle: &Resource<HostTensor>, tensor: Tensor) -> wasmtime::Result<()> {
        self.table.get_mut(handle)?.0 = Arc::new(tensor);
        Ok(())
    }

    /// Takes a tensor back and returns its room to the quota.
    pub(crate) fn release(&mut self, handle: Resource<HostTensor>) -> wasmtime::Result<()> {
        let HostTensor(tensor) = self.table.delete(handle)?;
        self.tensor_bytes = self.tensor_bytes.saturating_sub(tensor_bytes(tensor.values().len()));
        self.tensors = self.tensors.saturating_sub(1);
        Ok(())
    }

    /// Makes traces reachable by a handle until [`Context::withdraw`].
    pub(crate) fn lend(&mut self, traces: Arc<[Trace]>) -> wasmtime::Result<Resource<HostTraces>> {
        Ok(self.table.push(HostTraces(traces))?)
    }

    /// The traces behind a handle.
    pub(crate) fn traces(&self, handle: &Resource<HostTraces>) -> wasmtime::Result<Arc<[Trace]>> {
        Ok(Arc::clone(&self.table.get(handle)?.0))
    }

    /// Ends a handle to traces.
    pub(crate) fn withdraw(&mut self, handle: Resource<HostTraces>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }

    /// Fails unless the guest may begin a further session of so many tokens. Asked before the session begins.
    pub(crate) fn reserve_session(&mut self, max_tokens: u32) -> wasmtime::Result<()> {
        if self.sessions >= self.limits.sessions {
            return Err(Limit::Sessions(self.limits.sessions).into());
        }
        Ok(self.account.count_generated_tokens(max_tokens, &self.limits)?)
    }

    /// Gives the guest a session.
    pub(crate) fn open_session(
        &mut self,
        stream: Box<dyn TokenStream>,
    ) -> wasmtime::Result<Resource<HostSession>> {
        let handle = self.table.push(HostSession(stream))?;
        self.sessions += 1;
        Ok(handle)
    }

    /// The session behind a handle.
    pub(crate) fn session(
        &mut self,
        handle: &Resource<HostSession>,
    ) -> wasmtime::Result<&mut dyn TokenStream> {
        Ok(&mut *self.table.get_mut(handle)?.0)
    }

    /// Gives an endpoint an answer, which is a session too.
    pub(crate) fn open_answer(&mut self, answer: HostAnswer) -> wasmtime::Result<Resource<HostAnswer>> {
        let handle = self.table.push(answer)?;
        self.sessions += 1;
        Ok(handle)
    }

    /// Handles of resources that other crates' host functions keep here too.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// The table together with what an endpoint has, for host functions that need both.
    pub(crate) fn endpoint_and_table(&mut self) -> (&mut Option<EndpointContext>, &mut ResourceTable) {
        (&mut self.endpoint, &mut self.table)
    }

    /// Takes a session or an answer back, which cancels it.
    pub(crate) fn close_session<T: Send + 'static>(&mut self, handle: Resource<T>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        self.sessions = self.sessions.saturating_sub(1);
        Ok(())
    }
}

fn tensor_bytes(values: usize) -> usize {
    values.saturating_mul(size_of::<f32>()).saturating_add(TENSOR_OVERHEAD)
}

impl ResourceLimiter for Context {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if wanted > self.limits.memory_bytes {
            // A trap rather than a refusal that the guest could handle: what follows an exhausted memory in the guest
            // is an abort that no longer says why.
            return Err(Limit::Memory { wanted, allowed: self.limits.memory_bytes }.into());
        }
        self.memory_bytes = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.table_elements.saturating_add(desired.saturating_sub(current));
        if wanted > self.limits.table_elements {
            return Err(Limit::TableElements { wanted, allowed: self.limits.table_elements }.into());
        }
        self.table_elements = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        self.limits.instances
    }

    fn memories(&self) -> usize {
        self.limits.instances
    }
}
