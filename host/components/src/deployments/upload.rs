//! What somebody wants to deploy.

use crate::Signature;

/// A component's file with what came with it.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// What errors call it until it has named itself.
    pub label: &'a str,
    /// The file.
    pub bytes: &'a [u8],
    /// Who vouches for it.
    pub signature: Option<&'a Signature>,
}
