//! An OCI registry inside the test: blobs, uploads, manifests and tokens, as much as a client needs.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

/// `user:pass`, as a `Basic` header has it.
pub(crate) const CREDENTIALS: &str = "dXNlcjpwYXNz";
const TOKEN: &str = "a-token-of-the-test";

/// How the registry behaves.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    /// Where it sends a client without a token: `{address}` stands for its own address.
    pub(crate) realm: Option<&'static str>,
    /// Blobs never end.
    pub(crate) is_endless: bool,
}

/// What it holds.
#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) manifests: BTreeMap<String, Vec<u8>>,
    /// Method and path of each request.
    pub(crate) requests: Vec<String>,
    /// How much of an endless blob could be sent.
    pub(crate) sent: u64,
}

/// A registry that answers until the test's process ends.
pub(crate) struct TestRegistry {
    pub(crate) address: String,
    stored: Arc<Mutex<Stored>>,
}

struct Request {
    method: String,
    path: String,
    authorization: String,
    body: Vec<u8>,
}

impl TestRegistry {
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stored = Arc::<Mutex<Stored>>::default();
        let registry = Self { address: address.clone(), stored: Arc::clone(&stored) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (stored, behaviour, address) = (Arc::clone(&stored), behaviour.clone(), address.clone());
                std::thread::spawn(move || answer(stream, &stored, &behaviour, &address));
            }
        });
        registry
    }

    pub(crate) fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap()
    }
}

fn answer(stream: TcpStream, stored: &Mutex<Stored>, behaviour: &Behaviour, address: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some(request) = read(&mut reader) else { return };
    let mut stored = stored.lock().unwrap();
    stored.requests.push(format!("{} {}", request.method, request.path));
    if let Some(realm) = behaviour.realm {
        if request.path.starts_with("/token?") {
            let known = request.authorization == format!("Basic {CREDENTIALS}");
            let token = format!(r#"{{"token": "{TOKEN}"}}"#);
            let (status, body) = if known { ("200 OK", token.as_str()) } else { ("401 Unauthorized", "{}") };
            return respond(&stream, status, &[], body.as_bytes());
        }
        if request.authorization != format!("Bearer {TOKEN}") {
            let realm = realm.replace("{address}", address);
            let challenge = format!(
                "Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:team/router:pull,push\""
            );
            let body = br#"{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}"#;
            return respond(&stream, "401 Unauthorized", &[("WWW-Authenticate", &challenge)], body);
        }
    }
    let unknown = |code: &str| format!(r#"{{"errors": [{{"code": "{code}", "message": "not here"}}]}}"#);
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let Some((_, place)) = path.split_once("/team/router/") else {
        return respond(&stream, "404 Not Found", &[], unknown("NAME_UNKNOWN").as_bytes());
    };
    match (request.method.as_str(), place.rsplit_once('/').unwrap_or((place, ""))) {
        ("POST", ("blobs/uploads", "")) => {
            respond(&stream, "202 Accepted", &[("Location", "/v2/team/router/blobs/uploads/7?state=x")], b"");
        }
        ("PUT", ("blobs/uploads", "7")) => {
            let digest = query.split("digest=").nth(1).unwrap();
            stored.blobs.insert(digest.to_owned(), request.body);
            respond(&stream, "201 Created", &[], b"");
        }
        ("PUT", ("manifests", tag)) => {
            stored.manifests.insert(tag.to_owned(), request.body);
            respond(&stream, "201 Created", &[], b"");
        }
        ("GET", ("blobs", _)) if behaviour.is_endless => {
            let mut stream = &stream;
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").unwrap();
            let chunk = [0; 1 << 16];
            while stream.write_all(&chunk).is_ok() {
                stored.sent += chunk.len() as u64;
            }
        }
        ("GET" | "HEAD", (kind @ ("blobs" | "manifests"), name)) => {
            let held = if kind == "blobs" { &stored.blobs } else { &stored.manifests };
            match held.get(name) {
                Some(bytes) if request.method == "GET" => respond(&stream, "200 OK", &[], bytes),
                Some(_) => respond(&stream, "200 OK", &[], b""),
                None if request.method == "GET" => {
                    respond(&stream, "404 Not Found", &[], unknown("MANIFEST_UNKNOWN").as_bytes());
                }
                None => respond(&stream, "404 Not Found", &[], b""),
            }
        }
        _ => respond(&stream, "405 Method Not Allowed", &[], b""),
    }
}

/// Nothing where the client went away.
fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut authorization, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = value.to_owned(),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, authorization, body })
}

fn respond(mut stream: &TcpStream, status: &str, headers: &[(&str, &str)], body: &[u8]) {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    // A client that has seen enough may be gone.
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)));
}
