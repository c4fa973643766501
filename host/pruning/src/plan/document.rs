//! The plan as a file: JSON with one line per list, so that a person can read a thousand removed channels.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::{PLAN_VERSION, Plan};
use crate::error::PruningError;

impl Plan {
    /// The plan as a JSON document.
    ///
    /// # Errors
    /// [`PruningError::Json`] if serialisation fails.
    pub fn to_json(&self) -> Result<String, PruningError> {
        reviewable_json(self, "the plan")
    }

    /// Reads a plan document. Whether it fits a model is asked of [`Plan::apply_to`].
    ///
    /// # Errors
    /// [`PruningError::Json`] for a document of another form, [`PruningError::PlanMismatch`] for another version.
    pub fn from_json(text: &str) -> Result<Self, PruningError> {
        let invalid = |source| PruningError::Json { what: "the plan".to_owned(), source };
        // The version first: a document of another version has other fields.
        let Versioned { version } = serde_json::from_str(text).map_err(invalid)?;
        super::expect("the version", version, PLAN_VERSION)?;
        serde_json::from_str(text).map_err(invalid)
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// JSON indented by two spaces, lists on one line.
pub(crate) fn reviewable_json<T: Serialize>(value: &T, what: &str) -> Result<String, PruningError> {
    let json_error = |source| PruningError::Json { what: what.to_owned(), source };
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Reviewable(PrettyFormatter::new()));
    value.serialize(&mut serializer).map_err(json_error)?;
    bytes.push(b'\n');
    String::from_utf8(bytes)
        .map_err(|error| json_error(serde_json::Error::io(io::Error::new(io::ErrorKind::InvalidData, error))))
}

/// Objects as the pretty formatter writes them, arrays in line.
struct Reviewable(PrettyFormatter<'static>);

impl Formatter for Reviewable {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}
