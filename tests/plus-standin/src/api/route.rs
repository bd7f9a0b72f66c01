//! From a request to an answer.

use serde_json::{Value, json};

use super::server::object;
use super::{ApiError, Code, Server, State, status};

/// The methods that change something.
const WRITING: [&str; 3] = ["POST", "PATCH", "DELETE"];

/// A request, as far as the API looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// `GET`, `POST`, ...
    pub method: &'a str,
    /// The path, from `/`, without a query.
    pub path: &'a str,
    /// The body; `None` if it could not be read whole.
    pub body: Option<&'a [u8]>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The document; `None` for an empty body.
    pub json: Option<Value>,
}

type Result<T = Answer> = std::result::Result<T, ApiError>;

/// Answers a request; `state` is changed as the answer says, or not at all. `id` becomes an error's `request_id`.
pub fn answer(state: &mut State, request: &Request<'_>, id: &str) -> Answer {
    respond(state, request).unwrap_or_else(|error| Answer { status: error.code.status(), json: Some(error.json(id)) })
}

fn ok(json: Value) -> Answer {
    Answer { status: 200, json: Some(json) }
}

fn respond(state: &mut State, request: &Request<'_>) -> Result {
    let not_found = || Code::PathNotFound.because("path not found");
    let path = request.path.strip_prefix("/api").filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let path: Vec<&str> = path.ok_or_else(not_found)?.split('/').filter(|part| !part.is_empty()).collect();
    let Some((version, path)) = path.split_first() else {
        return reading(request, json!(state.versions));
    };
    if !version.parse().is_ok_and(|version| state.versions.contains(&version)) {
        return Err(Code::UnknownVersion.because("unknown version"));
    }
    match *path {
        [] => reading(request, json!(["nginx", "stream"])),
        ["nginx"] => reading(request, status::nginx(state)),
        ["stream"] => reading(request, json!(["server_zones", "upstreams"])),
        ["stream", "upstreams"] => reading(request, status::upstreams(state)),
        ["stream", "upstreams", name] => {
            let upstream = status::upstream(state.upstream(name)?);
            reading(request, upstream)
        }
        ["stream", "upstreams", name, "servers"] => servers(state, request, name),
        ["stream", "upstreams", name, "servers", id] => server(state, request, name, id),
        ["stream", "server_zones"] => reading(request, status::zones(state)),
        ["stream", "server_zones", name] => {
            let zone = state.zones.get(name).map(status::zone);
            reading(request, zone.ok_or_else(not_found)?)
        }
        _ => Err(not_found()),
    }
}

/// A path that is read only. (The real one resets some counters on DELETE: the stand-in has none to reset.)
fn reading(request: &Request<'_>, document: Value) -> Result {
    allow(request, &["GET"], true)?;
    Ok(ok(document))
}

/// Fails unless the method is one of these, and no writing one where `write` is off.
fn allow(request: &Request<'_>, methods: &[&str], write: bool) -> Result<()> {
    if !methods.contains(&request.method) {
        return Err(Code::MethodNotAllowed.because("method not allowed"));
    }
    if WRITING.contains(&request.method) && !write {
        return Err(Code::MethodDisabled.because("method disabled"));
    }
    Ok(())
}

fn servers(state: &mut State, request: &Request<'_>, name: &str) -> Result {
    allow(request, &["GET", "POST"], state.write)?;
    let upstream = state.upstream(name)?;
    if request.method == "GET" {
        return Ok(ok(json!(upstream.servers)));
    }
    let mut object = object(body(request)?)?;
    // The id is the API's to give. One that is in use is somebody's who means to replace a server.
    if let Some(id) = object.remove("id") {
        if upstream.servers.iter().any(|server| id == json!(server.id)) {
            return Err(Code::EntryExists.because("entry exists"));
        }
        return Err(Code::UpstreamConfFormatError.because("unknown parameter \"id\""));
    }
    let server = Server::posted(upstream.next_id(), &object)?;
    if upstream.servers.len() >= upstream.room {
        return Err(Code::UpstreamOutOfMemory.because(format!("upstream \"{name}\" memory exhausted")));
    }
    upstream.take_id();
    upstream.servers.push(server.clone());
    Ok(Answer { status: 201, json: Some(json!(server)) })
}

fn server(state: &mut State, request: &Request<'_>, name: &str, id: &str) -> Result {
    allow(request, &["GET", "PATCH", "DELETE"], state.write)?;
    let upstream = state.upstream(name)?;
    let index = upstream.index(id)?;
    match request.method {
        "PATCH" => {
            let server = upstream.servers[index].patched(&object(body(request)?)?)?;
            upstream.servers[index] = server;
        }
        "DELETE" => {
            if upstream.servers[index].immutable {
                return Err(Code::UpstreamServerImmutable.because("server removal not allowed"));
            }
            let gone = upstream.servers.remove(index);
            upstream.peers.remove(&gone.id);
            return Ok(ok(json!(upstream.servers)));
        }
        _ => {}
    }
    Ok(ok(json!(upstream.servers[index])))
}

fn body<'a>(request: &Request<'a>) -> Result<&'a [u8]> {
    request.body.ok_or_else(|| Code::BodyReadError.because("reading request body failed"))
}
