//! Which variant answers a request.
//!
//! A pinned variant answers itself. Otherwise, where a model has several variants and a router component is active, it
//! puts them in order from the state of all of them, and may name one that gets a copy. It has a deadline, and if it fails
//! the request is not lost: the default variant (the first that was loaded) answers, a counter counts it and the log says
//! why.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use espalier_components::{RequestRouter, RouteRequest, VariantStatus};
use espalier_engine::Generation;

use crate::api_error::ApiError;
use crate::application::Application;
use crate::model_address::ModelAddress;
use crate::openai::preference::Preference;

/// What a router is told about a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestOutline {
    /// Tokens of the prompts.
    pub prompt_tokens: usize,
    /// Most tokens of the answer.
    pub max_tokens: usize,
    /// Whether it is streamed.
    pub streaming: bool,
    /// What the client says for the router.
    pub preference: Preference,
}

/// Who is to answer a request.
pub struct Route {
    /// The variants in the order in which they are tried.
    pub order: Vec<Arc<Generation>>,
    /// Who decided: `router`, `pin` or `default`.
    pub by: &'static str,
    /// Who gets a copy of this very request.
    pub shadow: Option<Arc<Generation>>,
}

/// Random numbers, none of which needs to be hard to guess.
#[derive(Debug, Default)]
pub struct Draws {
    seed: RandomState,
    drawn: AtomicU64,
}

impl Draws {
    /// The next one.
    pub fn next(&self) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write_u64(self.drawn.fetch_add(1, Ordering::Relaxed));
        hasher.finish()
    }

    /// Whether this time is one of a share of the times.
    fn hits(&self, share: f32) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a fraction")]
        let fraction = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        fraction < f64::from(share)
    }
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

    /// Who answers a request. Blocks while the router component runs.
    pub fn route(
        &self,
        address: &ModelAddress,
        default: &Arc<Generation>,
        outline: RequestOutline,
    ) -> Result<Route, ApiError> {
        let alone = |by| Route { order: vec![Arc::clone(default)], by, shadow: None };
        if address.variant.is_some() {
            return Ok(alone("pin"));
        }
        let variants = self.registry().variants(&address.model)?;
        let router = if variants.len() > 1 { self.deployments().router() } else { None };
        let routed = router.and_then(|router| self.ask(&router, &address.model, &variants, outline));
        Ok(routed.unwrap_or_else(|| alone("default")))
    }

    fn ask(
        &self,
        router: &RequestRouter,
        model: &str,
        variants: &[Arc<Generation>],
        outline: RequestOutline,
    ) -> Option<Route> {
        let request = RouteRequest {
            model: model.to_owned(),
            prompt_tokens: narrow(outline.prompt_tokens),
            max_tokens: narrow(outline.max_tokens),
            streaming: outline.streaming,
            session: outline.preference.session,
            quality: outline.preference.quality,
            draw: self.draws().next(),
        };
        let states: Vec<_> = variants.iter().map(|variant| self.status_of(variant)).collect();
        match router.route(&request, &states) {
            // The component host checks the indices against the list.
            Ok(choice) => Some(Route {
                order: choice.order.iter().filter_map(|index| variants.get(*index).cloned()).collect(),
                by: "router",
                shadow: choice
                    .shadow
                    .filter(|shadow| self.draws().hits(shadow.share))
                    .and_then(|shadow| variants.get(shadow.variant).cloned()),
            }),
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
            accepts: generation.engine().accepts(),
            running: narrow(status.running),
            waiting: narrow(status.waiting),
            kv_usage,
            milliseconds_per_token: self.metrics().milliseconds_per_token(generation.id().number),
            parameters: generation.parameters(),
            active_parameters: generation.active_parameters(),
            weight_bytes: generation.model().weight_bytes(),
        }
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_hit_as_often_as_it_says() {
        let draws = Draws::default();
        for share in [0.0, 0.1, 0.5, 1.0] {
            let hits = (0..20_000).filter(|_| draws.hits(share)).count() as f64 / 20_000.0;
            // Five standard deviations of the worst share.
            assert!((hits - f64::from(share)).abs() < 0.018, "{share}: {hits}");
        }
        assert!((0..20_000).all(|_| draws.hits(1.0) && !draws.hits(0.0)));
    }
}
