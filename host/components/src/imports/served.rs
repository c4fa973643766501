//! `espalier:endpoint/inference`: sessions with the models that the host serves.

use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, subscribe};

use crate::bindings::endpoint::espalier::endpoint::inference::{
    Ending, FinishReason, Host, HostSession as HostSessionMethods, Prompt, Refusal, Request,
    Role as GuestRole, ServedVariant as GuestVariant, Step,
};
use crate::context::{Context, HostAnswer};
use crate::endpoint::{AnswerInProgress, EndedAnswer, NextStep};
use crate::{Role, ServedModels, SessionPrompt, SessionRefusal, SessionRequest};

impl Context {
    /// The models that this call may use.
    fn served(&self) -> wasmtime::Result<std::sync::Arc<dyn ServedModels>> {
        let endpoint = self.endpoint.as_ref();
        endpoint
            .and_then(|endpoint| endpoint.models.clone())
            .ok_or_else(|| wasmtime::Error::msg("there are no models in this call"))
    }
}

impl Host for Context {
    fn variants(&mut self) -> wasmtime::Result<Vec<GuestVariant>> {
        self.host_call(|context| {
            let variants = context.served()?.variants().into_iter();
            Ok(variants
                .map(|variant| GuestVariant {
                    model: variant.model,
                    name: variant.name,
                    context_length: narrow(variant.context_length),
                    accepts: variant.accepts,
                })
                .collect())
        })
    }
}

impl HostSessionMethods for Context {
    async fn begin(&mut self, request: Request) -> wasmtime::Result<Result<Resource<HostAnswer>, Refusal>> {
        let models = self.host_call(|context| {
            context.reserve_session(request.max_tokens)?;
            context.served()
        })?;
        let answer = AnswerInProgress::begin(models.begin(session_request(request))).await;
        self.host_call(|context| match answer {
            Ok(answer) => context.open_answer(HostAnswer(answer)).map(Ok),
            Err(refusal) => Ok(Err(match refusal {
                SessionRefusal::UnknownModel(reason) => Refusal::UnknownModel(reason),
                SessionRefusal::Invalid(reason) => Refusal::Invalid(reason),
                SessionRefusal::Busy(reason) => Refusal::Busy(reason),
                SessionRefusal::Failed(reason) => Refusal::Failed(reason),
            })),
        })
    }

    fn answering(&mut self, session: Resource<HostAnswer>) -> wasmtime::Result<String> {
        self.host_call(|context| Ok(context.table().get(&session)?.0.answering().to_owned()))
    }

    fn subscribe(&mut self, session: Resource<HostAnswer>) -> wasmtime::Result<Resource<DynPollable>> {
        self.host_call(|context| subscribe(context.table(), session))
    }

    fn next(&mut self, session: Resource<HostAnswer>) -> wasmtime::Result<Option<Step>> {
        self.host_call(|context| Ok(context.table().get_mut(&session)?.0.take().map(guest_step)))
    }

    fn drop(&mut self, session: Resource<HostAnswer>) -> wasmtime::Result<()> {
        self.host_call(|context| context.close_session(session))
    }
}

fn session_request(request: Request) -> SessionRequest {
    let prompt = match request.prompt {
        Prompt::Text(text) => SessionPrompt::Text(text),
        Prompt::Messages(messages) => {
            let message = |role, content| {
                let role = match role {
                    GuestRole::System => Role::System,
                    GuestRole::User => Role::User,
                    GuestRole::Assistant => Role::Assistant,
                };
                (role, content)
            };
            let messages = messages.into_iter().map(|found| message(found.role, found.content));
            SessionPrompt::Messages(messages.collect())
        }
    };
    let Request { model, max_tokens, temperature, seed, .. } = request;
    SessionRequest { model, prompt, max_tokens, temperature, seed }
}

fn guest_step(step: NextStep) -> Step {
    match step {
        NextStep::Text(text) => Step::Text(text),
        NextStep::Reasoning(text) => Step::Reasoning(text),
        NextStep::Failed(reason) => Step::Failed(reason),
        NextStep::Finished(EndedAnswer { end, first_token, per_token }) => Step::Finished(Ending {
            reason: if end.cut { FinishReason::Length } else { FinishReason::Stop },
            prompt_tokens: narrow(end.prompt_tokens),
            tokens: narrow(end.tokens),
            first_token_milliseconds: first_token.as_secs_f64() * 1e3,
            milliseconds_per_token: per_token.map(|time| time.as_secs_f64() * 1e3),
        }),
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
