//! A small safetensors reader for golden files: trusted input, read whole, converted to what the tests compare.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The tensors of one golden file.
pub struct Tensors {
    header: HashMap<String, Entry>,
    bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl Tensors {
    /// Reads the file.
    ///
    /// # Errors
    /// A file that is absent or no safetensors file, by name.
    pub fn read(path: &Path) -> Result<Self> {
        let file = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (length, rest) =
            file.split_first_chunk::<8>().context("a safetensors file has at least 8 bytes")?;
        let length = usize::try_from(u64::from_le_bytes(*length))?;
        ensure!(
            length <= rest.len(),
            "{}: the header has {length} bytes, the file only {}",
            path.display(),
            rest.len()
        );
        let (header, bytes) = rest.split_at(length);
        let mut header: HashMap<String, serde_json::Value> = serde_json::from_slice(header)?;
        header.remove("__metadata__");
        let header = header
            .into_iter()
            .map(|(name, entry)| Ok((name, serde_json::from_value(entry)?)))
            .collect::<Result<_>>()?;
        Ok(Self { header, bytes: bytes.to_vec() })
    }

    /// Shape of the tensor.
    ///
    /// # Errors
    /// No tensor of that name.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.entry(name)?.shape)
    }

    /// An F32 tensor's values, row by row.
    ///
    /// # Errors
    /// No tensor of that name, or one of another type.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>> {
        let (dtype, bytes) = self.raw(name)?;
        ensure!(dtype == "F32", "{name} is {dtype}, expected F32");
        Ok(bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }

    /// The values of a tensor of ids or positions, I32 or U16.
    ///
    /// # Errors
    /// No tensor of that name, one of another type, or a negative value.
    pub fn ids(&self, name: &str) -> Result<Vec<u32>> {
        match self.raw(name)? {
            ("U16", bytes) => {
                Ok(bytes.as_chunks::<2>().0.iter().map(|value| u16::from_le_bytes(*value).into()).collect())
            }
            ("I32", bytes) => {
                let values = bytes.as_chunks::<4>().0.iter();
                values.map(|value| Ok(u32::try_from(i32::from_le_bytes(*value))?)).collect()
            }
            (other, _) => bail!("{name} is {other}, expected I32 or U16"),
        }
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.header.get(name).with_context(|| format!("the golden file has no tensor {name:?}"))
    }

    fn raw(&self, name: &str) -> Result<(&str, &[u8])> {
        let entry = self.entry(name)?;
        let (start, end) = entry.data_offsets;
        let bytes =
            self.bytes.get(start..end).with_context(|| format!("{name} lies outside the golden file"))?;
        Ok((&entry.dtype, bytes))
    }
}
