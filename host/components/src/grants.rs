//! What an operator lets a component reach beyond its world: hosts that an endpoint may send requests to.
//!
//! A grant is a host with or without a port, written as in a URL. It is compared with the text that the component asks for,
//! so a name grants whatever addresses the operator's resolver has for it, and no other name of the same machine.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, Scheme};
use serde::{Deserialize, Serialize};

use crate::ComponentError;

/// Hosts of one deployment.
const HOSTS: usize = 64;
const EXPECTED: &str = "HOST or HOST:PORT, as in a URL, without a scheme, a user or a path";

/// One host that may be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct GrantedHost {
    /// In lower case; brackets around an IPv6 address.
    host: String,
    /// Every port without one.
    port: Option<u16>,
}

impl GrantedHost {
    fn covers(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port.is_none_or(|granted| granted == port)
    }
}

impl fmt::Display for GrantedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl FromStr for GrantedHost {
    type Err = ComponentError;

    fn from_str(text: &str) -> Result<Self, ComponentError> {
        let refused = || ComponentError::InvalidGrant { found: text.to_owned(), expected: EXPECTED };
        let authority: Authority = text.parse().map_err(|_| refused())?;
        let host = authority.host().to_ascii_lowercase();
        let port = authority.port_u16();
        let granted = Self { host, port };
        // A user, a wrong port or a wildcard would be lost here.
        let whole = granted.to_string() == text.to_ascii_lowercase() && !granted.host.is_empty();
        if whole && !text.contains('*') { Ok(granted) } else { Err(refused()) }
    }
}

impl From<GrantedHost> for String {
    fn from(granted: GrantedHost) -> Self {
        granted.to_string()
    }
}

impl TryFrom<String> for GrantedHost {
    type Error = ComponentError;

    fn try_from(text: String) -> Result<Self, ComponentError> {
        text.parse()
    }
}

/// The hosts that a deployment grants; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantedHosts(Vec<GrantedHost>);

impl GrantedHosts {
    /// The hosts; an error for more than can be kept.
    pub fn new(hosts: Vec<GrantedHost>) -> Result<Self, ComponentError> {
        if hosts.len() > HOSTS {
            let found = format!("{} hosts", hosts.len());
            return Err(ComponentError::InvalidGrant { found, expected: "at most 64 hosts" });
        }
        Ok(Self(hosts))
    }

    /// The hosts.
    pub fn hosts(&self) -> &[GrantedHost] {
        &self.0
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request may go to where `uri` says.
    pub(crate) fn cover(&self, uri: &Uri) -> bool {
        let Some(authority) = uri.authority() else { return false };
        let default = if uri.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
        let (host, port) = (authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(default));
        self.0.iter().any(|granted| granted.covers(&host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(hosts: &[&str]) -> GrantedHosts {
        GrantedHosts::new(hosts.iter().map(|host| host.parse().unwrap()).collect()).unwrap()
    }

    #[test]
    fn a_host_is_granted_with_its_port_or_with_all() {
        let hosts = granted(&["Api.Example.com", "10.0.0.1:8080", "[::1]:9000"]);
        for uri in [
            "https://api.example.com/x",
            "http://API.example.com:81/",
            "http://10.0.0.1:8080/",
            "http://[::1]:9000/a",
        ] {
            assert!(hosts.cover(&uri.parse().unwrap()), "{uri}");
        }
        for uri in [
            "https://example.com/",
            "https://api.example.com.evil.org/",
            "http://10.0.0.1/",
            "http://api.example.com@evil.org/",
            "/path",
        ] {
            assert!(!hosts.cover(&uri.parse().unwrap()), "{uri}");
        }
        assert!(!GrantedHosts::default().cover(&"http://localhost/".parse().unwrap()));
        assert!(granted(&["a:443"]).cover(&"https://a/".parse().unwrap()));
        assert!(!granted(&["a:443"]).cover(&"http://a/".parse().unwrap()));
    }

    #[test]
    fn what_is_no_host_is_refused_by_its_text() {
        for text in ["", "*", "*.example.com", "http://a", "a/b", "u@a", "a:99999", "a:b", "a b"] {
            let error = text.parse::<GrantedHost>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("\"{text}\" is not a host")), "{error}");
        }
        let many = (0..65).map(|n| format!("h{n}").parse().unwrap()).collect();
        assert!(GrantedHosts::new(many).is_err());
    }

    #[test]
    fn grants_are_written_as_they_are_read() {
        let hosts = granted(&["a.b:1", "c"]);
        let text = serde_json::to_string(&hosts).unwrap();
        assert_eq!(text, r#"["a.b:1","c"]"#);
        assert_eq!(serde_json::from_str::<GrantedHosts>(&text).unwrap(), hosts);
    }
}
