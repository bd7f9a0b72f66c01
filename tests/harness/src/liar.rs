//! An API server that says what a test tells it to say: lists that lie, versions that go back, another cluster, objects that a real
//! one would refuse.
//!
//! It knows Services, Nodes and EndpointSlices, lists them in pages, and watches on which happens what the test says. It asks for no
//! credentials: LBEX gets its address as `--proxy`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::objects::Object;

/// How long a watch lasts if nothing happens; then another begins.
const WATCH: Duration = Duration::from_secs(20);

/// The stand-in. It serves until it is dropped.
#[derive(Debug)]
pub struct Liar {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    identity: String,
    version: u64,
    /// Watches from before this version are told that it is too old.
    oldest: u64,
    /// What lists say, by the plural.
    lists: BTreeMap<String, Vec<Value>>,
    /// When what is on a list last changed, by the plural: a watch from before that has missed it.
    changed: BTreeMap<String, u64>,
    watches: Vec<(String, mpsc::Sender<String>)>,
    ended: bool,
}

impl Liar {
    /// Starts with empty lists, as the cluster `first`.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("failed to bind")?;
        let address = listener.local_addr().context("no address")?;
        let state = State { identity: "first".to_owned(), version: 1000, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if lock(&shared).ended {
                    return;
                }
                let state = shared.clone();
                // A client that goes away is no concern of the server.
                std::thread::spawn(move || answer(&state, &stream).ok());
            }
        });
        Ok(Self { address, state })
    }

    /// Its address, for `--proxy`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What lists of `services`, `nodes` or `endpointslices` say from now on. Watches are silent about it.
    pub fn set<'a>(&self, plural: &str, objects: impl IntoIterator<Item = &'a dyn Object>) {
        let mut state = lock(&self.state);
        state.version += 1;
        let version = state.version.to_string();
        let objects = objects.into_iter().map(|object| complete(plural, object, &version)).collect();
        state.lists.insert(plural.to_owned(), objects);
    }

    /// Makes or replaces an object: on the list, and on its watches. A watch that missed it is told that its version is too old.
    pub fn put(&self, plural: &str, object: &dyn Object) {
        self.change(plural, object, true);
    }

    /// Deletes an object, as [`put`](Self::put) makes one.
    pub fn remove(&self, plural: &str, object: &dyn Object) {
        self.change(plural, object, false);
    }

    fn change(&self, plural: &str, object: &dyn Object, there: bool) {
        let mut state = lock(&self.state);
        state.version += 1;
        let version = state.version;
        state.changed.insert(plural.to_owned(), version);
        let object = complete(plural, object, &version.to_string());
        let list = state.lists.entry(plural.to_owned()).or_default();
        let of = |object: &Value| (object["metadata"]["namespace"].clone(), object["metadata"]["name"].clone());
        let old = list.iter().position(|one| of(one) == of(&object));
        let what = match (old, there) {
            (Some(place), true) => {
                list[place].clone_from(&object);
                "MODIFIED"
            }
            (Some(place), false) => {
                list.remove(place);
                "DELETED"
            }
            (None, true) => {
                list.push(object.clone());
                "ADDED"
            }
            // A list that lies may lack it, and watches knew it.
            (None, false) => "DELETED",
        };
        tell(&state, plural, what, &object);
    }

    /// The UID of the namespace `kube-system` from now on.
    pub fn set_identity(&self, uid: &str) {
        uid.clone_into(&mut lock(&self.state).identity);
    }

    /// The version of the cluster from now on: less than before is a restored backup.
    pub fn set_version(&self, version: u64) {
        let mut state = lock(&self.state);
        (state.version, state.oldest) = (version, 0);
        state.changed.clear();
    }

    /// Says on every watch that its version is too old, so that everything is listed anew.
    pub fn expire(&self) {
        let mut state = lock(&self.state);
        state.version += 1;
        state.oldest = state.version;
        for (_, watch) in state.watches.drain(..) {
            // Some are over already.
            watch.send(failure(410, "Expired")).ok();
        }
    }

    /// Breaks every watch off.
    pub fn disconnect(&self) {
        lock(&self.state).watches.clear();
    }

    /// Whether anybody watches: what is said before that is heard by nobody.
    pub fn is_watched(&self, plural: &str) -> bool {
        lock(&self.state).watches.iter().any(|(of, _)| of == plural)
    }

    /// Says on the watches of `plural` that something happened to an object: `ADDED`, `MODIFIED`, `DELETED`.
    pub fn event(&self, plural: &str, what: &str, object: &dyn Object) {
        let mut state = lock(&self.state);
        state.version += 1;
        let object = complete(plural, object, &state.version.to_string());
        tell(&state, plural, what, &object);
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.ended = true;
        state.watches.clear();
        drop(state);
        // So that the listener looks.
        drop(TcpStream::connect(self.address));
    }
}

/// The object with what an API server adds.
fn complete(plural: &str, object: &dyn Object, version: &str) -> Value {
    let mut object = object.json();
    object["metadata"]["resourceVersion"] = json!(version);
    if plural != "nodes" && object["metadata"]["namespace"].is_null() {
        object["metadata"]["namespace"] = json!("default");
    }
    object
}

fn tell(state: &State, plural: &str, what: &str, object: &Value) {
    let line = json!({"type": what, "object": object}).to_string();
    for (_, watch) in state.watches.iter().filter(|(of, _)| of == plural) {
        // Some are over already.
        watch.send(line.clone()).ok();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one request, and closes the connection.
fn answer(state: &Mutex<State>, stream: &TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let target = request.split_ascii_whitespace().nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameter = |name: &str| query.split('&').filter_map(|p| p.split_once('=')).find(|(key, _)| *key == name);
    let number = |name: &str| parameter(name).and_then(|(_, value)| value.parse::<usize>().ok());
    match path {
        "/version" => return respond(stream, "200 OK", &json!({"gitVersion": "v1.36.0-liar"})),
        "/apis/discovery.k8s.io/v1" => {
            return respond(stream, "200 OK", &json!({"resources": [{"name": "endpointslices"}]}));
        }
        "/api/v1/namespaces/kube-system" => {
            let identity = lock(state).identity.clone();
            return respond(stream, "200 OK", &json!({"metadata": {"name": "kube-system", "uid": identity}}));
        }
        _ => {}
    }
    let plural = path.rsplit('/').next().unwrap_or_default();
    if !["services", "nodes", "endpointslices"].contains(&plural) {
        return respond(stream, "404 Not Found", &json!({"kind": "Status", "code": 404, "message": "not found"}));
    }
    if parameter("watch").is_some() {
        return watch(state, stream, plural, number("resourceVersion").unwrap_or_default() as u64);
    }
    let page = page(state, plural, number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
    respond(stream, "200 OK", &page)
}

/// A page of a list; `continue` is the number of the next object.
fn page(state: &Mutex<State>, plural: &str, from: usize, limit: usize) -> Value {
    let state = lock(state);
    let all = state.lists.get(plural).map_or(&[][..], Vec::as_slice);
    let items: Vec<_> = all.iter().skip(from).take(limit).collect();
    let end = from + items.len();
    let mut metadata = json!({"resourceVersion": state.version.to_string()});
    if end < all.len() {
        metadata["continue"] = json!(end.to_string());
    }
    json!({"kind": "List", "metadata": metadata, "items": items})
}

fn respond(mut stream: &TcpStream, status: &str, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let length = body.len();
    let head = "Content-Type: application/json\r\nConnection: close\r\n";
    write!(stream, "HTTP/1.1 {status}\r\n{head}Content-Length: {length}\r\n\r\n{body}")
}

/// The line of a watch that ends it.
fn failure(code: u16, reason: &str) -> String {
    let status = json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": reason});
    json!({"type": "ERROR", "object": status}).to_string()
}

fn watch(state: &Mutex<State>, mut stream: &TcpStream, plural: &str, from: u64) -> io::Result<()> {
    let (sender, lines) = mpsc::channel();
    {
        let mut state = lock(state);
        let refused = match from {
            from if from < state.oldest.max(state.changed.get(plural).copied().unwrap_or(0)) => {
                Some(failure(410, "Expired"))
            }
            from if from > state.version => Some(failure(504, "Timeout")),
            _ => None,
        };
        match refused {
            // The receiver is there: this cannot fail.
            Some(line) => drop(sender.send(line)),
            None => state.watches.push((plural.to_owned(), sender)),
        }
    }
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n\n")?;
    let end = std::time::Instant::now() + WATCH;
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(std::time::Instant::now())) {
        writeln!(stream, "{line}")?;
        stream.flush()?;
    }
    Ok(())
}
