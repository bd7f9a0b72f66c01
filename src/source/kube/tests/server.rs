//! A scripted API server.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type Body = BoxBody<Bytes, std::io::Error>;

/// How an answer ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// As it should.
    Close,
    /// The connection breaks.
    Cut,
    /// Never: nothing more comes, as on a connection whose other end has died.
    Silence,
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    parts: Vec<(Duration, String)>,
    end: End,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: Vec::new(), parts: vec![(Duration::ZERO, body.to_string())], end: End::Close }
    }

    /// A page of a list; `more` is its continue token.
    pub(super) fn page(items: &[Value], version: u64, more: &str) -> Self {
        let metadata = json!({"resourceVersion": version.to_string(), "continue": more});
        Self::json(200, &json!({"kind": "List", "metadata": metadata, "items": items}))
    }

    /// The lines of a watch.
    pub(super) fn watch(lines: &[String], end: End) -> Self {
        let parts = lines.iter().map(|line| (Duration::ZERO, line.clone())).collect();
        Self { status: 200, headers: Vec::new(), parts, end }
    }

    /// Sends its text in `count` parts, with `pause` before each.
    pub(super) fn slowly(mut self, count: usize, pause: Duration) -> Self {
        let text: String = self.parts.drain(..).map(|(_, text)| text).collect();
        let size = text.len().div_ceil(count);
        let parts = text.as_bytes().chunks(size).map(|c| (pause, String::from_utf8(c.to_vec()).unwrap()));
        self.parts = parts.collect();
        self
    }

    pub(super) fn ending(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn response(self) -> Response<Body> {
        let Self { status, headers, parts, end } = self;
        let parts = stream::unfold((VecDeque::from(parts), end), |(mut parts, end)| async move {
            match (parts.pop_front(), end) {
                (Some((pause, text)), end) => {
                    tokio::time::sleep(pause).await;
                    Some((Ok(Frame::data(Bytes::from(text))), (parts, end)))
                }
                (None, End::Close) => None,
                (None, End::Cut) => {
                    // What was sent arrives.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Some((Err(std::io::Error::other("cut")), (parts, End::Close)))
                }
                (None, End::Silence) => std::future::pending().await,
            }
        });
        let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
        for (name, value) in headers {
            response = response.header(name, value);
        }
        response.body(BodyExt::boxed(StreamBody::new(parts))).unwrap()
    }
}

/// What came.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
}

impl Asked {
    /// A parameter of the query, as it was sent.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').filter_map(|p| p.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

#[derive(Default)]
struct Script {
    /// Answers by `list services`, `watch services`, `probe services` or a path; the last of a list stays.
    replies: BTreeMap<String, VecDeque<Reply>>,
    asked: Vec<Asked>,
    /// A bearer token that is needed.
    token: Option<String>,
}

/// A scripted API server. Without a script its lists are empty and its watches silent.
pub(super) struct Api {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    _tasks: JoinSet<()>,
}

impl Api {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(Script::default()));
        let mut tasks = JoinSet::new();
        let shared = script.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let script = shared.clone();
                let answer =
                    service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(&script, &request))));
                let server = hyper::server::conn::http1::Builder::new();
                connections.spawn(async move {
                    // A client may go away at any time.
                    drop(server.serve_connection(TokioIo::new(stream), answer).await);
                });
            }
        });
        Self { address, script, _tasks: tasks }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds an answer for `list RESOURCE`, `watch RESOURCE`, `probe RESOURCE` or a path.
    pub(super) fn on(&self, what: &str, reply: Reply) {
        self.script.lock().unwrap().replies.entry(what.to_owned()).or_default().push_back(reply);
    }

    /// Replaces what is left of the answers.
    pub(super) fn set(&self, what: &str, reply: Reply) {
        self.script.lock().unwrap().replies.insert(what.to_owned(), VecDeque::from([reply]));
    }

    /// From now on requests without this bearer token are answered with 401.
    pub(super) fn need_token(&self, token: &str) {
        self.script.lock().unwrap().token = Some(token.to_owned());
    }

    /// The requests whose path ends so.
    pub(super) fn asked(&self, path_end: &str) -> Vec<Asked> {
        self.script.lock().unwrap().asked.iter().filter(|a| a.path.ends_with(path_end)).cloned().collect()
    }

    /// The watches of a resource that followers began.
    pub(super) fn watches(&self, resource: &str) -> Vec<Asked> {
        self.asked(resource).into_iter().filter(|a| a.parameter("allowWatchBookmarks").is_some()).collect()
    }
}

fn answer(script: &Mutex<Script>, request: &Request<Incoming>) -> Response<Body> {
    let asked = Asked {
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: request.headers().clone(),
    };
    let mut script = script.lock().unwrap();
    let reply = script.reply(&asked);
    script.asked.push(asked);
    reply.map_or_else(
        || {
            let empty = Full::new(Bytes::new()).map_err(|never: Infallible| match never {}).boxed();
            Response::builder().status(404).body(empty).unwrap()
        },
        Reply::response,
    )
}

impl Script {
    fn reply(&mut self, asked: &Asked) -> Option<Reply> {
        let bearer = asked.headers.get("authorization").and_then(|value| value.to_str().ok());
        if self.token.as_ref().is_some_and(|token| bearer != Some(&format!("Bearer {token}"))) {
            return Some(Reply::json(401, &json!({"kind": "Status", "message": "Unauthorized", "code": 401})));
        }
        if let Some(replies) = self.replies.get_mut(&asked.path) {
            return if replies.len() > 1 { replies.pop_front() } else { replies.front().cloned() };
        }
        match asked.path.as_str() {
            "/version" => return Some(Reply::json(200, &json!({"gitVersion": "v1.36.0-script"}))),
            "/api/v1/namespaces/kube-system" => {
                return Some(Reply::json(200, &json!({"metadata": {"uid": "cluster-a"}})));
            }
            "/apis/discovery.k8s.io/v1" => {
                return Some(Reply::json(200, &json!({"resources": [{"name": "endpointslices"}]})));
            }
            _ => {}
        }
        let resource = asked.path.rsplit('/').next()?;
        let namespace = asked.path.split("/namespaces/").nth(1).and_then(|rest| rest.split('/').next());
        let object = namespace.map_or_else(|| resource.to_owned(), |n| format!("{n}/{resource}"));
        let verb = match (asked.parameter("watch"), asked.parameter("limit"), asked.parameter("allowWatchBookmarks")) {
            (Some(_), _, Some(_)) => "watch",
            (Some(_), _, None) => "probe-watch",
            (None, Some("1"), _) => "probe",
            _ => "list",
        };
        let replies = self.replies.entry(format!("{verb} {object}")).or_default();
        let scripted =
            if verb == "list" && replies.len() == 1 { replies.front().cloned() } else { replies.pop_front() };
        scripted.or_else(|| match verb {
            // Quiet, and then over, as a real one.
            "watch" => Some(Reply::watch(&["\n".to_owned()], End::Close).slowly(1, Duration::from_secs(1))),
            "probe-watch" => Some(Reply::watch(&[], End::Close)),
            "probe" => Some(Reply::page(&[], 1_000_000, "")),
            _ => Some(Reply::page(&[], 1, "")),
        })
    }
}
