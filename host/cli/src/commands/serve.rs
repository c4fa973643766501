//! `espalier serve`: the host. Flags, a configuration file with the same keys, signals.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use espalier_components::{HostConfig, TrustedKeys};
use espalier_engine::{EngineConfig, VariantSource};
use espalier_server::admin::models::DEFAULT_VARIANT;
use espalier_server::model_address::ModelAddress;
use espalier_server::{Addresses, Application, Server};
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::built_in_model;
use crate::device::{CacheFormatArg, PrecisionArg};
use crate::device_choice::DeviceChoice;
use crate::process_environment;

const LISTEN: &str = "127.0.0.1:8000";
const ADMIN_LISTEN: &str = "127.0.0.1:8001";
const TOKEN_VARIABLE: &str = "ESPALIER_ADMIN_TOKEN";

/// Flags of `serve`. A flag wins over the configuration file.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    /// Serve PATH as NAME or NAME@VARIANT; may be given more than once. The first variant of a model is its default. Without
    /// one the tiny gpt-oss inside the program is served, as tiny-gpt-oss.
    /// Variants that were loaded into an earlier host of the same state directory are loaded after these.
    #[arg(long, value_name = "NAME[@VARIANT]=PATH")]
    model: Vec<String>,
    /// Let the model at PATH guess ahead what NAME or NAME@VARIANT will answer: a smaller one with the same vocabulary, for
    /// example a pruned variant. The answers stay the same and come sooner. May be given more than once.
    #[arg(long, value_name = "NAME[@VARIANT]=PATH")]
    draft: Vec<String>,
    /// TOML file with the same keys as these flags.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// What both the flags and the file can say.
#[derive(ClapArgs, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// The served models (in the file only; on the command line it is `--model`).
    #[arg(skip)]
    model: Vec<String>,
    /// Their drafts (in the file only; on the command line it is `--draft`).
    #[arg(skip)]
    draft: Vec<String>,
    /// Address of the OpenAI API, the UI, health and metrics [default: 127.0.0.1:8000].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Address of the admin API [default: 127.0.0.1:8001].
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<SocketAddr>,
    /// What admin requests must carry as a bearer token; needed unless the admin address is loopback. Also read from
    /// ESPALIER_ADMIN_TOKEN, which other users of the machine cannot see.
    #[arg(long, value_name = "TOKEN")]
    admin_token: Option<String>,
    /// Where components, deployments and jobs are kept [default: $XDG_STATE_HOME/espalier].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Deploy and activate every component (.wasm) that is put into this folder or replaced there.
    #[arg(long, value_name = "DIR")]
    watch_components: Option<PathBuf>,
    /// Take only components that one of the public keys in this file has signed: lines of NAME and KEY, as
    /// `component keygen` writes them.
    #[arg(long, value_name = "FILE")]
    component_keys: Option<PathBuf>,
    /// Where models run: auto, cpu, cuda or cuda:N [default: auto].
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoice>,
    /// Threads of the kernels; 0 takes every core [default: 0].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Arithmetic of the matrix products [default: fast].
    #[arg(long, value_enum, value_name = "PRECISION")]
    precision: Option<PrecisionArg>,
    /// Longest prompt plus completion [default: the model's own, as far as the key-value cache allows].
    #[arg(long, value_name = "N")]
    max_model_len: Option<usize>,
    /// Bytes of key-value cache per loaded variant.
    #[arg(long, value_name = "BYTES")]
    kv_cache_bytes: Option<u64>,
    /// Number format of the key-value cache [default: f16].
    #[arg(long, value_enum, value_name = "FORMAT")]
    kv_cache_format: Option<CacheFormatArg>,
    /// Whether what is computed of a text is kept for later ones that begin like it [default: on].
    #[arg(long, value_enum, value_name = "SWITCH")]
    prefix_cache: Option<Switch>,
    /// Sequences in one batch.
    #[arg(long, value_name = "N")]
    max_sequences: Option<usize>,
    /// Tokens of one step, prefill and decode together.
    #[arg(long, value_name = "N")]
    max_step_tokens: Option<usize>,
    /// Tokens that may be guessed ahead for a sequence in a step, from what its own text repeats or by a draft; 0 guesses
    /// none [default: 0, and 5 with a draft].
    #[arg(long, value_name = "N")]
    speculative_tokens: Option<usize>,
    /// Requests that may wait before new ones are refused.
    #[arg(long, value_name = "N")]
    queue_limit: Option<usize>,
}

impl Settings {
    /// Fills what this does not say from `other`.
    fn or(self, other: Self) -> Self {
        Self {
            model: if self.model.is_empty() { other.model } else { self.model },
            draft: if self.draft.is_empty() { other.draft } else { self.draft },
            listen: self.listen.or(other.listen),
            admin_listen: self.admin_listen.or(other.admin_listen),
            admin_token: self.admin_token.or(other.admin_token),
            state_dir: self.state_dir.or(other.state_dir),
            watch_components: self.watch_components.or(other.watch_components),
            component_keys: self.component_keys.or(other.component_keys),
            device: self.device.or(other.device),
            threads: self.threads.or(other.threads),
            precision: self.precision.or(other.precision),
            max_model_len: self.max_model_len.or(other.max_model_len),
            kv_cache_bytes: self.kv_cache_bytes.or(other.kv_cache_bytes),
            kv_cache_format: self.kv_cache_format.or(other.kv_cache_format),
            prefix_cache: self.prefix_cache.or(other.prefix_cache),
            max_sequences: self.max_sequences.or(other.max_sequences),
            max_step_tokens: self.max_step_tokens.or(other.max_step_tokens),
            speculative_tokens: self.speculative_tokens.or(other.speculative_tokens),
            queue_limit: self.queue_limit.or(other.queue_limit),
        }
    }

    fn engine(&self) -> EngineConfig {
        let default = EngineConfig::default();
        EngineConfig {
            max_sequences: self.max_sequences.unwrap_or(default.max_sequences),
            max_step_tokens: self.max_step_tokens.unwrap_or(default.max_step_tokens),
            kv_bytes: self.kv_cache_bytes.unwrap_or(default.kv_bytes),
            kv_format: self.kv_cache_format.map_or(default.kv_format, Into::into),
            max_model_len: self.max_model_len,
            prefix_cache: self.prefix_cache.map_or(default.prefix_cache, |switch| switch == Switch::On),
            speculative_tokens: self.speculative_tokens.unwrap_or(default.speculative_tokens),
            queue_limit: self.queue_limit.unwrap_or(default.queue_limit),
            precision: self.precision.map_or(default.precision, Into::into),
        }
    }

    fn components(&self) -> Result<HostConfig> {
        let keys = self.component_keys.as_deref().map(TrustedKeys::read).transpose();
        Ok(HostConfig { trusted_keys: keys.context("--component-keys")?, ..HostConfig::default() })
    }

    fn addresses(&self) -> Result<Addresses> {
        let from_environment = std::env::var(TOKEN_VARIABLE).ok();
        Ok(Addresses {
            public: self.listen.map_or_else(|| LISTEN.parse(), Ok)?,
            admin: self.admin_listen.map_or_else(|| ADMIN_LISTEN.parse(), Ok)?,
            admin_token: self.admin_token.clone().or(from_environment),
        })
    }

    fn state_dir(&self) -> Result<PathBuf> {
        if let Some(directory) = &self.state_dir {
            return Ok(directory.clone());
        }
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        variable("XDG_STATE_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
            .map(|base| base.join("espalier"))
            .context("--state-dir is missing, and neither XDG_STATE_HOME nor HOME is set to derive it from")
    }
}

/// What a flag can turn off.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// A model of the command line or the file.
#[derive(Debug, PartialEq)]
pub(crate) struct ModelSource {
    pub(crate) model: String,
    pub(crate) variant: String,
    pub(crate) path: PathBuf,
}

/// A variant to load.
#[derive(Debug, PartialEq)]
struct Load {
    model: String,
    variant: String,
    source: VariantSource,
}

impl ModelSource {
    /// Reads `NAME=PATH` or `NAME@VARIANT=PATH`, the value of `flag`.
    pub(crate) fn parse(flag: &str, text: &str) -> Result<Self> {
        let Some((address, path)) = text.split_once('=') else {
            bail!("{flag} {text}: found no '=', expected NAME=PATH or NAME@VARIANT=PATH");
        };
        let address: ModelAddress = address.parse().with_context(|| format!("{flag} {text}"))?;
        if path.is_empty() {
            bail!("{flag} {text}: found no path after '=', expected an HF directory or a GGUF file");
        }
        Ok(Self {
            model: address.model,
            variant: address.variant.unwrap_or_else(|| DEFAULT_VARIANT.to_owned()),
            path: path.into(),
        })
    }
}

/// Runs the host until a signal ends it.
pub(crate) fn run(args: Args) -> Result<()> {
    process_environment::restart_for_serving();
    let from_file = match &args.config {
        Some(path) => read_config(path)?,
        None => Settings::default(),
    };
    let settings = Settings { model: args.model, draft: args.draft, ..args.settings }.or(from_file);
    let mut loads = loads(&settings.model, &settings.draft)?;
    if loads.is_empty() {
        tracing::info!("no --model is given: serving the built-in {}", built_in_model::NAME);
        let source = VariantSource::new(built_in_model::unpack(&settings.state_dir()?)?);
        let (model, variant) = (built_in_model::NAME.to_owned(), DEFAULT_VARIANT.to_owned());
        loads.push(Load { model, variant, source });
    }
    let addresses = settings.addresses()?;
    let device = settings.device.unwrap_or_default().open(settings.threads.unwrap_or(0))?;
    tracing::info!(%device, "models run here");
    let components = settings.components()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let application =
            Application::open_with(&settings.state_dir()?, device, settings.engine(), components)?;
        if let Some(folder) = settings.watch_components.clone() {
            application.watch_components(folder).context("--watch-components")?;
        }
        serve(application, addresses, loads).await
    });
    // A job or a load that a second signal interrupted is not waited for.
    runtime.shutdown_background();
    outcome
}

async fn serve(application: Arc<Application>, addresses: Addresses, loads: Vec<Load>) -> Result<()> {
    let server = Server::bind(Arc::clone(&application), addresses).await?;
    tracing::info!("OpenAI API and UI at http://{}", server.public_address()?);
    tracing::info!("admin API and UI at http://{}", server.admin_address()?);
    watch_signals(&application)?;
    let latches: Vec<_> = loads.iter().map(|_| application.readiness().latch()).collect();
    let restoring = application.readiness().latch();
    let loading = tokio::task::spawn_blocking({
        let application = Arc::clone(&application);
        move || {
            for (Load { model, variant, source }, latch) in loads.into_iter().zip(latches) {
                if application.is_draining() {
                    return Ok(());
                }
                application.load(&model, &variant, &source)?;
                drop(latch);
            }
            application.restore()?;
            drop(restoring);
            tracing::info!("ready");
            Ok::<_, anyhow::Error>(())
        }
    });
    let running = tokio::spawn(server.run());
    // Health answers while models load; a model that cannot be loaded ends the host.
    if let Err(error) = loading.await? {
        application.begin_drain();
        application.drain().stop();
        running.await?;
        return Err(error);
    }
    running.await?;
    tracing::info!("stopped");
    Ok(())
}

/// The first SIGTERM or SIGINT drains, the second one stops.
fn watch_signals(application: &Arc<Application>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let application = Arc::clone(application);
    tokio::spawn(async move {
        let mut draining = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if draining {
                tracing::warn!("stopping at once; what was in flight is cut off");
                application.drain().stop();
                return;
            }
            draining = true;
            tracing::info!(
                "draining: new requests are refused, those in flight finish; a second signal stops at once"
            );
            application.begin_drain();
        }
    });
    Ok(())
}

/// The variants of the `--model` flags, each with its `--draft`.
fn loads(models: &[String], drafts: &[String]) -> Result<Vec<Load>> {
    let (models, mut drafts) = (sources("--model", models)?, sources("--draft", drafts)?);
    let load = |ModelSource { model, variant, path }: ModelSource| {
        let own = drafts.iter().position(|draft| draft.model == model && draft.variant == variant);
        let draft = own.map(|index| drafts.swap_remove(index).path);
        Load { model, variant, source: VariantSource { path, draft } }
    };
    let loads = models.into_iter().map(load).collect();
    match drafts.first() {
        Some(ModelSource { model, variant, .. }) => {
            bail!("--draft {model}@{variant} is for no variant, expected one that --model names")
        }
        None => Ok(loads),
    }
}

fn sources(flag: &str, texts: &[String]) -> Result<Vec<ModelSource>> {
    let sources = texts.iter().map(|text| ModelSource::parse(flag, text)).collect::<Result<Vec<_>>>()?;
    let mut seen = BTreeSet::new();
    for source in &sources {
        if !seen.insert((&source.model, &source.variant)) {
            bail!("{flag} {}@{} is given twice, expected each variant once", source.model, source.variant);
        }
    }
    Ok(sources)
}

fn read_config(path: &Path) -> Result<Settings> {
    let text =
        fs::read_to_string(path).with_context(|| format!("--config {} cannot be read", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        let place = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map(|before| format!(", line {}", before.matches('\n').count() + 1));
        anyhow::anyhow!("--config {}{}: {}", path.display(), place.unwrap_or_default(), error.message())
    })
}

#[cfg(test)]
mod tests {
    use espalier_kernels::CacheFormat;

    use super::*;

    #[test]
    fn models_are_named_with_or_without_a_variant() {
        let source = ModelSource::parse("--model", "m=/a=b").unwrap();
        assert_eq!((source.variant.as_str(), source.path.as_path()), (DEFAULT_VARIANT, Path::new("/a=b")));
        assert_eq!(ModelSource::parse("--model", "m@v=p").unwrap().variant, "v");
        for wrong in ["m", "m=", "=p", "m@=p", "a b=p"] {
            assert!(ModelSource::parse("--model", wrong).is_err(), "{wrong}");
        }
        assert!(loads(&["m=a".into(), "m@original=b".into()], &[]).is_err());
    }

    #[test]
    fn drafts_are_for_variants_that_are_served() {
        let models = ["m@15b=b".to_owned(), "m=a".to_owned()];
        let with_drafts = loads(&models, &["m=b".to_owned()]).unwrap();
        let drafts: Vec<_> = with_drafts.iter().map(|load| load.source.draft.as_deref()).collect();
        assert_eq!(drafts, [None, Some(Path::new("b"))]);
        let error = loads(&models, &["m@12b=b".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "--draft m@12b is for no variant, expected one that --model names");
        assert!(loads(&models, &["m=b".to_owned(), "m@original=c".to_owned()]).is_err());
    }

    #[test]
    fn a_wrong_key_in_the_file_is_named_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("espalier.toml");
        std::fs::write(&path, "listen = \"127.0.0.1:9000\"\nthread = 2\n").unwrap();
        let error = read_config(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("thread"), "{error}");
        std::fs::write(
            &path,
            "model = [\"m=p\"]\nmax-model-len = 5\nprecision = \"exact\"\nkv-cache-format = \"f16\"\n",
        )
        .unwrap();
        let settings = read_config(&path).unwrap();
        assert_eq!((settings.model.len(), settings.max_model_len), (1, Some(5)));
        assert_eq!(settings.engine().kv_format, CacheFormat::F16);
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let flags = Settings { threads: Some(3), ..Settings::default() };
        let file = Settings { threads: Some(1), queue_limit: Some(7), ..Settings::default() };
        let both = flags.or(file);
        assert_eq!((both.threads, both.queue_limit), (Some(3), Some(7)));
    }
}
