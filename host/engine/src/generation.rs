//! A generation: one loading of a variant, immutable and numbered.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use espalier_kernels::Device;
use espalier_model::{ChatFormat, Checkpoint, Model, Tokenizer};

use crate::config::EngineConfig;
use crate::constraint::{Constraint, ConstraintCompiler, Grammar};
use crate::engine::{Engine, EngineModels};
use crate::error::EngineError;
use crate::observer::EngineObserver;

/// Which generation: `model@variant#number`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GenerationId {
    /// The served name.
    pub model: String,
    /// The set of weights.
    pub variant: String,
    /// Counts up over all loadings of the host.
    pub number: u64,
}

impl fmt::Display for GenerationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}#{}", self.model, self.variant, self.number)
    }
}

/// Where the weights of a variant are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariantSource {
    /// Its checkpoint.
    pub path: PathBuf,
    /// The checkpoint of a smaller model with the same vocabulary, which guesses what it will answer.
    pub draft: Option<PathBuf>,
}

impl VariantSource {
    /// A checkpoint without a draft.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), draft: None }
    }
}

/// A loaded variant and the engine that runs it.
pub struct Generation {
    id: GenerationId,
    source: VariantSource,
    loaded_at: SystemTime,
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    chat_format: Option<ChatFormat>,
    engine: Engine,
    parameters: u64,
    active_parameters: u64,
    /// Made for the first grammar.
    grammars: OnceLock<ConstraintCompiler>,
}

impl Generation {
    /// Loads a checkpoint and starts its engine; takes as long as reading the file's metadata and tokenizer does.
    ///
    /// # Errors
    /// Anything wrong with the checkpoint, or limits that don't fit.
    pub(crate) fn load(
        id: GenerationId,
        source: &VariantSource,
        draft: Option<Arc<Model>>,
        device: Device,
        config: &EngineConfig,
        observer: Arc<dyn EngineObserver>,
    ) -> Result<Self, EngineError> {
        let checkpoint = Checkpoint::open(&source.path)?;
        let tokenizer = Arc::new(checkpoint.tokenizer()?);
        let chat_format = checkpoint.chat_format(&tokenizer)?;
        let model = Arc::new(Model::load(&checkpoint, device)?);
        let models = EngineModels { model: Arc::clone(&model), tokenizer: Arc::clone(&tokenizer), draft };
        let engine = Engine::start(&id.to_string(), models, config, observer)?;
        // Counted once: routers are told for each request.
        let (parameters, active_parameters) = (model.spec().parameters(), model.spec().active_parameters());
        Ok(Self {
            id,
            source: source.clone(),
            loaded_at: SystemTime::now(),
            model,
            tokenizer,
            chat_format,
            engine,
            parameters,
            active_parameters,
            grammars: OnceLock::new(),
        })
    }

    /// Which one.
    pub fn id(&self) -> &GenerationId {
        &self.id
    }

    /// Where it was loaded from.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// Where it and its draft were loaded from.
    pub fn source(&self) -> &VariantSource {
        &self.source
    }

    /// When.
    pub fn loaded_at(&self) -> SystemTime {
        self.loaded_at
    }

    /// The weights.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// All its parameters.
    pub const fn parameters(&self) -> u64 {
        self.parameters
    }

    /// The parameters that one token is multiplied with.
    pub const fn active_parameters(&self) -> u64 {
        self.active_parameters
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// How it wants conversations written, if the checkpoint says so.
    pub fn chat_format(&self) -> Option<&ChatFormat> {
        self.chat_format.as_ref()
    }

    /// Compiles a grammar for its vocabulary. The first one takes longer: the vocabulary is made a prefix tree for it.
    ///
    /// # Errors
    /// A grammar that isn't one or that goes beyond the limits; a vocabulary that texts can't be constrained with.
    pub fn constraint(&self, grammar: &Grammar) -> Result<Constraint, EngineError> {
        let compiler = match self.grammars.get() {
            Some(compiler) => compiler,
            None => {
                let spec = self.model.spec();
                let compiler = ConstraintCompiler::new(&self.tokenizer, spec.vocab_size, &spec.eos)?;
                self.grammars.get_or_init(|| compiler)
            }
        };
        compiler.compile(grammar)
    }

    /// The engine that runs it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}
