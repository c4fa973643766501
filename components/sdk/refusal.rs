//! Refusals of host functions as the words that a guest fails with, so that `?` passes them on. Part of each SDK crate
//! whose world imports functions that may refuse.

use crate::Error;

impl From<Error> for String {
    fn from(error: Error) -> Self {
        match error {
            Error::ShapeMismatch(text)
            | Error::InvalidArgument(text)
            | Error::TooLarge(text)
            | Error::Unavailable(text) => text,
        }
    }
}
