//! User names and passwords for registries, from Docker's configuration file.
//!
//! Read are the entries of `auths`, which `docker login` writes where no helper keeps them. Helper programs are not run;
//! where one keeps the credentials of a registry, the error of a refused request says so.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// What is known of a registry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Nothing.
    None,
    /// What stands after `Basic` in an `Authorization` header.
    Basic(String),
    /// A program keeps them.
    Helper(String),
}

impl Credentials {
    /// Those for a registry in `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`.
    pub(super) fn find(registry: &str) -> Result<Self> {
        let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
        let folder =
            folder.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
        let Some(path) = folder.map(|folder| folder.join("config.json")) else { return Ok(Self::None) };
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
            Ok(text) => Self::parse(&text, registry).with_context(|| path.display().to_string()),
        }
    }

    fn parse(text: &str, registry: &str) -> Result<Self> {
        let config: Value =
            serde_json::from_str(text).context("found no JSON, expected Docker's configuration")?;
        let keys = match registry {
            "docker.io" => vec!["https://index.docker.io/v1/".to_owned(), "docker.io".to_owned()],
            _ => vec![registry.to_owned(), format!("https://{registry}"), format!("https://{registry}/")],
        };
        let Some(entry) = keys.iter().find_map(|key| config["auths"].get(key)) else {
            let helper = config["credHelpers"][registry].as_str();
            return Ok(helper.map_or(Self::None, |helper| Self::Helper(helper.to_owned())));
        };
        if let Some(encoded) = entry["auth"].as_str() {
            let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            if decoded.is_none_or(|pair| !pair.contains(':')) {
                bail!("auths.{registry}.auth: found something else, expected USER:PASSWORD in base64");
            }
            return Ok(Self::Basic(encoded.to_owned()));
        }
        if let (Some(user), Some(password)) = (entry["username"].as_str(), entry["password"].as_str()) {
            return Ok(Self::Basic(STANDARD.encode(format!("{user}:{password}"))));
        }
        // `docker login` leaves an empty entry where a helper keeps the password.
        let helper = config["credsStore"].as_str();
        Ok(helper.map_or(Self::None, |helper| Self::Helper(helper.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_by_the_registrys_name() {
        let text = r#"{"auths": {"a:5000": {"auth": "dTpw"}, "https://b": {"username": "u", "password": "p"},
            "https://index.docker.io/v1/": {"auth": "dTpw"}, "c": {}, "bad": {"auth": "eA=="}},
            "credsStore": "desktop", "credHelpers": {"d": "ecr-login"}}"#;
        for registry in ["a:5000", "b", "docker.io"] {
            let found = Credentials::parse(text, registry).unwrap();
            assert_eq!(found, Credentials::Basic("dTpw".into()), "{registry}");
        }
        assert_eq!(Credentials::parse(text, "c").unwrap(), Credentials::Helper("desktop".into()));
        assert_eq!(Credentials::parse(text, "d").unwrap(), Credentials::Helper("ecr-login".into()));
        assert_eq!(Credentials::parse(text, "a").unwrap(), Credentials::None);
        let error = format!("{:#}", Credentials::parse(text, "bad").unwrap_err());
        assert!(error.contains("auths.bad.auth") && !error.contains("eA=="), "{error}");
        assert!(Credentials::parse("x", "a").is_err());
    }
}
