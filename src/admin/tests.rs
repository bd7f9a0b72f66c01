//! Both servers over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lbex_test_harness::ports::soon;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::publish::{BuildInfo, Metrics};

struct Running {
    state: Arc<HealthState>,
    health: Vec<SocketAddr>,
    metrics: SocketAddr,
    shutdown: CancellationToken,
    serving: Serving,
}

fn start(limits: Limits) -> Running {
    let local = |text: &str| text.parse::<SocketAddr>().unwrap();
    let settings =
        AdminSettings { health: vec![local("127.0.0.1:0"), local("[::]:0")], metrics: Some(local("127.0.0.1:0")) };
    let servers = AdminServers::bind(&settings).unwrap();
    let (health, metrics) = (servers.health_addresses(), servers.metrics_address().unwrap());
    let state = Arc::new(HealthState::new());
    let build = BuildInfo { version: "1".into(), commit: "c".into(), backend: "b".into() };
    let shutdown = CancellationToken::new();
    let numbers = Arc::new(Metrics::new(&build));
    let serving = servers.serve_within(limits, state.clone(), numbers, shutdown.clone()).unwrap();
    Running { state, health, metrics, shutdown, serving }
}

fn send(to: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// The whole answer to a request line.
fn ask(to: SocketAddr, line: &str) -> String {
    let mut answer = String::new();
    send(to, &format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n")).read_to_string(&mut answer).unwrap();
    answer
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn health_follows_the_state() {
    let lbex = start(Limits::default());
    for &address in &lbex.health {
        let to = if address.is_ipv6() { SocketAddr::new("::1".parse().unwrap(), address.port()) } else { address };
        lbex.state.set_proxy(false, "NGINX is not running");
        let sick = ask(to, "GET /");
        assert_eq!((status(&sick), body(&sick)), ("503", "NGINX is not running\n"));
        lbex.state.set_proxy(true, "");
        let well = ask(to, "GET /");
        assert_eq!((status(&well), body(&well)), ("200", "healthy\n"));
    }
    let to = lbex.health[0];
    assert_eq!(status(&ask(to, "GET /livez")), "200");
    assert_eq!(status(&ask(to, "GET /readyz")), "503");
    lbex.state.set_ready(true, "");
    assert_eq!(body(&ask(to, "GET /readyz?verbose")), "ready\n");
}

#[test]
fn methods_and_paths() {
    let lbex = start(Limits::default());
    lbex.state.set_proxy(true, "");
    let to = lbex.health[0];
    let head = ask(to, "HEAD /");
    assert_eq!((status(&head), body(&head)), ("200", ""));
    let post = ask(to, "POST /");
    assert!(status(&post) == "405" && post.contains("allow: GET, HEAD"), "{post}");
    assert_eq!(status(&ask(to, "GET /healthz")), "404");
    assert_eq!(status(&ask(to, "GET /metrics")), "404", "the health port has no metrics");
    assert_eq!(status(&ask(lbex.metrics, "GET /")), "404");
    assert_eq!(status(&ask(lbex.metrics, "DELETE /metrics")), "405");
    let metrics = ask(lbex.metrics, "GET /metrics");
    assert!(metrics.contains("content-type: application/openmetrics-text"), "{metrics}");
    assert!(metrics.contains("lbex_build_info{version=\"1\"") && metrics.ends_with("# EOF\n"), "{metrics}");
}

#[test]
fn a_body_is_ignored() {
    let lbex = start(Limits::default());
    lbex.state.set_proxy(true, "");
    let request = "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    let mut answer = String::new();
    send(lbex.health[0], request).read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), "200");
}

#[test]
fn silent_clients_are_cut_off() {
    let limits =
        Limits { head: Duration::from_millis(100), connection: Duration::from_millis(300), ..Limits::default() };
    let lbex = start(limits);
    for text in ["", "GET / HTTP/1.1\r\nX: "] {
        let began = Instant::now();
        let mut rest = Vec::new();
        // Reset or closed: either way the server let go.
        let _ = send(lbex.health[0], text).read_to_end(&mut rest);
        assert!(began.elapsed() < Duration::from_secs(5), "{text:?} was kept for {:?}", began.elapsed());
    }
}

#[test]
fn too_many_connections_make_way_for_new_ones() {
    let limits = Limits {
        connections: 4,
        head: Duration::from_secs(60),
        connection: Duration::from_secs(60),
        ..Limits::default()
    };
    let lbex = start(limits);
    lbex.state.set_proxy(true, "");
    let held: Vec<TcpStream> = (0..10).map(|_| send(lbex.health[0], "GET")).collect();
    assert_eq!(status(&ask(lbex.health[0], "GET /")), "200");
    let metrics = ask(lbex.metrics, "GET /metrics");
    assert!(metrics.contains("lbex_admin_connections_dropped_total 7\n"), "{metrics}");
    drop(held);
}

#[test]
fn ends_in_time_and_frees_its_ports() {
    let lbex = start(Limits { shutdown: Duration::from_millis(100), ..Limits::default() });
    let _open = send(lbex.health[0], "GET / HTT");
    lbex.shutdown.cancel();
    let wait = async { tokio::time::timeout(Duration::from_secs(5), lbex.serving.ended()).await };
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(wait).expect("ended");
    soon(|| TcpListener::bind(lbex.health[0])).expect("the port is free again");
}

#[test]
fn a_taken_port_names_port_flag_and_holder() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let everywhere = SocketAddr::new("0.0.0.0".parse().unwrap(), address.port());
    let error = AdminServers::bind(&AdminSettings { health: vec![everywhere], metrics: None }).unwrap_err().to_string();
    assert!(error.contains(&format!("health on {everywhere}")) && error.contains("--health-port"), "{error}");
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    let error = AdminServers::bind(&AdminSettings { health: vec![], metrics: Some(address) }).unwrap_err().to_string();
    assert!(error.contains("metrics") && error.contains("--metrics-address"), "{error}");
}

#[test]
fn nothing_listens_when_all_is_off() {
    let servers = AdminServers::bind(&AdminSettings::default()).unwrap();
    assert!(servers.health_addresses().is_empty() && servers.metrics_address().is_none());
}
