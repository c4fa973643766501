//! The header of a safetensors file, checked against the file.
//!
//! A total function over bytes: what it returns lies inside the file, has the size that its type and shape ask for,
//! overlaps nothing and leaves no gap. Format: <https://github.com/huggingface/safetensors#format>.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::ModelError;

/// The same limit as the reference implementation's.
const MOST_HEADER_BYTES: u64 = 100_000_000;
const MOST_SIDES: usize = 8;

/// A value type of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the variants are the format's own type names")]
#[non_exhaustive]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    #[serde(rename = "F8_E4M3")]
    F8E4m3,
    #[serde(rename = "F8_E5M2")]
    F8E5m2,
    #[serde(rename = "F8_E8M0")]
    F8E8m0,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes of one value.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F8E4m3 | Self::F8E5m2 | Self::F8E8m0 | Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Type of its values.
    pub dtype: Dtype,
    /// Sides, slowest first.
    pub shape: Vec<usize>,
    /// Where its bytes are in the file.
    pub range: Range<usize>,
}

/// All tensors of a file, in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Header {
    /// The tensors.
    pub tensors: Vec<Entry>,
    /// The texts of the file's metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Reads the header of a whole file.
///
/// # Errors
/// What is wrong with the header or with a tensor's entry, by name.
pub fn parse(bytes: &[u8]) -> Result<Header, ModelError> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(ModelError::malformed(
            "safetensors file",
            format!("{} bytes", bytes.len()),
            "at least 8 bytes",
        ));
    };
    let length = u64::from_le_bytes(*length);
    if length > MOST_HEADER_BYTES || length > rest.len() as u64 {
        let limit = MOST_HEADER_BYTES.min(rest.len() as u64);
        let expected = format!("at most {limit} (the file has {} bytes)", bytes.len());
        return Err(ModelError::malformed("length of safetensors header", length, expected));
    }
    let (header, data) = rest.split_at(length as usize);
    let Fields(fields) = serde_json::from_slice(header)
        .map_err(|error| ModelError::malformed("safetensors header", error, "a JSON object of tensors"))?;
    let data_start = bytes.len() - data.len();
    let mut names = HashSet::with_capacity(fields.len());
    let mut tensors = Vec::with_capacity(fields.len());
    let mut metadata = BTreeMap::new();
    for (name, field) in fields {
        if !names.insert(name.clone()) {
            return Err(ModelError::malformed(format!("tensor {name}"), "it twice", "each tensor once"));
        }
        if name == "__metadata__" {
            // Readers of weights need none of it, so what is no text is left out and not refused.
            let fields: Map<String, Value> = serde_json::from_str(field.get()).unwrap_or_default();
            let texts = fields.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())));
            metadata.extend(texts);
        } else {
            tensors.push(entry(name, field.get(), data_start, data.len())?);
        }
    }
    tensors.sort_by_key(|entry| (entry.range.start, entry.range.end));
    let mut next = data_start;
    for entry in &tensors {
        if entry.range.start != next {
            let what = format!("data_offsets of tensor {}", entry.name);
            let expected = format!("{}, the end of the tensor before it", next - data_start);
            return Err(ModelError::malformed(what, entry.range.start - data_start, expected));
        }
        next = entry.range.end;
    }
    if next != bytes.len() {
        let found = format!("{} bytes of data", data.len());
        return Err(ModelError::malformed(
            "safetensors file",
            found,
            format!("{}, as its header says", next - data_start),
        ));
    }
    Ok(Header { tensors, metadata })
}

/// A tensor's JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

fn entry(name: String, json: &str, data_start: usize, data_bytes: usize) -> Result<Entry, ModelError> {
    let Stated { dtype, shape, data_offsets: (start, end) } =
        serde_json::from_str(json).map_err(|error| {
            ModelError::malformed(format!("header of tensor {name}"), error, "dtype, shape, data_offsets")
        })?;
    let dtype = Dtype::deserialize(serde::de::value::StrDeserializer::<serde_json::Error>::new(&dtype))
        .map_err(|_| ModelError::unsupported(format!("dtype of tensor {name}:"), &dtype, "F32, F16, BF16"))?;
    if start > end || end > data_bytes as u64 {
        let expected = format!("a range inside the file's {data_bytes} bytes of data");
        return Err(ModelError::malformed(
            format!("data_offsets of tensor {name}"),
            format!("[{start}, {end}]"),
            expected,
        ));
    }
    let bytes = shape.iter().try_fold(dtype.bytes() as u64, |product, &side| product.checked_mul(side));
    if bytes != Some(end - start) || shape.len() > MOST_SIDES {
        let found = format!("{} bytes", end - start);
        let expected = match bytes {
            Some(bytes) => format!("{bytes} bytes for shape {shape:?}"),
            None => format!("a shape below 2^64 bytes instead of {shape:?}"),
        };
        return Err(ModelError::malformed(format!("size of tensor {name}"), found, expected));
    }
    // Both ends are inside the file, so nothing here is cut off.
    let range = data_start + start as usize..data_start + end as usize;
    Ok(Entry { name, dtype, shape: shape.into_iter().map(|side| side as usize).collect(), range })
}

/// A JSON object's fields as they stand: a map would hide a name that occurs twice.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;

        impl<'de> Visitor<'de> for FieldVisitor {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldVisitor)
    }
}
