//! The client: pulls and pushes one component.
//!
//! A registry is spoken to over TLS. Plain HTTP is for registries on this machine, and for those of whom the caller says so.
//! Nothing that a registry sends is believed: sizes are limited while they are read, and digests are compared.

use std::cell::RefCell;
use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use espalier_components::{InterfaceNames, Signature};
use espalier_state::Digest;
use serde_json::Value;
use ureq::http::{Method, Request, Response, StatusCode, Uri, header};

use super::artifact;
use super::challenge::Challenge;
use super::credentials::Credentials;
use super::reference::{Reference, Version, is_loopback};
use crate::admin::segment;

const TIMEOUT: Duration = Duration::from_secs(600);
const CONNECTING: Duration = Duration::from_secs(20);
/// Largest manifest that is read, in bytes; those of components have less than a thousand.
const MANIFEST_LIMIT: usize = 1 << 20;
/// The same of an answer with a token, or with an error.
const ANSWER_LIMIT: usize = 256 << 10;

/// A registry, for one reference.
pub(crate) struct Registry {
    reference: Reference,
    agent: ureq::Agent,
    /// Scheme and authority.
    base: String,
    /// Whether plain HTTP was asked for.
    plain_http: bool,
    /// The `Authorization` that the registry has asked for.
    authorization: RefCell<Option<String>>,
}

/// What was pulled.
pub(crate) struct Pulled {
    /// The component's file, with the digest that the manifest says.
    pub(crate) component: Vec<u8>,
    /// The signature that was pushed with it. Nobody has checked it.
    pub(crate) signature: Option<Signature>,
}

/// One request.
struct Call<'a> {
    method: Method,
    url: String,
    /// Media types: `Accept` without a body, `Content-Type` with one.
    media_type: &'a str,
    body: Option<&'a [u8]>,
}

impl Registry {
    /// Nothing is sent yet.
    pub(crate) fn new(reference: Reference, plain_http: bool) -> Self {
        let is_plain = plain_http || reference.is_loopback();
        let authority =
            if reference.registry == "docker.io" { "registry-1.docker.io" } else { &reference.registry };
        let base = format!("{}://{authority}", if is_plain { "http" } else { "https" });
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .timeout_connect(Some(CONNECTING))
            .http_status_as_error(false)
            .https_only(!is_plain);
        let (agent, authorization) = (config.build().into(), RefCell::new(None));
        Self { reference, agent, base, plain_http, authorization }
    }

    /// The component, of at most `limit` bytes.
    pub(crate) fn pull(&self, limit: usize) -> Result<Pulled> {
        let manifest = self.manifest().with_context(|| format!("cannot pull {}", self.reference))?;
        let layer = artifact::parse(&manifest).with_context(|| self.reference.to_string())?;
        let (size, allowed) = (layer.size, limit as u64);
        if size > allowed {
            bail!("{}: the component has {size} bytes, more than the limit of {limit} bytes", self.reference);
        }
        let component =
            self.blob(layer.digest, limit).with_context(|| format!("cannot pull {}", self.reference))?;
        let found = component.len();
        if found as u64 != size {
            bail!("{}: the component has {found} bytes, the manifest says {size}", self.reference);
        }
        Ok(Pulled { component, signature: layer.signature })
    }

    /// Stores a component under the reference's tag and returns the digest of its manifest.
    pub(crate) fn push(
        &self,
        label: &str,
        component: &[u8],
        signature: Option<&Signature>,
    ) -> Result<Digest> {
        let Version::Tag(tag) = &self.reference.version else {
            bail!("{}: found a digest, expected a tag to push to", self.reference);
        };
        let interfaces = InterfaceNames::of(label, component)?;
        let (config, manifest) = artifact::describe(component, &interfaces, signature);
        let push = || {
            self.upload(component)?;
            self.upload(&config)?;
            let url = self.url(&format!("manifests/{tag}"));
            let call =
                Call { method: Method::PUT, url, media_type: artifact::MANIFEST, body: Some(&manifest) };
            self.expect(&call, StatusCode::CREATED)
        };
        push().with_context(|| format!("cannot push {}", self.reference))?;
        Ok(Digest::of(&manifest))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base, self.reference.repository)
    }

    fn manifest(&self) -> Result<Vec<u8>> {
        let url = self.url(&format!("manifests/{}", self.reference.version));
        let call = Call { method: Method::GET, url, media_type: artifact::MANIFEST, body: None };
        let manifest = read(self.expect(&call, StatusCode::OK)?, MANIFEST_LIMIT, "the manifest")?;
        if let Version::Digest(expected) = self.reference.version {
            compare("the manifest", &manifest, expected)?;
        }
        Ok(manifest)
    }

    fn blob(&self, digest: Digest, limit: usize) -> Result<Vec<u8>> {
        let url = self.url(&format!("blobs/sha256:{digest}"));
        let call = Call { method: Method::GET, url, media_type: "*/*", body: None };
        let bytes = read(self.expect(&call, StatusCode::OK)?, limit, "the component")?;
        compare("the component", &bytes, digest)?;
        Ok(bytes)
    }

    /// Stores bytes that the registry does not have yet, in one piece.
    fn upload(&self, bytes: &[u8]) -> Result<()> {
        let digest = Digest::of(bytes);
        let url = self.url(&format!("blobs/sha256:{digest}"));
        let there = self.send(&Call { method: Method::HEAD, url, media_type: "*/*", body: None })?;
        if there.status() == StatusCode::OK {
            return Ok(());
        }
        let media_type = "application/octet-stream";
        let begin =
            Call { method: Method::POST, url: self.url("blobs/uploads/"), media_type, body: Some(&[]) };
        let begun = self.expect(&begin, StatusCode::ACCEPTED)?;
        let location = begun.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
        let location = location.context("the registry gave no Location to upload to")?;
        let location =
            if location.starts_with('/') { format!("{}{location}", self.base) } else { location.to_owned() };
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest=sha256:{digest}");
        self.expect(&Call { method: Method::PUT, url, media_type, body: Some(bytes) }, StatusCode::CREATED)?;
        Ok(())
    }

    /// The answer, if it has this status.
    fn expect(&self, call: &Call<'_>, expected: StatusCode) -> Result<Response<ureq::Body>> {
        let answer = self.send(call)?;
        let status = answer.status();
        if status == expected {
            return Ok(answer);
        }
        let said = error_text(answer);
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let registry = &self.reference.registry;
            let known = match Credentials::find(registry)? {
                Credentials::Basic(_) => "those of Docker's configuration file do not suffice".to_owned(),
                Credentials::None => "Docker's configuration file has none".to_owned(),
                Credentials::Helper(helper) => {
                    format!(
                        "docker-credential-{helper} keeps them, which is not asked; put them into `auths`"
                    )
                }
            };
            bail!("the registry {registry} answered {status}{said}: it wants credentials, and {known}");
        }
        bail!("the registry {} answered {status}{said}, expected {expected}", self.reference.registry)
    }

    /// Sends a request, once more with what the registry asks for if it refuses the first.
    fn send(&self, call: &Call<'_>) -> Result<Response<ureq::Body>> {
        let answer = self.attempt(call)?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let wanted = answer.headers().get(header::WWW_AUTHENTICATE).and_then(|wanted| wanted.to_str().ok());
        let authorization = match wanted.and_then(Challenge::parse) {
            Some(Challenge::Basic) => match Credentials::find(&self.reference.registry)? {
                Credentials::Basic(pair) => format!("Basic {pair}"),
                Credentials::None | Credentials::Helper(_) => return Ok(answer),
            },
            Some(Challenge::Bearer { realm, service, scope }) => {
                self.token(&realm, service.as_deref(), scope.as_deref())?
            }
            None => return Ok(answer),
        };
        *self.authorization.borrow_mut() = Some(authorization);
        self.attempt(call)
    }

    fn attempt(&self, call: &Call<'_>) -> Result<Response<ureq::Body>> {
        let (uri, is_registry) = self.destination(&call.url)?;
        let mut request = Request::builder().method(call.method.clone()).uri(uri);
        // An upload may go to another host, which the credentials are none of the business of.
        if let Some(authorization) = self.authorization.borrow().as_ref().filter(|_| is_registry) {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let name = if call.body.is_some() { header::CONTENT_TYPE } else { header::ACCEPT };
        request = request.header(name, call.media_type);
        let answer = match call.body {
            Some(body) => self.agent.run(request.body(body)?),
            None => self.agent.run(request.body(())?),
        };
        answer.with_context(|| format!("{} does not answer", call.url))
    }

    /// Checks where a request goes, and says whether that is the registry itself.
    fn destination(&self, url: &str) -> Result<(Uri, bool)> {
        let uri: Uri =
            url.parse().with_context(|| format!("the registry named \"{url}\", expected a URL"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let is_safe = uri.scheme_str() == Some("https")
            || (uri.scheme_str() == Some("http") && (self.plain_http || is_loopback(authority)));
        if !is_safe || authority.contains('@') {
            bail!("the registry sends us to \"{url}\", expected a URL that begins with https://");
        }
        let is_registry = self.base.split("://").nth(1) == Some(authority);
        Ok((uri, is_registry))
    }

    /// Asks for a token, with the credentials that there are.
    fn token(&self, realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<String> {
        let mut url = realm.to_owned();
        for (name, value) in [("service", service), ("scope", scope)] {
            if let Some(value) = value {
                url.push(if url.contains('?') { '&' } else { '?' });
                url.push_str(&format!("{name}={}", segment(value)));
            }
        }
        let (uri, _) = self.destination(&url)?;
        let mut request = Request::builder().uri(uri);
        if let Credentials::Basic(pair) = Credentials::find(&self.reference.registry)? {
            request = request.header(header::AUTHORIZATION, format!("Basic {pair}"));
        }
        let answer = self.agent.run(request.body(())?).with_context(|| format!("{realm} does not answer"))?;
        let status = answer.status();
        if status != StatusCode::OK {
            let said = error_text(answer);
            bail!("{realm} gives no token for {}: it answered {status}{said}", self.reference.registry);
        }
        let answer: Value = serde_json::from_slice(&read(answer, ANSWER_LIMIT, "the token")?)
            .with_context(|| format!("{realm}: found no JSON, expected a token"))?;
        let token = answer["token"].as_str().or_else(|| answer["access_token"].as_str());
        let token = token.with_context(|| format!("{realm}: found no \"token\" in its answer"))?;
        Ok(format!("Bearer {token}"))
    }
}

/// Reads an answer of at most `limit` bytes.
fn read(mut answer: Response<ureq::Body>, limit: usize, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let room = u64::try_from(limit)?.saturating_add(1);
    let mut body = answer.body_mut().as_reader().take(room);
    body.read_to_end(&mut bytes).with_context(|| format!("{what} broke off after {} bytes", bytes.len()))?;
    if bytes.len() > limit {
        bail!("{what} has more than the limit of {limit} bytes");
    }
    Ok(bytes)
}

fn compare(what: &str, bytes: &[u8], expected: Digest) -> Result<()> {
    let found = Digest::of(bytes);
    if found == expected {
        return Ok(());
    }
    bail!("{what} has the digest sha256:{found}, expected sha256:{expected}")
}

/// What a registry says of an error: `errors` with codes and messages.
fn error_text(answer: Response<ureq::Body>) -> String {
    let text = read(answer, ANSWER_LIMIT, "the error").unwrap_or_default();
    let body: Value = serde_json::from_slice(&text).unwrap_or_default();
    let error = &body["errors"][0];
    let parts = [&error["code"], &error["message"]].into_iter().filter_map(Value::as_str);
    let said: Vec<String> =
        parts.map(|part| part.chars().filter(|c| !c.is_control()).take(200).collect()).collect();
    if said.is_empty() { String::new() } else { format!(" ({})", said.join(": ")) }
}
