//! What is refused: every documented error, and that nothing changes by it.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use lbex_plus_standin::StandIn;
use lbex_plus_standin::api::{Code, Upstream};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{call, json};

const SERVERS: &str = "/api/9/stream/upstreams/web/servers";

/// A stand-in with `web` (servers 0 and 1, the second immutable), `static` without a zone, and `full`.
async fn started() -> Result<StandIn> {
    let servers = ["10.0.0.1:80".parse()?, "10.0.0.2:80".parse()?];
    let builder = StandIn::builder().tcp(0).upstream("web", &servers).upstream("full", &servers[..1]);
    let plus = builder.upstream("static", &servers).start().await?;
    plus.change(|state| {
        state.upstreams.entry("web".to_owned()).and_modify(|web: &mut Upstream| web.servers[1].immutable = true);
        state.upstreams.entry("static".to_owned()).and_modify(|upstream| upstream.zone = None);
        state.upstreams.entry("full".to_owned()).and_modify(|upstream| upstream.room = 1);
    })
    .await?;
    Ok(plus)
}

/// Method, path below `/api/9/stream/upstreams`, body, the error.
const REFUSED: &[(&str, &str, &str, Code)] = &[
    ("GET", "/static/servers", "", Code::UpstreamStatic),
    ("POST", "/static/servers", r#"{"server": "10.0.0.3:80"}"#, Code::UpstreamStatic),
    ("PATCH", "/static/servers/0", "{}", Code::UpstreamStatic),
    ("DELETE", "/static/servers/0", "", Code::UpstreamStatic),
    ("POST", "/web/servers", "{}", Code::UpstreamConfFormatError),
    ("POST", "/web/servers", "[]", Code::UpstreamConfFormatError),
    ("POST", "/web/servers", r#"{"server": 80}"#, Code::UpstreamConfFormatError),
    ("POST", "/web/servers", r#"{"server": "10.0.0.3:80", "drain": true}"#, Code::UpstreamConfFormatError),
    ("POST", "/web/servers", r#"{"server": "10.0.0.3:80", "down": "yes"}"#, Code::UpstreamConfFormatError),
    ("POST", "/web/servers", r#"{"server": "10.0.0.3:80", "weight": [1]}"#, Code::UpstreamConfFormatError),
    ("POST", "/web/servers", r#"{"server": "10.0.0.3:80", "id": 7}"#, Code::UpstreamConfFormatError),
    ("POST", "/web/servers", r#"{"server": "10.0.0.3"}"#, Code::UpstreamBadAddress),
    ("POST", "/web/servers", r#"{"server": "fd00::1:80:x"}"#, Code::UpstreamBadAddress),
    ("POST", "/web/servers", r#"{"server": "10.0.0.3:80", "weight": 0}"#, Code::UpstreamBadWeight),
    ("POST", "/web/servers", r#"{"server": "10.0.0.3:80", "weight": "1"}"#, Code::UpstreamBadWeight),
    ("POST", "/web/servers", r#"{"server": "10.0.0.3:80", "max_conns": -1}"#, Code::UpstreamBadMaxConns),
    ("POST", "/web/servers", r#"{"server": "10.0.0.3:80", "max_fails": 1.5}"#, Code::UpstreamBadMaxFails),
    ("POST", "/web/servers", r#"{"server": "10.0.0.3:80", "fail_timeout": "soon"}"#, Code::UpstreamBadFailTimeout),
    ("POST", "/web/servers", r#"{"server": "10.0.0.3:80", "fail_timeout": ""}"#, Code::UpstreamBadFailTimeout),
    ("POST", "/web/servers", r#"{"server": "10.0.0.3:80", "slow_start": 5}"#, Code::UpstreamBadSlowStart),
    ("POST", "/web/servers", r#"{"server": "10.0.0.3:80", "id": 0}"#, Code::EntryExists),
    ("POST", "/web/servers", r#"{"server": "#, Code::JsonError),
    ("POST", "/web/servers", "", Code::JsonError),
    ("POST", "/full/servers", r#"{"server": "10.0.0.3:80"}"#, Code::UpstreamOutOfMemory),
    ("GET", "/web/servers/one", "", Code::UpstreamBadServerId),
    ("PATCH", "/web/servers/-1", "{}", Code::UpstreamBadServerId),
    ("DELETE", "/web/servers/0x0", "", Code::UpstreamBadServerId),
    ("GET", "/web/servers/7", "", Code::UpstreamServerNotFound),
    ("PATCH", "/web/servers/7", r#"{"down": true}"#, Code::UpstreamServerNotFound),
    ("DELETE", "/web/servers/7", "", Code::UpstreamServerNotFound),
    ("PATCH", "/web/servers/1", r#"{"server": "10.0.0.9:80"}"#, Code::UpstreamServerImmutable),
    ("DELETE", "/web/servers/1", "", Code::UpstreamServerImmutable),
    ("PATCH", "/web/servers/0", r#"{"backup": true}"#, Code::UpstreamConfFormatError),
    ("PATCH", "/web/servers/0", r#"{"id": 9}"#, Code::UpstreamConfFormatError),
    ("PATCH", "/web/servers/0", r#"{"service": "x"}"#, Code::UpstreamConfFormatError),
    ("PATCH", "/web/servers/0", r#"{"server": "nobody"}"#, Code::UpstreamBadAddress),
    ("PATCH", "/web/servers/0", r#"{"down": true, "weight": 0}"#, Code::UpstreamBadWeight),
    ("PATCH", "/web/servers/0", "{", Code::JsonError),
    ("GET", "/none/servers", "", Code::UpstreamNotFound),
    ("POST", "/none/servers", r#"{"server": "10.0.0.3:80"}"#, Code::UpstreamNotFound),
    ("PATCH", "/none/servers/0", "{}", Code::UpstreamNotFound),
    ("DELETE", "/none/servers/0", "", Code::UpstreamNotFound),
    ("GET", "/none", "", Code::UpstreamNotFound),
    ("PUT", "/web/servers", "{}", Code::MethodNotAllowed),
    ("DELETE", "/web/servers", "", Code::MethodNotAllowed),
    ("POST", "/web/servers/0", "{}", Code::MethodNotAllowed),
    ("POST", "/", "{}", Code::MethodNotAllowed),
    ("GET", "/web/nothing", "", Code::PathNotFound),
    ("GET", "/web/servers/0/more", "", Code::PathNotFound),
];

#[tokio::test]
async fn each_has_its_code_and_status_and_changes_nothing() -> Result<()> {
    let plus = started().await?;
    let before = format!("{:?}", plus.state().upstreams);
    for (method, path, body, code) in REFUSED {
        let path = format!("/api/9/stream/upstreams{path}");
        let answer = json(plus.address(), method, &path, body, code.status()).await?;
        let error = &answer["error"];
        ensure!(error["code"] == code.to_string(), "{method} {path} {body}: {answer}, not {code}");
        ensure!(error["status"] == code.status(), "{answer}");
        ensure!(error["text"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
        ensure!(
            answer["request_id"].as_str().is_some_and(|id| id.len() == 32) && answer["href"].is_string(),
            "{answer}"
        );
        ensure!(format!("{:?}", plus.state().upstreams) == before, "{method} {path} {body} changed something");
    }
    Ok(())
}

#[tokio::test]
async fn every_code_is_shown_here() -> Result<()> {
    let elsewhere = [Code::BodyReadError, Code::UnknownVersion, Code::MethodDisabled];
    let shown: BTreeSet<Code> = REFUSED.iter().map(|(.., code)| *code).chain(elsewhere).collect();
    assert_eq!(shown, BTreeSet::from(Code::ALL));
    let statuses: BTreeSet<u16> = Code::ALL.iter().map(|code| code.status()).collect();
    assert_eq!(statuses, BTreeSet::from([400, 404, 405, 409, 415]));
    Ok(())
}

#[tokio::test]
async fn a_version_that_it_does_not_have_is_unknown() -> Result<()> {
    let plus = started().await?;
    for path in ["/api/10/nginx", "/api/0/stream/upstreams/", "/api/latest/nginx"] {
        assert_eq!(json(plus.address(), "GET", path, "", 404).await?["error"]["code"], "UnknownVersion");
    }
    for path in ["/", "/apis/9/nginx", "/api/9/http/upstreams/", "/api/9/stream/server_zones/none"] {
        assert_eq!(json(plus.address(), "GET", path, "", 404).await?["error"]["code"], "PathNotFound");
    }
    Ok(())
}

#[tokio::test]
async fn without_write_on_it_can_be_read_only() -> Result<()> {
    let plus = StandIn::builder().tcp(0).read_only().upstream("web", &["10.0.0.1:80".parse()?]).start().await?;
    for (method, path) in
        [("POST", SERVERS.to_owned()), ("PATCH", format!("{SERVERS}/0")), ("DELETE", format!("{SERVERS}/0"))]
    {
        let answer = json(plus.address(), method, &path, r#"{"server": "10.0.0.2:80"}"#, 405).await?;
        assert_eq!(answer["error"]["code"], "MethodDisabled");
    }
    assert_eq!(json(plus.address(), "GET", SERVERS, "", 200).await?[0]["server"], json!("10.0.0.1:80"));
    // A method that the path never has is another error.
    assert_eq!(json(plus.address(), "PUT", SERVERS, "", 405).await?["error"]["code"], "MethodNotAllowed");
    Ok(())
}

#[tokio::test]
async fn a_body_that_does_not_come_whole_or_is_too_large_is_an_error() -> Result<()> {
    let plus = started().await?;
    let mut stream = TcpStream::connect(plus.address()).await?;
    let head = format!("POST {SERVERS} HTTP/1.1\r\nHost: plus\r\nContent-Length: 30\r\n\r\n{{\"server\"");
    stream.write_all(head.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("BodyReadError"), "{answer:?}");
    let large = format!("{{\"server\": \"{}\"}}", "x".repeat(70_000));
    let answer = call(plus.address(), "POST", SERVERS, &large).await?;
    assert_eq!((answer.status, &answer.json()?["error"]["code"]), (400, &json!("BodyReadError")));
    assert_eq!(plus.state().servers("web").map(<[_]>::len), Some(2));
    Ok(())
}
