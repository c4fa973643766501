//! Which models, variants and generations are loaded.
//!
//! A change is one step under a lock that is never held while a checkpoint loads: a request sees the old set or the new
//! one. A load that fails leaves everything as it was; a generation that is replaced or unloaded drains, so requests in
//! flight finish on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use espalier_kernels::Device;
use espalier_model::{Checkpoint, Model};

use crate::config::EngineConfig;
use crate::error::EngineError;
use crate::generation::{Generation, GenerationId, VariantSource};
use crate::observer::EngineObserver;

const MAX_NAME_LENGTH: usize = 128;

/// Makes the observer of a new generation.
type ObserverFactory = dyn Fn(&GenerationId) -> Arc<dyn EngineObserver> + Send + Sync;

/// The loaded models of a host, all on one device.
pub struct Registry {
    device: Device,
    config: EngineConfig,
    observer: Box<ObserverFactory>,
    next_number: AtomicU64,
    /// Model name to its variants in order of their first loading; the first is the default.
    models: RwLock<BTreeMap<String, Vec<Arc<Generation>>>>,
}

impl Registry {
    /// An empty registry.
    pub fn new(
        device: impl Into<Device>,
        config: EngineConfig,
        observer: impl Fn(&GenerationId) -> Arc<dyn EngineObserver> + Send + Sync + 'static,
    ) -> Self {
        Self {
            device: device.into(),
            config,
            observer: Box::new(observer),
            next_number: AtomicU64::new(1),
            models: RwLock::default(),
        }
    }

    /// Loads `source` as `model@variant`; a variant of that name that is already there is replaced and drains.
    ///
    /// # Errors
    /// An invalid name, or whatever is wrong with the checkpoint; nothing changes then.
    pub fn load(
        &self,
        model: &str,
        variant: &str,
        source: &VariantSource,
    ) -> Result<Arc<Generation>, EngineError> {
        check_name("model", model)?;
        check_name("variant", variant)?;
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let id = GenerationId { model: model.to_owned(), variant: variant.to_owned(), number };
        let observer = (self.observer)(&id);
        let draft = source.draft.as_deref().map(|path| self.draft(path)).transpose()?;
        let generation = Generation::load(id, source, draft, self.device.clone(), &self.config, observer)?;
        let generation = Arc::new(generation);
        let replaced = {
            let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
            let variants = models.entry(model.to_owned()).or_default();
            match variants.iter_mut().find(|loaded| loaded.id().variant == variant) {
                Some(loaded) => Some(std::mem::replace(loaded, Arc::clone(&generation))),
                None => {
                    variants.push(Arc::clone(&generation));
                    None
                }
            }
        };
        if let Some(replaced) = replaced {
            replaced.engine().drain();
        }
        tracing::info!(generation = %generation.id(), path = %source.path.display(), "loaded");
        Ok(generation)
    }

    /// The weights at `path`; those of a variant that is loaded from there serve as a draft too.
    fn draft(&self, path: &Path) -> Result<Arc<Model>, EngineError> {
        match self.generations().iter().find(|generation| generation.path() == path) {
            Some(generation) => Ok(Arc::clone(generation.model())),
            None => Ok(Arc::new(Model::load(&Checkpoint::open(path)?, self.device.clone())?)),
        }
    }

    /// Takes a variant out of service; its requests in flight finish. Returns the generation that left.
    ///
    /// # Errors
    /// A model or variant that isn't loaded.
    pub fn unload(&self, model: &str, variant: &str) -> Result<Arc<Generation>, EngineError> {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let Some(variants) = models.get_mut(model) else {
            return Err(unknown_model(model, models.keys()));
        };
        let Some(at) = variants.iter().position(|loaded| loaded.id().variant == variant) else {
            return Err(unknown_variant(model, variant, variants));
        };
        let generation = variants.remove(at);
        if variants.is_empty() {
            models.remove(model);
        }
        drop(models);
        generation.engine().drain();
        tracing::info!(generation = %generation.id(), "unloaded");
        Ok(generation)
    }

    /// The variants of a model, the default first.
    ///
    /// # Errors
    /// A model that isn't loaded.
    pub fn variants(&self, model: &str) -> Result<Vec<Arc<Generation>>, EngineError> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.get(model).cloned().ok_or_else(|| unknown_model(model, models.keys()))
    }

    /// One variant of a model.
    ///
    /// # Errors
    /// A model or variant that isn't loaded.
    pub fn variant(&self, model: &str, variant: &str) -> Result<Arc<Generation>, EngineError> {
        let variants = self.variants(model)?;
        match variants.iter().find(|loaded| loaded.id().variant == variant) {
            Some(generation) => Ok(Arc::clone(generation)),
            None => Err(unknown_variant(model, variant, &variants)),
        }
    }

    /// Everything that is loaded, by model and in order of loading.
    pub fn generations(&self) -> Vec<Arc<Generation>> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.values().flatten().cloned().collect()
    }

    /// Refuses new requests everywhere; those that were accepted finish.
    pub fn drain(&self) {
        for generation in self.generations() {
            generation.engine().drain();
        }
    }

    /// The device that everything runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), EngineError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    if name.is_empty() || name.len() > MAX_NAME_LENGTH || !name.chars().all(allowed) {
        return Err(EngineError::InvalidName { what, found: name.chars().take(MAX_NAME_LENGTH).collect() });
    }
    Ok(())
}

fn unknown_model<'a>(found: &str, known: impl Iterator<Item = &'a String>) -> EngineError {
    let known = known.map(String::as_str).collect::<Vec<_>>().join(", ");
    EngineError::UnknownModel {
        found: found.to_owned(),
        known: if known.is_empty() { "(none is loaded)".to_owned() } else { known },
    }
}

fn unknown_variant(model: &str, found: &str, variants: &[Arc<Generation>]) -> EngineError {
    let known = variants.iter().map(|loaded| loaded.id().variant.as_str()).collect::<Vec<_>>().join(", ");
    EngineError::UnknownVariant { model: model.to_owned(), found: found.to_owned(), known }
}
