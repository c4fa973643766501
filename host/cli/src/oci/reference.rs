//! The name of an artifact in an OCI registry: `REGISTRY/REPOSITORY:TAG` or `REGISTRY/REPOSITORY@sha256:DIGEST`.
//!
//! The grammar of repositories and tags is that of the OCI distribution specification 1.1. Nothing is guessed: there is
//! neither a default registry nor a default tag.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use espalier_state::Digest;

/// A checked reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Host, with a port if it has one.
    pub(crate) registry: String,
    /// The path inside the registry.
    pub(crate) repository: String,
    /// Which version.
    pub(crate) version: Version,
}

/// What follows the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// A name that can be moved.
    Tag(String),
    /// The SHA-256 of the manifest.
    Digest(Digest),
}

impl Reference {
    /// The last segment of the repository.
    pub(crate) fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or(&self.repository)
    }

    /// Whether the registry is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.registry)
    }
}

/// Whether an authority (host and port) is this machine.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            anyhow::anyhow!(
                "found the reference \"{text}\", expected REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:DIGEST"
            )
        };
        let path = text.strip_prefix("oci://").unwrap_or(text);
        let (registry, rest) = path.split_once('/').ok_or_else(refused)?;
        let (repository, version) = match rest.split_once('@') {
            Some((named, digest)) => {
                let digest = digest.strip_prefix("sha256:").and_then(|digest| digest.parse().ok());
                // A tag beside a digest says nothing more.
                let repository = named.split_once(':').map_or(named, |(repository, _)| repository);
                (repository, Version::Digest(digest.ok_or_else(refused)?))
            }
            None => {
                let (repository, tag) = rest.split_once(':').ok_or_else(refused)?;
                (repository, Version::Tag(tag.to_owned()))
            }
        };
        if let Version::Tag(tag) = &version
            && !is_tag(tag)
        {
            bail!("found the tag \"{tag}\", expected letters, digits, '.', '_' and '-', at most 128 of them");
        }
        if !is_authority(registry) || !repository.split('/').all(is_segment) || repository.len() > 255 {
            return Err(refused());
        }
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), version })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match &self.version {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@sha256:{digest}"),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "sha256:{digest}"),
        }
    }
}

/// A host name or an address, with or without a port.
fn is_authority(text: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<std::net::Ipv6Addr>().is_ok() && has_port;
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_segment(text: &str) -> bool {
    let separators =
        |part: &str| matches!(part, "" | "." | "_" | "__") || part.bytes().all(|byte| byte == b'-');
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(is_word)
        && text.ends_with(is_word)
        && text.split(is_word).filter(|between| !between.is_empty()).all(separators)
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_registry_repository_and_version() {
        let reference: Reference = "oci://registry.example/team/least-busy:1.0.0".parse().unwrap();
        assert_eq!(
            (reference.registry.as_str(), reference.repository.as_str()),
            ("registry.example", "team/least-busy")
        );
        assert_eq!((reference.name(), reference.is_loopback()), ("least-busy", false));
        assert_eq!(reference.to_string(), "registry.example/team/least-busy:1.0.0");
        let digest = "0".repeat(64);
        let pinned = format!("localhost:5000/a@sha256:{digest}");
        assert_eq!(pinned.parse::<Reference>().unwrap().to_string(), pinned);
        assert!(pinned.parse::<Reference>().unwrap().is_loopback());
        let tagged = format!("localhost:5000/a:1@sha256:{digest}");
        assert_eq!(tagged.parse::<Reference>().unwrap().to_string(), pinned);
        for loopback in ["127.0.0.1:5000/a:1", "[::1]:5000/a:1", "127.9.9.9/a:1"] {
            assert!(loopback.parse::<Reference>().unwrap().is_loopback(), "{loopback}");
        }
    }

    #[test]
    fn nothing_is_guessed_and_nothing_leads_elsewhere() {
        let short = format!("a/b@sha256:{}", "0".repeat(63));
        for wrong in [
            "",
            "a",
            "a/b",
            "/b:1",
            "a/:1",
            "a/b:",
            "a/B:1",
            "a/../b:1",
            "a/b//c:1",
            "a/b:.1",
            "a b/c:1",
            "a/b:x y",
            "a/b?x:1",
            "u:p@a/b:1",
            "a:99999/b:1",
            "a/b@md5:0",
            "a/-b:1",
            "a/b._c:1",
            "[::1/a:1",
            "[::1]x/a:1",
            &short,
        ] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong}");
        }
    }
}
