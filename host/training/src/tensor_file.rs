//! Named f32 tensors in one safetensors file that is either whole or not there.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use espalier_kernels::Bytes;
use espalier_model::safetensors::{Dtype, Planned, ShardWriter, parse};

use crate::error::TrainingError;

/// A tensor to be written.
pub(crate) struct NamedTensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Writes the tensors in their order, with a key and a text of metadata.
///
/// # Errors
/// The disk.
pub(crate) fn write(
    path: &Path,
    metadata: (&str, &str),
    tensors: &[NamedTensor],
) -> Result<(), TrainingError> {
    let partial = partial_path(path);
    let planned: Vec<Planned> = tensors
        .iter()
        .map(|tensor| Planned { name: tensor.name.clone(), dtype: Dtype::F32, shape: tensor.shape.clone() })
        .collect();
    let mut file = ShardWriter::create(&partial, Some(metadata), &planned)?;
    for tensor in tensors {
        for value in &tensor.values {
            file.write(&value.to_le_bytes())?;
        }
    }
    file.finish()?;
    publish(&partial, path)
}

/// Writes a text file that is either whole or not there.
///
/// # Errors
/// The disk.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), TrainingError> {
    let partial = partial_path(path);
    let failed = |source| TrainingError::File { action: "write", path: partial.clone(), source };
    let mut file = File::create(&partial).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(TrainingError::file("flush", &partial))?;
    publish(&partial, path)
}

/// Removes a file, and what an interrupted writer left of it.
///
/// # Errors
/// The disk.
pub(crate) fn remove(path: &Path) -> Result<(), TrainingError> {
    for path in [path.to_owned(), partial_path(path)] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(TrainingError::File { action: "remove", path, source: error });
            }
            _ => {}
        }
    }
    Ok(())
}

fn partial_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}

/// Puts a file that the disk has in its place, where it stays whatever happens next.
fn publish(partial: &Path, path: &Path) -> Result<(), TrainingError> {
    fs::rename(partial, path).map_err(TrainingError::file("put in place", path))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let opened = File::open(directory).and_then(|directory| directory.sync_all());
    opened.map_err(TrainingError::file("flush", directory))
}

/// The tensors of a file, and its metadata of this key.
///
/// # Errors
/// A file that is damaged or holds anything but f32.
pub(crate) fn read(path: &Path, metadata: &str) -> Result<(String, Vec<NamedTensor>), TrainingError> {
    let bytes = Bytes::map_file(path).map_err(TrainingError::file("open", path))?;
    let bytes = bytes.as_slice();
    let mut header = parse(bytes).map_err(|error| error.in_file(path))?;
    let damaged =
        |what: String| TrainingError::argument(path.display().to_string(), what, "f32 tensors of a run");
    let text = header.metadata.remove(metadata).ok_or_else(|| damaged(format!("no {metadata}")))?;
    let mut tensors = Vec::with_capacity(header.tensors.len());
    for entry in header.tensors {
        let data = bytes.get(entry.range.clone()).filter(|_| entry.dtype == Dtype::F32);
        let data = data.ok_or_else(|| damaged(format!("tensor {} of {:?}", entry.name, entry.dtype)))?;
        let values = data.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
        tensors.push(NamedTensor { name: entry.name, shape: entry.shape, values });
    }
    Ok((text, tensors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.safetensors");
        let tensor = |name: &str, values: Vec<f32>| NamedTensor {
            name: name.into(),
            shape: vec![values.len()],
            values,
        };
        write(&path, ("run", "{\"step\":1}"), &[tensor("x", vec![1.0])]).unwrap();
        write(&path, ("run", "{\"step\":2}"), &[tensor("b", vec![1.5, -2.0]), tensor("a", vec![0.25])])
            .unwrap();
        let (metadata, tensors) = read(&path, "run").unwrap();
        assert_eq!(metadata, "{\"step\":2}");
        let found: Vec<_> = tensors.into_iter().map(|tensor| (tensor.name, tensor.values)).collect();
        assert_eq!(found, [("b".to_owned(), vec![1.5, -2.0]), ("a".to_owned(), vec![0.25])]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        fs::write(&path, &fs::read(&path).unwrap()[..100]).unwrap();
        assert!(read(&path, "run").is_err());
    }
}
