//! The GGUF container: header, metadata, tensor directory, data.
//!
//! A total function over bytes: whatever they are, the result is a description whose ranges lie inside them, or an
//! error that names the field. Nothing is allocated beyond a small multiple of the bytes given.
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::HashSet;
use std::ops::Range;

use espalier_kernels::WeightFormat;

use super::cursor::Cursor;
use super::metadata::Metadata;
use super::tensor_type;
use super::value::Value;
use crate::error::ModelError;
use crate::stored_tensor::tensor_bytes;

const MAGIC: [u8; 4] = *b"GGUF";
const DEFAULT_ALIGNMENT: usize = 32;
const MOST_SIDES: usize = 4;

/// What a GGUF file holds.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// Keys and values.
    pub metadata: Metadata,
    /// The tensors in the file's order.
    pub tensors: Vec<GgufTensor>,
}

/// A tensor's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensor {
    /// ggml's name: `blk.0.attn_q.weight`.
    pub name: String,
    /// Format of the values.
    pub format: WeightFormat,
    /// Sides, slowest first (the file has them the other way round).
    pub shape: Vec<usize>,
    /// Where its bytes are in the file.
    pub range: Range<usize>,
}

/// Parses a whole GGUF file of version 2 or 3 (they differ in nothing that a little-endian reader sees).
///
/// # Errors
/// The first field that is wrong: its name, what was found, what was expected.
pub fn parse(bytes: &[u8]) -> Result<Gguf, ModelError> {
    let mut cursor = Cursor::new(bytes);
    let magic = cursor.take(4, "GGUF magic")?;
    if magic != MAGIC {
        return Err(ModelError::malformed(
            "GGUF magic",
            format!("{:?}", magic.escape_ascii().to_string()),
            "\"GGUF\"",
        ));
    }
    let version = cursor.u32("GGUF version")?;
    if !matches!(version, 2 | 3) {
        let found = if matches!(version.swap_bytes(), 1..=3) {
            "a big-endian file".into()
        } else {
            version.to_string()
        };
        return Err(ModelError::unsupported("GGUF version", found, "2 and 3, little-endian"));
    }
    // The smallest entries: an empty name, type and one byte; an empty name, no sides, type and offset.
    let tensor_count = cursor.count(24, "GGUF number of tensors")?;
    let key_count = cursor.count(13, "GGUF number of metadata keys")?;
    let mut metadata = Metadata::default();
    for place in 0..key_count {
        let key = cursor.string(&format!("name of metadata key {place}"))?.to_owned();
        let value = Value::read(&mut cursor, &format!("metadata key {key}"))?;
        metadata.insert(key, value)?;
    }
    let alignment = metadata.size("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if alignment == 0 || !alignment.is_multiple_of(8) || alignment > 1 << 20 {
        return Err(ModelError::malformed(
            "metadata key general.alignment",
            alignment,
            "a multiple of 8, at most 1 MiB",
        ));
    }
    let entries =
        (0..tensor_count).map(|place| Entry::read(&mut cursor, place)).collect::<Result<Vec<_>, _>>()?;
    let data_start = cursor.position().next_multiple_of(alignment);
    let tensors = place_tensors(entries, data_start, alignment, bytes.len())?;
    Ok(Gguf { metadata, tensors })
}

/// A tensor's entry as it stands in the file.
struct Entry {
    name: String,
    format: WeightFormat,
    shape: Vec<usize>,
    offset: u64,
}

impl Entry {
    fn read(cursor: &mut Cursor<'_>, place: usize) -> Result<Self, ModelError> {
        let name = cursor.string(&format!("name of tensor {place}"))?.to_owned();
        let sides = cursor.u32(&format!("number of sides of tensor {name}"))? as usize;
        if sides > MOST_SIDES {
            let what = format!("number of sides of tensor {name}");
            return Err(ModelError::malformed(what, sides, format!("at most {MOST_SIDES}")));
        }
        let mut shape = Vec::with_capacity(sides);
        for _ in 0..sides {
            let side = cursor.u64(&format!("shape of tensor {name}"))?;
            let side = usize::try_from(side).ok().filter(|&side| side > 0 && side < 1 << 48);
            shape.push(side.ok_or_else(|| {
                ModelError::malformed(
                    format!("shape of tensor {name}"),
                    "a side that is 0 or beyond 2^48",
                    "positive sides",
                )
            })?);
        }
        shape.reverse();
        let format = tensor_type::weight_format(cursor.u32(&format!("type of tensor {name}"))?, &name)?;
        let offset = cursor.u64(&format!("offset of tensor {name}"))?;
        Ok(Self { name, format, shape, offset })
    }
}

/// Turns offsets into ranges. Tensors lie back to back, each padded to the alignment, as ggml itself demands; so an
/// entry whose shape or type is damaged is found by the next one's offset.
fn place_tensors(
    entries: Vec<Entry>,
    data_start: usize,
    alignment: usize,
    file_bytes: usize,
) -> Result<Vec<GgufTensor>, ModelError> {
    let mut names = HashSet::with_capacity(entries.len());
    let mut next = 0_u64;
    let mut tensors = Vec::with_capacity(entries.len());
    for Entry { name, format, shape, offset } in entries {
        if !names.insert(name.clone()) {
            return Err(ModelError::malformed(format!("tensor {name}"), "it twice", "each tensor once"));
        }
        if offset != next {
            let expected = format!("{next}, the end of the tensor before it");
            return Err(ModelError::malformed(format!("offset of tensor {name}"), offset, expected));
        }
        let length = tensor_bytes(&name, format, &shape)?;
        let end = offset.checked_add(length).and_then(|end| end.checked_add(data_start as u64));
        let Some(end) = end.and_then(|end| usize::try_from(end).ok()).filter(|&end| end <= file_bytes) else {
            let found = format!("a file of {file_bytes} bytes");
            let expected = format!("{length} bytes from offset {}", data_start as u64 + offset);
            return Err(ModelError::malformed(format!("data of tensor {name}"), found, expected));
        };
        let start = end - length as usize;
        tensors.push(GgufTensor { name, format, shape, range: start..end });
        next = (offset + length).next_multiple_of(alignment as u64);
    }
    Ok(tensors)
}
