//! GGUF metadata: typed keys and values.

use super::cursor::Cursor;
use crate::error::ModelError;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the format's own type names")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// Values of one type.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the format's own type names")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Arrays of arrays are allowed by the format and used by nobody; deeper ones are an attack on the stack.
const MOST_NESTED: usize = 3;

impl Value {
    pub(super) fn read(cursor: &mut Cursor<'_>, what: &str) -> Result<Self, ModelError> {
        Ok(match cursor.u32(&format!("type of {what}"))? {
            0 => Self::U8(cursor.u8(what)?),
            1 => Self::I8(cursor.u8(what)?.cast_signed()),
            2 => Self::U16(u16::from_le_bytes(fixed(cursor, what)?)),
            3 => Self::I16(i16::from_le_bytes(fixed(cursor, what)?)),
            4 => Self::U32(cursor.u32(what)?),
            5 => Self::I32(i32::from_le_bytes(fixed(cursor, what)?)),
            6 => Self::F32(f32::from_le_bytes(fixed(cursor, what)?)),
            7 => Self::Bool(boolean(cursor.u8(what)?, what)?),
            8 => Self::String(cursor.string(what)?.to_owned()),
            9 => Self::Array(Array::read(cursor, what, 0)?),
            10 => Self::U64(cursor.u64(what)?),
            11 => Self::I64(i64::from_le_bytes(fixed(cursor, what)?)),
            12 => Self::F64(f64::from_le_bytes(fixed(cursor, what)?)),
            other => return Err(unknown_type(what, other)),
        })
    }

    /// Appends the value as the file holds it: its type's number, then itself.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        fn put<const N: usize>(out: &mut Vec<u8>, number: u32, bytes: [u8; N]) {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&bytes);
        }
        match self {
            Self::U8(value) => put(out, 0, value.to_le_bytes()),
            Self::I8(value) => put(out, 1, value.to_le_bytes()),
            Self::U16(value) => put(out, 2, value.to_le_bytes()),
            Self::I16(value) => put(out, 3, value.to_le_bytes()),
            Self::U32(value) => put(out, 4, value.to_le_bytes()),
            Self::I32(value) => put(out, 5, value.to_le_bytes()),
            Self::F32(value) => put(out, 6, value.to_le_bytes()),
            Self::Bool(value) => put(out, 7, [u8::from(*value)]),
            Self::String(text) => {
                put(out, 8, []);
                write_string(text, out);
            }
            Self::Array(array) => {
                put(out, 9, []);
                array.write(out);
            }
            Self::U64(value) => put(out, 10, value.to_le_bytes()),
            Self::I64(value) => put(out, 11, value.to_le_bytes()),
            Self::F64(value) => put(out, 12, value.to_le_bytes()),
        }
    }

    /// An integer of any width, if it isn't negative.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::U64(value) => Some(value),
            Self::I8(value) => value.try_into().ok(),
            Self::I16(value) => value.try_into().ok(),
            Self::I32(value) => value.try_into().ok(),
            Self::I64(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// The type's name, with the length of an array.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::F32(_) => "f32",
            Self::Bool(_) => "bool",
            Self::String(_) => "string",
            Self::Array(array) => return format!("array of {}", array.len()),
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F64(_) => "f64",
        }
        .to_owned()
    }
}

impl Array {
    fn read(cursor: &mut Cursor<'_>, what: &str, depth: usize) -> Result<Self, ModelError> {
        let kind = cursor.u32(&format!("element type of {what}"))?;
        let length = format!("length of {what}");
        Ok(match kind {
            0 => {
                let count = cursor.count(1, &length)?;
                Self::U8(cursor.take(count, what)?.to_vec())
            }
            1 => Self::I8(numbers(cursor, what, &length, i8::from_le_bytes)?),
            2 => Self::U16(numbers(cursor, what, &length, u16::from_le_bytes)?),
            3 => Self::I16(numbers(cursor, what, &length, i16::from_le_bytes)?),
            4 => Self::U32(numbers(cursor, what, &length, u32::from_le_bytes)?),
            5 => Self::I32(numbers(cursor, what, &length, i32::from_le_bytes)?),
            6 => Self::F32(numbers(cursor, what, &length, f32::from_le_bytes)?),
            7 => {
                let count = cursor.count(1, &length)?;
                let bytes = cursor.take(count, what)?;
                Self::Bool(bytes.iter().map(|&byte| boolean(byte, what)).collect::<Result<_, _>>()?)
            }
            8 => {
                let count = cursor.count(8, &length)?;
                let string = |_| Ok(cursor.string(what)?.to_owned());
                Self::String((0..count).map(string).collect::<Result<_, ModelError>>()?)
            }
            9 if depth < MOST_NESTED => {
                let count = cursor.count(12, &length)?;
                Self::Array(
                    (0..count).map(|_| Self::read(cursor, what, depth + 1)).collect::<Result<_, _>>()?,
                )
            }
            9 => {
                return Err(ModelError::malformed(
                    what,
                    "deeper arrays",
                    format!("at most {MOST_NESTED} levels"),
                ));
            }
            10 => Self::U64(numbers(cursor, what, &length, u64::from_le_bytes)?),
            11 => Self::I64(numbers(cursor, what, &length, i64::from_le_bytes)?),
            12 => Self::F64(numbers(cursor, what, &length, f64::from_le_bytes)?),
            other => return Err(unknown_type(what, other)),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        fn put<T: Copy, const N: usize>(
            out: &mut Vec<u8>,
            number: u32,
            values: &[T],
            bytes: fn(T) -> [u8; N],
        ) {
            head(out, number, values.len());
            out.extend(values.iter().flat_map(|&value| bytes(value)));
        }
        fn head(out: &mut Vec<u8>, number: u32, length: usize) {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&(length as u64).to_le_bytes());
        }
        match self {
            Self::U8(values) => put(out, 0, values, u8::to_le_bytes),
            Self::I8(values) => put(out, 1, values, i8::to_le_bytes),
            Self::U16(values) => put(out, 2, values, u16::to_le_bytes),
            Self::I16(values) => put(out, 3, values, i16::to_le_bytes),
            Self::U32(values) => put(out, 4, values, u32::to_le_bytes),
            Self::I32(values) => put(out, 5, values, i32::to_le_bytes),
            Self::F32(values) => put(out, 6, values, f32::to_le_bytes),
            Self::Bool(values) => put(out, 7, values, |value| [u8::from(value)]),
            Self::String(values) => {
                head(out, 8, values.len());
                values.iter().for_each(|text| write_string(text, out));
            }
            Self::Array(values) => {
                head(out, 9, values.len());
                values.iter().for_each(|array| array.write(out));
            }
            Self::U64(values) => put(out, 10, values, u64::to_le_bytes),
            Self::I64(values) => put(out, 11, values, i64::to_le_bytes),
            Self::F64(values) => put(out, 12, values, f64::to_le_bytes),
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::I8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::I16(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::String(values) => values.len(),
            Self::Array(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All elements as unsigned integers, if they are integers and none is negative.
    #[must_use]
    pub fn to_u64(&self) -> Option<Vec<u64>> {
        fn convert<T: Copy + TryInto<u64>>(values: &[T]) -> Option<Vec<u64>> {
            values.iter().map(|&value| value.try_into().ok()).collect()
        }
        match self {
            Self::U8(values) => convert(values),
            Self::I8(values) => convert(values),
            Self::U16(values) => convert(values),
            Self::I16(values) => convert(values),
            Self::U32(values) => convert(values),
            Self::I32(values) => convert(values),
            Self::U64(values) => convert(values),
            Self::I64(values) => convert(values),
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::String(_) | Self::Array(_) => None,
        }
    }
}

fn fixed<const N: usize>(cursor: &mut Cursor<'_>, what: &str) -> Result<[u8; N], ModelError> {
    let taken = cursor.take(N, what)?;
    taken.try_into().map_err(|_| ModelError::malformed(what, taken.len(), N.to_string()))
}

fn numbers<T, const N: usize>(
    cursor: &mut Cursor<'_>,
    what: &str,
    length: &str,
    convert: fn([u8; N]) -> T,
) -> Result<Vec<T>, ModelError> {
    let count = cursor.count(N, length)?;
    let bytes = cursor.take(count * N, what)?;
    let (elements, _) = bytes.as_chunks::<N>();
    Ok(elements.iter().map(|&element| convert(element)).collect())
}

fn boolean(byte: u8, what: &str) -> Result<bool, ModelError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(ModelError::malformed(what, other, "a boolean, 0 or 1")),
    }
}

fn unknown_type(what: &str, found: u32) -> ModelError {
    ModelError::malformed(format!("type of {what}"), found, "a metadata type, 0 to 12")
}

/// Length-prefixed UTF-8.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
