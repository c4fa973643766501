//! Writing a safetensors file tensor by tensor: the header goes first, so all sizes are known beforehand.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, json};

use super::header::Dtype;
use crate::error::ModelError;

/// What a tensor will be.
pub struct Planned {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub dtype: Dtype,
    /// Its sides, slowest first.
    pub shape: Vec<usize>,
}

impl Planned {
    pub(crate) fn bytes(&self) -> u64 {
        self.shape
            .iter()
            .fold(self.dtype.bytes() as u64, |product, &side| product.saturating_mul(side as u64))
    }
}

/// One file being written. Tensors must come in the order of the plan.
pub struct ShardWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl ShardWriter {
    /// Creates `path` and writes the header for `tensors`, with a key and a text of metadata where some are given.
    ///
    /// # Errors
    /// The disk.
    pub fn create<'a>(
        path: &Path,
        metadata: Option<(&str, &str)>,
        tensors: impl IntoIterator<Item = &'a Planned>,
    ) -> Result<Self, ModelError> {
        let mut header = Map::new();
        // transformers refuses a file that doesn't say which framework's layout it has.
        let mut facts = Map::from_iter([("format".to_owned(), json!("pt"))]);
        facts.extend(metadata.map(|(key, text)| (key.to_owned(), json!(text))));
        header.insert("__metadata__".into(), facts.into());
        let mut offset = 0_u64;
        for tensor in tensors {
            let end = offset + tensor.bytes();
            let entry =
                json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end] });
            header.insert(tensor.name.clone(), entry);
            offset = end;
        }
        let mut text = serde_json::Value::Object(header).to_string();
        // Data begin at a multiple of 8, for readers that map the file and cast.
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        let failed = |source| ModelError::io("write", path, source);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
        file.write_all(&(text.len() as u64).to_le_bytes()).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends bytes of the tensors.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ModelError> {
        self.file.write_all(bytes).map_err(|source| ModelError::io("write", &self.path, source))
    }

    /// Hands everything to the disk.
    ///
    /// # Errors
    /// The disk.
    pub fn finish(self) -> Result<(), ModelError> {
        let failed = |source| ModelError::io("write", &self.path, source);
        let file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)
    }
}
