//! Who may use the admin listener.
//!
//! On a loopback address the listener trusts the machine's users, so what has to be kept out is a web page in their
//! browser: the `Host` must be a loopback name (DNS rebinding makes a page's own name point here) and an `Origin`, if
//! there is one, must be this listener itself (a cross-site form or fetch). With a token, and always on any other
//! address, the token is what counts; a page of another origin is kept out there as well.

use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, header};

use crate::api_error::{ApiError, ErrorKind};

/// The rule of one admin listener.
#[derive(Clone, Debug)]
pub struct Access {
    token: Option<String>,
    loopback: bool,
}

impl Access {
    /// A listener on a loopback address or not, with or without a token. The server refuses to start with neither.
    #[must_use]
    pub const fn new(loopback: bool, token: Option<String>) -> Self {
        Self { token, loopback }
    }

    /// Checks a request's headers.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = text(headers, header::HOST).unwrap_or_default();
        if self.loopback && self.token.is_none() && !is_loopback_host(host) {
            let message =
                format!("host: found {host:?}, expected a loopback name, since this listener has no token");
            return Err(ApiError::new(ErrorKind::ForbiddenHost, message)
                .at("host")
                .found(host)
                .expected("localhost, 127.0.0.1 or [::1]"));
        }
        if let Some(origin) = text(headers, header::ORIGIN)
            && !is_same_origin(origin, host)
        {
            let message = format!("origin: found {origin:?}, expected a page of {host:?} itself");
            return Err(ApiError::new(ErrorKind::ForbiddenHost, message)
                .at("origin")
                .found(origin)
                .expected(format!("http://{host}")));
        }
        let Some(token) = &self.token else { return Ok(()) };
        match text(headers, header::AUTHORIZATION).and_then(bearer) {
            Some(given) if is_same_secret(given.as_bytes(), token.as_bytes()) => Ok(()),
            Some(_) => {
                Err(ApiError::new(ErrorKind::Unauthorized, "the admin token is wrong").at("authorization"))
            }
            None => Err(ApiError::new(
                ErrorKind::Unauthorized,
                "the admin token is missing, expected the header 'authorization: Bearer TOKEN'",
            )
            .at("authorization")),
        }
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_same_origin(origin: &str, host: &str) -> bool {
    origin
        .parse::<Uri>()
        .ok()
        .and_then(|uri| uri.authority().map(|authority| authority.as_str().eq_ignore_ascii_case(host)))
        .unwrap_or(false)
}

/// Compares without telling by its duration how much of the secret was right.
fn is_same_secret(given: &[u8], secret: &[u8]) -> bool {
    let mut difference = given.len() ^ secret.len();
    for (index, expected) in secret.iter().enumerate() {
        // Past the end of a shorter guess every byte differs, in the same time.
        let byte = given.get(index).copied().unwrap_or(!expected);
        difference |= usize::from(byte ^ expected);
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_loopback_listener_answers_to_loopback_names_only() {
        let access = Access::new(true, None);
        for host in ["localhost", "localhost:8001", "127.0.0.1:8001", "[::1]:8001", "127.8.8.8"] {
            access.check(&headers(&[("host", host)])).unwrap();
        }
        for host in ["evil.example", "evil.example:8001", "192.168.0.7:8001", "localhost.evil.example", ""] {
            let error = access.check(&headers(&[("host", host)])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ForbiddenHost, "{host}");
        }
    }

    #[test]
    fn a_page_of_another_origin_is_kept_out() {
        let access = Access::new(true, None);
        let host = ("host", "127.0.0.1:8001");
        access.check(&headers(&[host, ("origin", "http://127.0.0.1:8001")])).unwrap();
        for origin in ["http://evil.example", "null", "http://127.0.0.1:8000"] {
            assert!(access.check(&headers(&[host, ("origin", origin)])).is_err(), "{origin}");
        }
    }

    #[test]
    fn a_token_must_match_exactly() {
        let access = Access::new(false, Some("secret".into()));
        let host = ("host", "gpu.example:8001");
        access.check(&headers(&[host, ("authorization", "Bearer secret")])).unwrap();
        access.check(&headers(&[host, ("authorization", "bearer secret")])).unwrap();
        for wrong in ["Bearer secre", "Bearer secrets", "Bearer ", "Basic secret", "secret"] {
            let error = access.check(&headers(&[host, ("authorization", wrong)])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthorized, "{wrong}");
        }
        assert!(access.check(&headers(&[host])).is_err());
    }
}
