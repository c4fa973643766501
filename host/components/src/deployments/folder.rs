//! A folder whose components are deployed and activated as they are put there or replaced.
//!
//! Looking is cheap and done again and again: a file is taken up when it looks the same twice in a row, so that one that
//! is still being written is left alone, and once for each state that it is found in. What a file cannot be used for is
//! logged with its name and the reason, and leaves the slot as it is. A signature that lies beside the file belongs to
//! it: a file that was refused is looked at again when its signature comes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use espalier_state::Digest;

use super::{Activation, Deployments, Slot, Upload};
use crate::{ComponentError, Signature, read_component};

/// A folder that is being watched.
pub struct ComponentFolder {
    deployments: Deployments,
    path: PathBuf,
    files: BTreeMap<PathBuf, Watched>,
    has_looked: bool,
    /// The reason for which the folder could not be listed the last time.
    unreadable: Option<String>,
}

/// What is known of a file.
struct Watched {
    state: FileState,
    is_new: bool,
    is_taken: bool,
}

/// What a look at a file and at its signature sees without reading them: bytes and the time of the last change.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileState {
    component: (u64, Option<SystemTime>),
    signature: Option<(u64, Option<SystemTime>)>,
}

/// What became of one file.
#[derive(Debug)]
pub struct Taken {
    /// The file.
    pub file: PathBuf,
    /// The activation, or nothing where the slot has the component already or an operator left it aside.
    pub outcome: Result<Option<Activation>, ComponentError>,
}

impl ComponentFolder {
    /// A folder that is there; nothing is read yet.
    pub fn new(deployments: Deployments, path: PathBuf) -> Result<Self, ComponentError> {
        fs::read_dir(&path).map_err(|source| ComponentError::File {
            action: "list",
            path: path.clone(),
            source,
        })?;
        Ok(Self { deployments, path, files: BTreeMap::new(), has_looked: false, unreadable: None })
    }

    /// Looks once, takes up every file that has settled, and says what became of each.
    pub fn look(&mut self) -> Vec<Taken> {
        let Some(found) = self.list() else { return Vec::new() };
        self.files.retain(|path, _| found.contains_key(path));
        let mut taken = Vec::new();
        for (path, state) in found {
            let settled = self.notice(&path, state);
            if let Some(is_new) = settled {
                let outcome = self.take_up(&path, is_new);
                log(&path, &outcome);
                taken.push(Taken { file: path, outcome });
            }
        }
        self.has_looked = true;
        taken
    }

    /// Remembers the state of a file. When it is to be taken up, says whether it came after the first look.
    fn notice(&mut self, path: &Path, state: FileState) -> Option<bool> {
        let is_new = self.has_looked;
        let fresh = Watched { state, is_new, is_taken: false };
        match self.files.get_mut(path) {
            Some(known) if known.state == state => {
                let settled = !std::mem::replace(&mut known.is_taken, true);
                settled.then_some(known.is_new)
            }
            Some(known) => {
                *known = fresh;
                None
            }
            None => {
                self.files.insert(path.to_owned(), fresh);
                None
            }
        }
    }

    /// Deploys a file and activates it in its world's and name's slot, with the configuration and the grants that the slot
    /// has if the component there has the same name. What was there before the first look and is deployed already stays as an
    /// operator left it.
    fn take_up(&self, path: &Path, is_new: bool) -> Result<Option<Activation>, ComponentError> {
        let bytes = read_component(path)?;
        let digest = Digest::of(&bytes).to_string();
        let label = path.file_name().unwrap_or_default().to_string_lossy();
        let signature = Signature::beside(path)?;
        let upload = Upload { label: &label, bytes: &bytes, signature: signature.as_ref() };
        self.deployments.admit(&upload)?;
        let deployed = self.deployments.inspect(&digest);
        if deployed.as_ref().is_ok_and(|record| signature.is_some() && record.signature != signature) {
            self.deployments.deploy_upload(&upload, None)?;
        }
        if !is_new && deployed.is_ok() {
            return Ok(None);
        }
        let component = self.deployments.load(&label, &bytes, None)?;
        let slot = Slot::default_for(component.world(), &component.identity().name);
        let current = self.deployments.current(&slot).ok();
        if current.as_ref().is_some_and(|current| current.digest == component.digest()) {
            return Ok(None);
        }
        let of_same_name = |current: &Activation| {
            let name = current.component.split_once('@').map(|(name, _)| name);
            name == Some(component.identity().name.as_str())
        };
        let current = current.as_ref().filter(|current| of_same_name(current));
        let provision = current.map(Activation::provision).unwrap_or_default();
        self.deployments.try_out(&upload, Some(&slot), &provision)?;
        self.deployments.deploy_upload(&upload, None)?;
        self.deployments.configure(&slot, &digest, provision, None).map(Some)
    }

    /// The component files with their states.
    fn list(&mut self) -> Option<BTreeMap<PathBuf, FileState>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) => {
                let reason = error.to_string();
                if self.unreadable.as_ref() != Some(&reason) {
                    let folder = self.path.display();
                    tracing::error!(%folder, "the folder of components cannot be listed: {reason}");
                    self.unreadable = Some(reason);
                }
                return None;
            }
        };
        self.unreadable = None;
        let states = entries.flatten().map(|entry| entry.path()).filter_map(|path| {
            let is_component = path.extension().is_some_and(|extension| extension == "wasm");
            let seen = |path: &Path| {
                let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
                Some((metadata.len(), metadata.modified().ok()))
            };
            let component = is_component.then(|| seen(&path)).flatten()?;
            let signature = seen(&Signature::path_of(&path));
            Some((path, FileState { component, signature }))
        });
        Some(states.collect())
    }
}

fn log(path: &Path, outcome: &Result<Option<Activation>, ComponentError>) {
    let file = path.display();
    match outcome {
        Ok(Some(activation)) => {
            tracing::info!(%file, component = %activation.component, slot = %activation.slot, "taken from the watched folder");
        }
        Ok(None) => tracing::debug!(%file, "nothing to do for this file of the watched folder"),
        Err(error) => {
            tracing::error!(%file, reason = error.kind(), "a file of the watched folder is not used: {error}");
        }
    }
}
