//! Services that NGINX refuses. Types keep LBEX from writing such, so these tests change what was rendered.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/common/net.rs"]
mod net;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use common::{change, key, nginxes, on, service, tcp, udp};
use lbex_core::backend::Instead;
use lbex_core::desired::{Listener, ServiceConfig};
use net::{ask_tcp, free_port, own_address, server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::state::Edit;
use super::*;

struct Bench {
    backend: NginxBackend,
    prefix: PathBuf,
    state: DesiredState,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn open(edit: Edit) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let prefix = folder.path().join("p");
        let choice = nginxes().remove(0);
        let options = NginxOptions {
            choice,
            prefix: prefix.clone(),
            worker_shutdown_timeout: None,
            endpoint_updates: EndpointUpdates::default(),
            starter: lbex_backend_nginx::process::Starter::Own,
            socket_keeper: None,
        };
        let backend = NginxBackend::open(options).await.expect("opened");
        *backend.edit.lock().expect("not poisoned") = Some(edit);
        Self { backend, prefix, state: DesiredState::default(), _folder: folder }
    }

    async fn apply(&mut self, services: &[Arc<ServiceConfig>]) -> Result<ApplyReport, BackendError> {
        let (state, delta) = change(&self.state, services);
        let report = self.backend.apply(&state, &delta).await?;
        self.state = state;
        Ok(report)
    }

    async fn stop(self) {
        self.backend.stop(Duration::from_millis(200)).await.expect("stopped");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.prefix.join("run/nginx.pid")).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

fn tcp_at(address: SocketAddr, servers: &[SocketAddr]) -> Listener {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
    on(tcp(address.port(), &servers), &[&address.ip().to_string()])
}

fn web(name: &str, address: SocketAddr, server: SocketAddr) -> Arc<ServiceConfig> {
    service(name, vec![tcp_at(address, &[server])])
}

fn place(home: IpAddr) -> SocketAddr {
    SocketAddr::new(home, free_port(home))
}

/// Services whose idle timeout is 7 s get a directive that does not exist.
fn nonsense(_: &ServiceKey, text: &str) -> String {
    text.replace("proxy_timeout 7s;", "proxy_nonsense 7s;")
}

fn broken(listener: Listener) -> Listener {
    Listener { idle_timeout: Duration::from_secs(7), ..listener }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_nginx_refuses_keeps_its_last_good_state_and_the_rest_goes_ahead() {
    let mut bench = Bench::open(nonsense).await;
    let home = own_address();
    let (one, two) = (server("one", home), server("two", home));
    let (a, b, c) = (place(home), place(home), place(home));
    bench.apply(&[web("a", a, one), web("b", b, one)]).await.expect("applied");

    // `a` and `c` are refused; `b` changes.
    let bad_a = service("a", vec![broken(tcp_at(a, &[two]))]);
    let bad_c = service("c", vec![broken(tcp_at(c, &[two]))]);
    let report = bench.apply(&[bad_a.clone(), web("b", b, two), bad_c]).await.expect("applied");
    assert_eq!(report.action, Action::Reloaded);
    let refusal = |name| report.refused[&key(name)][0].clone();
    assert_eq!((refusal("a").code, refusal("a").instead), ("ConfigurationRefused", Instead::LastGood));
    assert_eq!((refusal("c").instead, refusal("c").retry), (Instead::LeftOut, false));
    assert!(refusal("a").message.contains("unknown directive \"proxy_nonsense\""), "{}", refusal("a"));
    assert_eq!((ask_tcp(a).as_deref(), ask_tcp(b).as_deref(), ask_tcp(c)), (Some("one"), Some("two"), None));

    // It is told again, and not tried again.
    let before = bench.backend.state.lock().await.verdicts.clone();
    assert_eq!(before.len(), 2);
    let report = bench.apply(&[bad_a, web("b", b, one)]).await.expect("applied");
    assert_eq!(report.refused[&key("a")][0].instead, Instead::LastGood);
    assert_eq!(bench.backend.state.lock().await.verdicts.len(), 1, "verdicts go with their Services");

    // Mended.
    let report = bench.apply(&[web("a", a, two), web("b", b, one)]).await.expect("applied");
    assert!(report.refused.is_empty());
    assert_eq!((ask_tcp(a).as_deref(), ask_tcp(b).as_deref()), (Some("two"), Some("one")));
    assert!(bench.backend.state.lock().await.verdicts.is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_lbex_falls_back_to_the_last_good_state_of_the_one_before() {
    let mut bench = Bench::open(nonsense).await;
    let home = own_address();
    let (one, a) = (server("one", home), place(home));
    bench.apply(&[web("a", a, one)]).await.expect("applied");
    // As another process would see it.
    *bench.backend.state.lock().await = State::default();
    bench.state = DesiredState::default();
    let report = bench.apply(&[service("a", vec![broken(tcp_at(a, &[one]))])]).await.expect("applied");
    assert_eq!((report.action, report.refused[&key("a")][0].instead), (Action::Unchanged, Instead::LastGood));
    assert_eq!(ask_tcp(a).as_deref(), Some("one"));
    bench.stop().await;
}

/// Services named `hidden` listen on an address that no host has, in a way that LBEX does not read.
fn hidden(key: &ServiceKey, text: &str) -> String {
    let line = "server {\n    \"listen\" 192.0.2.1:9;\n    return \"\";\n}\n";
    if key.name.as_str().starts_with("hidden") { text.to_owned() + line } else { text.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_nginx_does_not_name_is_found_by_halving() {
    let mut bench = Bench::open(hidden).await;
    let home = own_address();
    let one = server("one", home);
    let places: Vec<SocketAddr> = (0..12).map(|_| place(home)).collect();
    let services: Vec<_> = places
        .iter()
        .enumerate()
        .map(|(n, address)| web(&if n == 5 { "hidden".to_owned() } else { format!("s{n}") }, *address, one))
        .collect();
    let report = bench.apply(&services).await.expect("applied");
    assert_eq!(report.refused.keys().collect::<Vec<_>>(), [&key("hidden")]);
    assert!(report.refused[&key("hidden")][0].retry, "it may be different tomorrow");
    for (n, address) in places.iter().enumerate() {
        assert_eq!(ask_tcp(*address).is_some(), n != 5, "{n}");
    }
    bench.stop().await;
}

static TAKEN: AtomicU16 = AtomicU16::new(0);

/// Services named `late...` listen on TCP too, on a port that this test holds; `-t` does not mind, and LBEX does not see it.
fn late(key: &ServiceKey, text: &str) -> String {
    let home = text.split("listen ").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or_default();
    let line = format!("server {{\n    \"listen\" {home}:{};\n    return \"\";\n}}\n", TAKEN.load(Ordering::Relaxed));
    if key.name.as_str().starts_with("late") { text.to_owned() + &line } else { text.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_fails_is_put_down_to_the_service_whose_port_it_is() {
    let mut bench = Bench::open(late).await;
    let home = own_address();
    let (one, a, taken) = (server("one", home), place(home), place(home));
    TAKEN.store(taken.port(), Ordering::Relaxed);
    let _holder = TcpListener::bind(taken).expect("bound");
    bench.apply(&[web("a", a, one)]).await.expect("applied");
    let master = bench.backend.nginx.status().await.expect("it runs").id;

    // A port that was taken after it was probed: here, the TCP port of a UDP listener.
    let late = service("late", vec![on(udp(taken.port(), &[]), &[&home.to_string()])]);
    let b = place(home);
    let report = bench.apply(&[web("a", a, one), web("b", b, one), late]).await.expect("applied");
    assert_eq!(report.refused[&key("late")][0].code, "PortInUse");
    assert_eq!((report.refused.len(), ask_tcp(a).as_deref(), ask_tcp(b).as_deref()), (1, Some("one"), Some("one")));

    // Nobody's port, as far as LBEX knows: nothing is applied, what is served is served on, and the files are those of it.
    let before = std::fs::read_to_string(bench.backend.layout().main_conf()).expect("read");
    let strange = web("late-too", place(home), one);
    let error = bench.apply(&[web("a", a, one), strange]).await.expect_err("refused");
    assert!(matches!(&error, BackendError::Retry(text) if text.contains("still could not bind")), "{error}");
    assert_eq!(ask_tcp(b).as_deref(), Some("one"));
    assert_eq!(std::fs::read_to_string(bench.backend.layout().main_conf()).expect("read"), before);
    assert_eq!(bench.backend.nginx.status().await.expect("it runs").id, master);

    // What the failed call took up is not forgotten, and not kept where it was taken back.
    let report = bench.apply(&[web("a", a, one)]).await.expect("applied");
    assert!(report.refused.is_empty());
    assert_eq!((ask_tcp(a).as_deref(), ask_tcp(b)), (Some("one"), None));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_somebody_damaged_are_written_again_before_nginx_reads_them() {
    let mut bench = Bench::open(|_, text| text.to_owned()).await;
    let home = own_address();
    let (one, a, b, c) = (server("one", home), place(home), place(home), place(home));
    let all = [web("a", a, one), web("b", b, one), web("c", c, one)];
    bench.apply(&all[..2]).await.expect("applied");
    for entry in std::fs::read_dir(bench.prefix.join("services")).expect("read").flatten() {
        std::fs::write(entry.path(), "nonsense;\n").expect("damaged");
    }
    let error = bench.apply(&all).await.expect_err("noticed");
    assert!(matches!(error, BackendError::Retry(_)), "{error}");
    let report = bench.apply(&all).await.expect("applied");
    assert!(report.refused.is_empty(), "{report:?}");
    assert!([a, b, c].into_iter().all(|address| ask_tcp(address).as_deref() == Some("one")));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_somebody_removed_are_missed_without_any_change_and_written_without_a_reload() {
    let mut bench = Bench::open(|_, text| text.to_owned()).await;
    let home = own_address();
    let all = ["a", "b"].map(|name| web(name, place(home), server("one", home)));
    bench.apply(&all).await.expect("applied");
    let folder = bench.prefix.join("services");
    let files =
        || std::fs::read_dir(&folder).expect("read").flatten().map(|entry| entry.file_name()).collect::<BTreeSet<_>>();
    let (written, main) = (files(), bench.backend.layout().main_conf());
    let in_step = async |bench: &Bench| bench.backend.observe().await.expect("seen").in_step;
    assert!(written.len() == 2 && in_step(&bench).await, "{written:?}");

    for gone in [folder.join(written.first().expect("a file")), main.clone()] {
        std::fs::remove_file(&gone).expect("removed");
        assert!(!in_step(&bench).await, "{gone:?}");
        let report = bench.apply(&all).await.expect("applied");
        assert_eq!((report.action, files()), (Action::Unchanged, written.clone()));
        assert!(main.exists() && in_step(&bench).await, "{gone:?}");
    }
    // What somebody adds goes, and is looked at once.
    std::fs::write(folder.join("mine"), "").expect("written");
    assert!(!in_step(&bench).await);
    bench.apply(&all).await.expect("applied");
    assert!(files() == written && in_step(&bench).await);
    bench.stop().await;
}

#[test]
fn an_nginx_that_dies_again_and_again_is_started_with_pauses() {
    let mut starts = state::Starts::default();
    let mut now = std::time::Instant::now();
    let mut pauses = Vec::new();
    for _ in 0..10 {
        pauses.push(starts.pause(now).unwrap_or_default().as_secs());
        now += starts.pause(now).unwrap_or_default();
        starts.started(now);
    }
    assert_eq!(pauses, [0, 0, 0, 1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(starts.pause(now + Duration::from_secs(31)), None);
    starts.started(now + Duration::from_secs(90));
    assert_eq!(starts.pause(now + Duration::from_secs(90)), None);
}
