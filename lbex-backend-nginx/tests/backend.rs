//! The backend with real NGINXes and real traffic.

mod common;
#[path = "common/net.rs"]
mod net;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{by, change, key, nginxes, on, service, tcp, udp};
use lbex_backend_nginx::binary::NginxChoice;
use lbex_backend_nginx::process::Nginx;
use lbex_backend_nginx::{NginxBackend, NginxOptions};
use lbex_core::backend::{Action, ApplyReport, Instead, ProxyBackend};
use lbex_core::desired::{Algorithm, Delta, DesiredState, Listener, ServiceConfig};
use net::{ask_tcp, ask_udp, eventually, free_port, has_ipv6, is_alive, own_address, read_name, send_all, server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A backend, what it was told, and a prefix that goes with its NGINX.
struct Bench {
    backend: Option<NginxBackend>,
    choice: NginxChoice,
    prefix: PathBuf,
    state: DesiredState,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn open(choice: NginxChoice) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let prefix = folder.path().join("p");
        let backend = Some(open(&choice, &prefix).await);
        Self { backend, choice, prefix, state: DesiredState::default(), _folder: folder }
    }

    fn backend(&self) -> &NginxBackend {
        self.backend.as_ref().expect("open")
    }

    fn nginx(&self) -> Nginx {
        Nginx::new(self.backend().layout().clone())
    }

    async fn apply(&mut self, services: &[Arc<ServiceConfig>]) -> ApplyReport {
        let (state, delta) = change(&self.state, services);
        let report = self.backend().apply(&state, &delta).await.expect("applied");
        assert_eq!(report.generation, state.generation);
        self.state = state;
        report
    }

    /// As after an event that changed nothing, or to repair.
    async fn apply_again(&self) -> ApplyReport {
        let delta = Delta { from: self.state.generation, to: self.state.generation, ..Delta::default() };
        self.backend().apply(&self.state, &delta).await.expect("applied")
    }

    /// LBEX ends, and another one begins.
    async fn restart(&mut self) {
        self.backend = None;
        self.backend = Some(open(&self.choice, &self.prefix).await);
        self.state = DesiredState::default();
    }

    async fn master(&self) -> i32 {
        self.nginx().status().await.expect("it runs").id.pid
    }

    async fn pids(&self) -> Vec<i32> {
        let master = self.nginx().status().await.expect("it runs");
        master.all_workers().map(|worker| worker.id.pid).chain([master.id.pid]).collect()
    }

    async fn stop(mut self) {
        self.backend().stop(Duration::from_millis(200)).await.expect("stopped");
        self.backend = None;
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A test that failed: NGINX must not outlive it.
        let pid = std::fs::read_to_string(self.prefix.join("run/nginx.pid")).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

async fn open(choice: &NginxChoice, prefix: &Path) -> NginxBackend {
    let options = NginxOptions { choice: choice.clone(), prefix: prefix.to_owned(), worker_shutdown_timeout: None };
    NginxBackend::open(options).await.expect("opened")
}

fn at(listener: Listener, address: IpAddr) -> Listener {
    on(listener, &[&address.to_string()])
}

fn to(server: SocketAddr) -> String {
    server.to_string()
}

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(5);

/// One Service with TCP and UDP on one port.
fn both(name: &str, listen: SocketAddr, servers: &[SocketAddr]) -> Arc<ServiceConfig> {
    let servers: Vec<String> = servers.iter().copied().map(to).collect();
    let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
    let listeners = vec![tcp(listen.port(), &servers), udp(listen.port(), &servers)];
    service(name, listeners.into_iter().map(|listener| at(listener, listen.ip())).collect())
}

fn answers(address: SocketAddr) -> (Option<String>, Option<String>) {
    let udp = ask_udp(address, b"hello", LONG).map(|bytes| String::from_utf8(bytes).expect("text"));
    (ask_tcp(address), udp)
}

fn named(name: &str) -> (Option<String>, Option<String>) {
    (Some(name.to_owned()), Some(format!("{name} hello")))
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_follows_the_desired_state() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let (one, two) = (server("one", home), server("two", home));
        let (a, b) = (SocketAddr::new(home, free_port(home)), SocketAddr::new(home, free_port(home)));

        let report = bench.apply(&[both("a", a, &[one]), both("b", b, &[two])]).await;
        assert_eq!((report.action, report.refused.len()), (Action::Started, 0));
        assert_eq!((answers(a), answers(b)), (named("one"), named("two")));
        let observed = bench.backend().observe().await.expect("observed");
        assert!(observed.healthy && observed.in_step, "{observed:?}");

        // Another server; a connection to the other Service stays.
        let held = TcpStream::connect(b).expect("connected");
        assert_eq!(read_name(&held), "two");
        assert_eq!(bench.apply(&[both("a", a, &[two]), both("b", b, &[two])]).await.action, Action::Reloaded);
        assert_eq!((answers(a), answers(b)), (named("two"), named("two")));
        assert!(is_alive(held));

        // The same again is nothing to do.
        assert_eq!(bench.apply_again().await.action, Action::Unchanged);

        // No servers: closed at once, silence; and the listener stays.
        bench.apply(&[both("a", a, &[]), both("b", b, &[two])]).await;
        let begin = Instant::now();
        assert_eq!(ask_tcp(a), Some(String::new()));
        assert!(begin.elapsed() < Duration::from_secs(1));
        for _ in 0..3 {
            assert_eq!(ask_udp(a, b"hello", SHORT), None);
        }
        bench.apply(&[both("a", a, &[one, two]), both("b", b, &[two])]).await;
        let names: std::collections::BTreeSet<_> = (0..8).filter_map(|_| ask_tcp(a)).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["one", "two"]);

        // Gone.
        bench.apply(&[both("b", b, &[two])]).await;
        assert_eq!((ask_tcp(a), ask_udp(a, b"hello", SHORT)), (None, None));
        assert_eq!(answers(b), named("two"));
        let log = std::fs::read_to_string(bench.backend().layout().error_log()).expect("a log");
        assert!(!log.contains("[emerg]") && !log.contains("[alert]") && !log.contains("[crit]"), "{log}");
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_datagrams_and_half_closed_connections_come_through() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let a = SocketAddr::new(home, free_port(home));
        bench.apply(&[both("a", a, &[server("one", home)])]).await;
        let datagram = vec![b'x'; 60_000];
        let answer = ask_udp(a, &datagram, LONG).expect("answered");
        assert_eq!(answer.len(), datagram.len() + 4);
        assert_eq!(send_all(a, &vec![0; 100_000]), "one 100000");
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_dual_stack_and_algorithms() {
    if !has_ipv6() {
        return;
    }
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let six: IpAddr = "::1".parse().expect("an address");
        let (one, two) = (to(server("one", home)), to(server("two", six)));
        let (port, other) = (free_port(six), free_port(six));
        let servers = [one.as_str(), two.as_str()];
        let dual = |listener: Listener| on(listener, &[&home.to_string(), "::1"]);
        let report = bench
            .apply(&[
                service("dual", vec![dual(tcp(port, &servers)), dual(udp(port, &servers))]),
                service("sticky", vec![dual(by(tcp(other, &servers), Algorithm::ClientIp))]),
            ])
            .await;
        assert!(report.refused.is_empty(), "{report:?}");
        for address in [SocketAddr::new(home, port), SocketAddr::new(six, port)] {
            let names: std::collections::BTreeSet<_> = (0..10).filter_map(|_| ask_tcp(address)).collect();
            assert_eq!(names.into_iter().collect::<Vec<_>>(), ["one", "two"], "{address}");
            assert!(ask_udp(address, b"x", LONG).is_some(), "{address}");
        }
        let sticky: std::collections::BTreeSet<_> =
            (0..10).filter_map(|_| ask_tcp(SocketAddr::new(six, other))).collect();
        assert_eq!(sticky.len(), 1);
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn source_ranges_let_in_whom_they_name() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let one = server("one", home);
        let ports = [free_port(home), free_port(home)];
        let with = |name: &str, port: u16, network: &str| {
            let allow: Arc<[_]> = Arc::from([network.parse().expect("a network")]);
            let listeners = [tcp(port, &[&to(one)]), udp(port, &[&to(one)])];
            service(name, listeners.map(|l| Listener { allow: allow.clone(), ..at(l, home) }).to_vec())
        };
        bench.apply(&[with("in", ports[0], "127.0.0.0/8"), with("out", ports[1], "10.0.0.0/8")]).await;
        assert_eq!(answers(SocketAddr::new(home, ports[0])), named("one"));
        let out = SocketAddr::new(home, ports[1]);
        assert_eq!((ask_tcp(out), ask_udp(out, b"x", SHORT)), (Some(String::new()), None));
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_lbex_adopts_what_runs() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let (one, a) = (server("one", home), SocketAddr::new(home, free_port(home)));
        let services = [both("a", a, &[one]), both("b", SocketAddr::new(home, free_port(home)), &[])];
        bench.apply(&services).await;
        let (master, held) = (bench.master().await, TcpStream::connect(a).expect("connected"));
        bench.restart().await;
        assert_eq!(answers(a), named("one"), "it served meanwhile");
        let report = bench.apply(&services).await;
        assert_eq!((report.action, report.refused.len()), (Action::Unchanged, 0));
        assert_eq!(bench.master().await, master);
        // And goes on from there.
        bench.restart().await;
        assert_eq!(bench.apply(&services[..1]).await.action, Action::Reloaded);
        assert_eq!((bench.master().await, read_name(&held).as_str()), (master, "one"));
        assert!(is_alive(held));
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_concerns_its_service_alone() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let (one, two) = (server("one", home), server("two", home));
        let mut ports = (0..4).map(|_| SocketAddr::new(home, free_port(home)));
        let mut next = || ports.next().expect("a port");
        let (a, b, c, taken) = (next(), next(), next(), next());
        bench.apply(&[both("a", a, &[one])]).await;

        // `a` moves to a port that this test holds, `b` is new there too; `c` is fine.
        let holder = TcpListener::bind(taken).expect("bound");
        let report = bench.apply(&[both("a", taken, &[one]), both("c", c, &[two])]).await;
        assert_eq!(report.action, Action::Reloaded);
        let refusal = &report.refused[&key("a")][0];
        assert_eq!((refusal.code, refusal.instead, refusal.retry), ("PortInUse", Instead::LastGood, true));
        assert!(refusal.message.contains(&std::process::id().to_string()), "{refusal}");
        assert_eq!((answers(a), answers(c)), (named("one"), named("two")));
        let report = bench.apply(&[both("b", taken, &[one]), both("c", c, &[two])]).await;
        assert_eq!(report.refused[&key("b")][0].instead, Instead::LeftOut);
        assert_eq!((ask_tcp(a), answers(c)), (None, named("two")));
        // A restarted LBEX finds the same.
        bench.restart().await;
        let report = bench.apply(&[both("b", taken, &[one]), both("c", c, &[two])]).await;
        assert_eq!((report.action, report.refused.len()), (Action::Unchanged, 1));
        // The port becomes free.
        drop(holder);
        let report = bench.apply_again().await;
        assert_eq!((report.action, report.refused.len()), (Action::Reloaded, 0));
        assert_eq!(answers(taken), named("one"));
        // UDP taken.
        let _holder = UdpSocket::bind(b).expect("bound");
        let report = bench.apply(&[both("d", b, &[one]), both("c", c, &[two])]).await;
        assert_eq!(report.refused[&key("d")][0].code, "PortInUse");
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_another_host_concerns_its_service_alone() {
    let mut bench = Bench::open(nginxes().remove(0)).await;
    let home = own_address();
    let (one, a) = (server("one", home), SocketAddr::new(home, free_port(home)));
    // TEST-NET-1: nobody has it.
    let away = service("away", vec![on(tcp(a.port(), &[]), &["192.0.2.1"])]);
    let report = bench.apply(&[both("a", a, &[one]), away]).await;
    assert_eq!(report.refused[&key("away")][0].code, "AddressNotAvailable");
    assert_eq!(answers(a), named("one"));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_gives_way_to_one_that_covers_it() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let (one, a) = (server("one", home), SocketAddr::new(home, free_port(home)));
        let wide = service(
            "a",
            vec![on(tcp(a.port(), &[&to(one)]), &["0.0.0.0"]), on(udp(a.port(), &[&to(one)]), &["0.0.0.0"])],
        );
        for (service, place) in [(both("a", a, &[one]), a), (wide, a), (both("a", a, &[one]), a)] {
            let report = bench.apply(&[service]).await;
            assert!(report.refused.is_empty(), "{report:?}");
            assert_eq!(answers(place), named("one"));
        }
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_nginx_is_noticed_and_started_again() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let (one, a) = (server("one", home), SocketAddr::new(home, free_port(home)));
        bench.apply(&[both("a", a, &[one])]).await;

        // All of it.
        for pid in bench.pids().await.into_iter().rev() {
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
        }
        eventually("it is noticed", async || !bench.backend().observe().await.expect("observed").healthy).await;
        let begin = Instant::now();
        assert_eq!(bench.apply_again().await.action, Action::Started);
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        assert_eq!(answers(a), named("one"));

        // The master alone: its workers serve on, and hold the ports.
        kill(Pid::from_raw(bench.master().await), Signal::SIGKILL).expect("killed");
        eventually("it is noticed", async || !bench.backend().observe().await.expect("observed").in_step).await;
        let begin = Instant::now();
        assert_eq!(bench.apply_again().await.action, Action::Started);
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        assert_eq!(answers(a), named("one"));
        let observed = bench.backend().observe().await.expect("observed");
        assert!(observed.healthy && observed.in_step, "{observed:?}");
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_answers_while_apply_hangs() {
    let mut bench = Bench::open(nginxes().remove(0)).await;
    let home = own_address();
    let (one, a) = (server("one", home), SocketAddr::new(home, free_port(home)));
    bench.apply(&[both("a", a, &[one])]).await;
    let master = Pid::from_raw(bench.master().await);
    kill(master, Signal::SIGSTOP).expect("stopped");
    let (state, delta) = change(&bench.state, &[both("a", a, &[])]);
    let backend = bench.backend();
    {
        let apply = backend.apply(&state, &delta);
        tokio::pin!(apply);
        let hangs = tokio::time::timeout(Duration::from_millis(300), &mut apply).await;
        assert!(hangs.is_err(), "{hangs:?}");
        let begin = Instant::now();
        let observed = backend.observe().await.expect("observed");
        assert!(begin.elapsed() < Duration::from_secs(1) && observed.healthy && observed.in_step, "{observed:?}");
        kill(master, Signal::SIGCONT).expect("continued");
        assert_eq!(apply.await.expect("applied").action, Action::Reloaded);
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_lbex_on_the_prefix_is_refused() {
    let bench = Bench::open(nginxes().remove(0)).await;
    let options =
        NginxOptions { choice: bench.choice.clone(), prefix: bench.prefix.clone(), worker_shutdown_timeout: None };
    let error = NginxBackend::open(options).await.expect_err("refused").to_string();
    assert!(error.contains(&std::process::id().to_string()), "{error}");
    assert!(bench.backend().capabilities().description.starts_with("NGINX 1."));
    let observed = bench.backend().observe().await.expect("observed");
    assert!(!observed.healthy && observed.detail.contains("does not run"), "{observed:?}");
}

/// A DNS server that knows one name, with one IPv4 address.
fn dns_server(home: IpAddr, name: &str, address: IpAddr) -> SocketAddr {
    let socket = UdpSocket::bind((home, free_port(home))).expect("bound");
    let place = socket.local_addr().expect("bound");
    let IpAddr::V4(address) = address else { panic!("an IPv4 address") };
    let wanted: Vec<u8> = name
        .split('.')
        .flat_map(|label| [&[u8::try_from(label.len()).expect("short")], label.as_bytes()].concat())
        .chain([0])
        .collect();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let question = &buffer[12..length];
            let known = question.strip_prefix(wanted.as_slice()).is_some_and(|rest| rest.starts_with(&[0, 1]));
            // An answer without error, the question, and, to one for A, a pointer to its name, A, IN, TTL 60, the address.
            let mut answer = buffer[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(known), 0, 0, 0, 0]);
            answer.extend(question);
            if known {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(address.octets());
            }
            let _ = socket.send_to(&answer, client);
        }
    });
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_resolved_while_nginx_runs_and_never_hold_it_up() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let one = server("one", home);
        let resolver = dns_server(home, "db.example.com", home);
        let nobody = SocketAddr::new(home, free_port(home));
        let (a, b) = (SocketAddr::new(home, free_port(home)), SocketAddr::new(home, free_port(home)));
        let with = |place: SocketAddr, resolver: SocketAddr| {
            let named = |listener| at(common::dns(listener, "db.example.com", one.port(), &[&to(resolver)]), home);
            vec![named(tcp(place.port(), &[])), named(udp(place.port(), &[]))]
        };
        let begin = Instant::now();
        let report = bench.apply(&[service("a", with(a, resolver)), service("b", with(b, nobody))]).await;
        assert!(begin.elapsed() < Duration::from_secs(4) && report.refused.is_empty(), "{report:?}");
        assert_eq!(answers(a), named("one"));
        assert_eq!(ask_udp(b, b"hello", SHORT), None);
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_binary_takes_over_from_the_one_that_runs() {
    let choices = nginxes();
    let [first, second] = choices.as_slice() else { return };
    for (before, after) in [(first, second), (second, first)] {
        let mut bench = Bench::open(before.clone()).await;
        let home = own_address();
        let (one, a) = (server("one", home), SocketAddr::new(home, free_port(home)));
        bench.apply(&[both("a", a, &[one])]).await;
        let held = TcpStream::connect(a).expect("connected");
        assert_eq!(read_name(&held), "one");
        bench.choice = after.clone();
        bench.restart().await;
        let report = bench.apply(&[both("a", a, &[one])]).await;
        assert_eq!((report.action, report.refused.len()), (Action::Upgraded, 0));
        assert_eq!(answers(a), named("one"));
        let master = bench.nginx().status().await.expect("it runs");
        assert_eq!(master.runs(bench.backend().binary()), Some(true));
        assert!(is_alive(held));
        bench.stop().await;
    }
}
