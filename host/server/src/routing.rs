//! Which variant answers a request.
//!
//! A pinned variant answers itself. Otherwise, where a model has several variants and a router component is active, it
//! picks one from the state of all of them. It has a deadline, and if it fails the request is not lost: the default
//! variant (the first that was loaded) answers, a counter counts it and the log says why.

use std::sync::Arc;

use espalier_components::{RequestRouter, RouteRequest, VariantStatus};
use espalier_engine::Generation;

use crate::api_error::ApiError;
use crate::application::Application;
use crate::model_address::ModelAddress;

/// What a router is told about a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestOutline {
    /// Tokens of the prompts.
    pub prompt_tokens: usize,
    /// Most tokens of the answer.
    pub max_tokens: usize,
    /// Whether it is streamed.
    pub streaming: bool,
}

impl Application {
    /// The pinned variant, or the one that answers when nobody chooses.
    pub fn default_generation(&self, address: &ModelAddress) -> Result<Arc<Generation>, ApiError> {
        match &address.variant {
            Some(variant) => Ok(self.registry().variant(&address.model, variant)?),
            None => {
                let variants = self.registry().variants(&address.model)?;
                variants.into_iter().next().ok_or_else(|| {
                    // The registry drops a model with its last variant.
                    ApiError::internal("the model has no variant", &address)
                })
            }
        }
    }

    /// The generation that answers a request. Blocks while the router component runs.
    pub fn choose(
        &self,
        address: &ModelAddress,
        default: Arc<Generation>,
        outline: RequestOutline,
    ) -> Result<Arc<Generation>, ApiError> {
        let model = address.model.as_str();
        let (chosen, by) = if address.variant.is_some() {
            (default, "pin")
        } else {
            let variants = self.registry().variants(model)?;
            match self.deployments().router() {
                Some(router) if variants.len() > 1 => match self.ask(&router, model, &variants, outline) {
                    Some(chosen) => (chosen, "router"),
                    None => (default, "default"),
                },
                _ => (default, "default"),
            }
        };
        self.metrics().routed(model, &chosen.id().variant, by);
        Ok(chosen)
    }

    fn ask(
        &self,
        router: &RequestRouter,
        model: &str,
        variants: &[Arc<Generation>],
        outline: RequestOutline,
    ) -> Option<Arc<Generation>> {
        let request = RouteRequest {
            model: model.to_owned(),
            prompt_tokens: narrow(outline.prompt_tokens),
            max_tokens: narrow(outline.max_tokens),
            streaming: outline.streaming,
        };
        let states: Vec<_> = variants.iter().map(|variant| self.status_of(variant)).collect();
        match router.route(&request, &states) {
            // The component host checks the index against the list.
            Ok(index) => variants.get(index).cloned(),
            Err(error) => {
                tracing::warn!(%error, model, "the router failed, the default variant answers");
                self.metrics().router_failed(model, router.identity());
                None
            }
        }
    }

    fn status_of(&self, generation: &Generation) -> VariantStatus {
        let status = generation.engine().status();
        #[expect(clippy::cast_precision_loss, reason = "block counts far below 2^24")]
        let kv_usage = status.kv_used_blocks as f32 / status.kv_blocks.max(1) as f32;
        VariantStatus {
            name: generation.id().variant.clone(),
            running: narrow(status.running),
            waiting: narrow(status.waiting),
            kv_usage,
            milliseconds_per_token: self.metrics().milliseconds_per_token(generation.id().number),
        }
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
