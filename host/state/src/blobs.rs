//! Content-addressed files: `blobs/ab/abcdef…` holds the bytes whose SHA-256 is `abcdef…`.
//!
//! A blob is written to a temporary file, flushed to the device and renamed, so that a name always has its whole
//! content. Bytes are checked against their digest whenever they are read.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::{Digest, StateError};

/// Temporary files older than this belong to a host that was killed.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// The blobs of a state directory.
#[derive(Debug)]
pub struct Blobs {
    directory: PathBuf,
    temporary: PathBuf,
    next_temporary: AtomicU64,
}

impl Blobs {
    pub(crate) fn open(directory: PathBuf) -> Result<Self, StateError> {
        let temporary = directory.join("incoming");
        fs::create_dir_all(&temporary).map_err(|source| file_error("create", &temporary, source))?;
        remove_abandoned(&temporary)?;
        Ok(Self { directory, temporary, next_temporary: AtomicU64::new(0) })
    }

    /// Stores the bytes and returns their digest. Storing what is already there changes nothing, unless the stored
    /// bytes are damaged: then they are replaced.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StateError> {
        let digest = Digest::of(bytes);
        if self.get(digest).is_ok() {
            return Ok(digest);
        }
        let path = self.path(digest);
        let folder = path.parent().unwrap_or(&self.directory);
        fs::create_dir_all(folder).map_err(|source| file_error("create", folder, source))?;
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.temporary.join(format!("{digest}.{}.{number}", std::process::id()));
        let written = write_durably(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| File::open(folder)?.sync_all());
        if let Err(source) = written {
            // The first error is the one to report; a leftover is removed at a later start.
            let _ = fs::remove_file(&temporary);
            return Err(file_error("write", &path, source));
        }
        Ok(digest)
    }

    /// The bytes of a blob, checked against the digest.
    pub fn get(&self, digest: Digest) -> Result<Vec<u8>, StateError> {
        let path = self.path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StateError::BlobMissing(digest));
            }
            Err(source) => return Err(file_error("read", &path, source)),
        };
        match Digest::of(&bytes) {
            found if found == digest => Ok(bytes),
            found => Err(StateError::BlobDamaged { expected: digest, found }),
        }
    }

    /// Whether there is a blob of this digest. Does not check its bytes.
    pub fn contains(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Removes a blob; removing what is not there is no error.
    pub fn remove(&self, digest: Digest) -> Result<(), StateError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(file_error("remove", &path, source)),
        }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        let (prefix, _) = name.split_at(2);
        self.directory.join(prefix).join(&name)
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn remove_abandoned(folder: &Path) -> Result<(), StateError> {
    let entries = fs::read_dir(folder).map_err(|source| file_error("read", folder, source))?;
    for entry in entries.flatten() {
        let age = entry
            .metadata()
            .and_then(|data| data.modified())
            .map(|time| SystemTime::now().duration_since(time));
        if matches!(age, Ok(Ok(age)) if age > ABANDONED_AFTER) {
            // Another host that starts at this moment may be faster.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

pub(crate) fn file_error(action: &'static str, path: &Path, source: io::Error) -> StateError {
    StateError::File { action, path: path.to_owned(), source }
}
