//! Golden configurations: what LBEX writes, and that real NGINXes take it.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{by, desired, dns, key, nginxes, on, service, tcp, udp};
use lbex_backend_nginx::binary::{NginxChoice, Origin, find};
use lbex_backend_nginx::check::Checker;
use lbex_backend_nginx::limits::{Demand, Host, limits};
use lbex_backend_nginx::prefix::{Layout, Prefix};
use lbex_backend_nginx::process::Starter;
use lbex_backend_nginx::push::ServerGroup;
use lbex_backend_nginx::render::{
    Dialect, Form, MainFile, MainInput, Part, PushDialect, ServiceFileName, Templates, Write, render_service,
    render_service_as, zone_size,
};
use lbex_backend_nginx::{
    EndpointUpdates, NginxBackend, NginxOptions, Render, RenderOptions, render_only, render_plus,
};
use lbex_core::backend::ProxyBackend;
use lbex_core::desired::{Algorithm, Delta, DesiredState, Listener, Method, ServiceConfig, Until};
use lbex_core::model::Protocol;
use proptest::prelude::*;

const NEWEST: Dialect = Dialect { least_time: true, half_close: true, push: None };

/// Every kind of listener, by name. Ports above 1023, on loopback: the checks really bind them.
fn kinds() -> Vec<(&'static str, Arc<ServiceConfig>)> {
    let three = ["10.1.0.1:30080", "10.1.0.2:30080", "10.1.0.3:30080"];
    let mixed = ["10.1.0.1:30080", "[fd00::1]:30080"];
    let least_time = |until, inflight| Algorithm::LeastTime(Method { until, inflight });
    let with = |name: &'static str, listeners: Vec<Listener>| (name, service(name, listeners));
    let ranges = |listener: Listener, texts: &[&str]| Listener {
        allow: texts.iter().map(|text| text.parse().expect("a network")).collect(),
        ..listener
    };
    vec![
        with("one-tcp", vec![tcp(19080, &three)]),
        with("one-udp", vec![udp(19053, &three)]),
        with("tcp-and-udp", vec![tcp(19053, &three[..1]), udp(19053, &three[..1])]),
        with("ipv6", vec![on(tcp(19080, &["[fd00::1]:8080"]), &["::1"])]),
        with(
            "dual-stack",
            vec![on(tcp(19080, &mixed), &["0.0.0.0", "::"]), on(udp(19080, &mixed), &["0.0.0.0", "::"])],
        ),
        with("several-addresses", vec![on(tcp(19080, &three), &["127.0.0.2", "127.0.0.3", "::1"])]),
        with("least-conn", vec![by(tcp(19080, &three), Algorithm::LeastConn)]),
        with(
            "client-ip",
            vec![by(tcp(19080, &three), Algorithm::ClientIp), by(udp(19080, &three), Algorithm::ClientIp)],
        ),
        with("one-server", vec![by(tcp(19080, &three[..1]), Algorithm::LeastConn)]),
        with("source-ranges", vec![ranges(tcp(19080, &three), &["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"])]),
        with("no-servers", vec![tcp(19080, &[]), udp(19080, &[])]),
        with(
            "dns",
            vec![
                dns(tcp(19080, &[]), "db.example.com", 5432, &["10.96.0.10:53", "[fd00::a]:5353"]),
                dns(udp(19080, &[]), "time.example.com", 123, &["10.96.0.10:53"]),
            ],
        ),
        with(
            "timeouts",
            vec![Listener {
                connect_timeout: Duration::from_millis(500),
                idle_timeout: Duration::from_secs(90),
                ..tcp(19080, &three)
            }],
        ),
        with(
            "least-time",
            vec![
                by(tcp(19080, &three), least_time(Until::Connect, false)),
                by(tcp(19081, &three), least_time(Until::FirstByte, true)),
                by(tcp(19082, &three), least_time(Until::LastByte, false)),
            ],
        ),
    ]
}

#[test]
fn service_files() {
    let templates = Templates::new().expect("templates");
    for (name, service) in kinds() {
        let text = render_service(&templates, &service, NEWEST).expect("rendered");
        insta::assert_snapshot!(name, text);
    }
}

/// The embedded NGINX's dialect: servers are names that it asks LBEX for.
const PUSHED: Dialect = Dialect { push: Some(PushDialect { hash_by_address: true, immediate: true }), ..NEWEST };

#[test]
fn service_files_of_pushed_servers() {
    let templates = Templates::new().expect("templates");
    let text = |service: &ServiceConfig, dialect, write, known: &[ServerGroup]| {
        let known = known.iter().copied().collect();
        render_service_as(&templates, service, dialect, Form { write, known: &known, states: None }).expect("rendered")
    };
    let ports = ["10.1.0.1:8080", "10.1.0.2:8081"];
    let service = service("web", vec![tcp(19080, &ports), by(udp(19080, &ports[..1]), Algorithm::ClientIp)]);
    insta::assert_snapshot!("pushed", text(&service, PUSHED, Write::Names, &[]));
    insta::assert_snapshot!("pushed-beside-addresses", text(&service, PUSHED, Write::Both, &[]));
    // A stock NGINX would send all clients of a hash to one address of a name.
    let stock = Dialect { push: Some(PushDialect { hash_by_address: false, immediate: false }), ..NEWEST };
    insta::assert_snapshot!("pushed-stock", text(&service, stock, Write::Names, &[]));
    assert_eq!(text(&service, PUSHED, Write::Addresses, &[]), text(&service, NEWEST, Write::Names, &[]));

    // Ports that NGINX asks for stay, so that their servers may come back without a reload; those of other listeners do not.
    let group = |listener, port| ServerGroup { protocol: Protocol::Tcp, listener, port };
    let none = common::service("web", vec![tcp(19080, &[])]);
    insta::assert_snapshot!(
        "pushed-none",
        text(&none, PUSHED, Write::Names, &[group(19080, 8080), group(19081, 9000)])
    );
    let part = |text: &str| Part::read(ServiceFileName::of(&none.service, text), text);
    assert_eq!(part(&text(&none, PUSHED, Write::Names, &[group(19080, 8080)])).groups, [group(19080, 8080)].into());
    assert_eq!(part(&text(&service, PUSHED, Write::Both, &[])).servers, 3);
}

fn main_input() -> MainInput {
    MainInput {
        made_for: "nginx-1.28.3-0123456789ab".to_owned(),
        modules: Vec::new(),
        user: Some("nobody nogroup".to_owned()),
        worker_shutdown_timeout: None,
        generation_socket: "/var/lib/lbex/run/generation.sock".into(),
        dialect: NEWEST,
        resolver: None,
        api_socket: None,
    }
}

/// For NGINX Plus: the same whatever the servers are, since those come through its API.
fn for_plus(service: &ServiceConfig) -> String {
    let form =
        Form { write: Write::Names, known: &BTreeSet::new(), states: Some(Path::new("/var/lib/lbex/upstreams")) };
    render_service_as(&Templates::new().expect("templates"), service, NEWEST, form).expect("rendered")
}

#[test]
fn service_files_for_nginx_plus() {
    for (name, service) in kinds() {
        if ["tcp-and-udp", "client-ip", "no-servers", "dns", "source-ranges", "ipv6"].contains(&name) {
            insta::assert_snapshot!(format!("plus-{name}"), for_plus(&service));
        }
    }
    let methods = [Until::Connect, Until::FirstByte, Until::LastByte]
        .map(|until| [false, true].map(|inflight| (until, inflight)));
    let listener = |(port, (until, inflight))| by(tcp(port, &[]), Algorithm::LeastTime(Method { until, inflight }));
    let listeners = (19080..).zip(methods.into_iter().flatten()).map(listener).collect();
    insta::assert_snapshot!("plus-least-time", for_plus(&service("least-time", listeners)));
    let (one, other) = (tcp(19080, &["10.1.0.1:30080"]), tcp(19080, &["10.1.0.2:30080", "10.1.0.3:30081"]));
    assert_eq!(for_plus(&service("web", vec![one])), for_plus(&service("web", vec![other])), "no reload for servers");
}

#[test]
fn main_file_for_nginx_plus() {
    let host = Host { cpus: 2, master: 1 << 20, worker: 1 << 20 };
    let limits = limits(Demand { shared: 20, per_worker: 10 }, &host);
    let input = MainInput { api_socket: Some("/var/lib/lbex/run/api.sock".into()), ..main_input() };
    let main = MainFile::render(&Templates::new().expect("templates"), &input, &limits, 8192, []).expect("rendered");
    insta::assert_snapshot!("main-plus", main.text);
}

/// What an open-source NGINX can check of a configuration for NGINX Plus. Left unchecked: the block `http` with `api`, `state`,
/// `status_zone`, `least_time`.
fn as_open_source(text: &str) -> String {
    let mut in_http = false;
    let mut rest = String::new();
    for line in text.lines() {
        in_http |= line == "http {";
        match line.trim().split(' ').next() {
            _ if in_http => in_http = line != "}",
            Some("state") => rest += "    server 192.0.2.1:9 down;\n",
            Some("status_zone" | "least_time") => {}
            _ => rest = rest + line + "\n",
        }
    }
    rest
}

/// Renders each kind of Service by itself, puts its files into a prefix as `edit` has them, and lets this NGINX check them.
async fn takes_every_kind(
    choice: NginxChoice,
    render: Render,
    edit: impl Fn(&str) -> String,
    look: impl Fn(&BTreeMap<String, String>, &Layout),
) {
    let folder = tempfile::tempdir().expect("a folder");
    let prefix = Prefix::open(&folder.path().join("p")).expect("a prefix");
    let candidate = find(&choice).await.expect("an NGINX");
    let binary = candidate.clone().install(prefix.layout()).await.expect("installed");
    let checker = Checker::new(binary.clone(), prefix.layout()).expect("a checker");
    let root = prefix.layout().root();
    let options = RenderOptions {
        candidate,
        prefix: root.to_owned(),
        worker_shutdown_timeout: None,
        endpoint_updates: EndpointUpdates::default(),
    };
    for (name, service) in kinds() {
        if name == "dual-stack" && !lbex_backend_nginx::probe::ipv6_available() {
            continue;
        }
        let files = render(&desired(&[service]), &options).expect("rendered");
        for (file, text) in &files {
            std::fs::write(root.join(file), edit(text)).expect("written");
        }
        let verdict = checker.check(Path::new(&root.join("conf/nginx.conf")), Duration::from_secs(20)).await;
        verdict.expect("checked").unwrap_or_else(|complaint| panic!("{binary}: {name}: {complaint:?}\n{files:#?}"));
        look(&files, prefix.layout());
    }
    assert!(binary.origin == Origin::System || cfg!(feature = "embedded"));
}

/// NGINX Plus itself cannot be had here: this shows that what is not its own is right, not that NGINX Plus takes it.
#[tokio::test]
async fn real_nginxes_take_what_is_written_for_plus_but_for_its_own_directives() {
    for choice in nginxes() {
        takes_every_kind(choice, render_plus, as_open_source, |files, _| {
            let main = &files["conf/nginx.conf"];
            assert!(main.contains("\nhttp {\n") && !as_open_source(main).contains("api"));
        })
        .await;
    }
}

/// With advice, and before anything is written.
#[tokio::test]
async fn an_nginx_that_is_not_plus_is_refused() {
    for choice in nginxes() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = NginxOptions {
            choice,
            prefix: folder.path().join("p"),
            worker_shutdown_timeout: None,
            endpoint_updates: EndpointUpdates::default(),
            starter: Starter::Own,
            socket_keeper: None,
        };
        let error = NginxBackend::open_plus(options).await.expect_err("refused").to_string();
        for words in ["needs NGINX Plus", "--nginx PATH", "--nginx-plus-api", "--backend nginx"] {
            assert!(error.contains(words), "{error}");
        }
        assert!(!folder.path().join("p").exists());
    }
}

fn zone_of(parts: &[Part]) -> u64 {
    let sum = |count: fn(&Part) -> u32| parts.iter().map(|part| u64::from(count(part))).sum();
    zone_size(sum(|part| part.upstreams), sum(|part| part.servers))
}

#[test]
fn main_files() {
    let templates = Templates::new().expect("templates");
    let parts: Vec<Part> = kinds()
        .into_iter()
        .map(|(_, service)| {
            let text = render_service(&templates, &service, NEWEST).expect("rendered");
            Part::read(ServiceFileName::of(&service.service, &text), &text)
        })
        .collect();
    let host = Host { cpus: 2, master: 1 << 20, worker: 1 << 20 };
    let limits = limits(Demand { shared: 20, per_worker: 10 }, &host);
    let full = MainFile::render(&templates, &main_input(), &limits, zone_of(&parts), &parts).expect("rendered");
    insta::assert_snapshot!("main", full.text);
    let debian = MainInput {
        made_for: "nginx 1.18.0".to_owned(),
        modules: vec!["/usr/lib/nginx/modules/ngx_stream_module.so".into()],
        user: None,
        worker_shutdown_timeout: Some(Duration::from_secs(300)),
        dialect: Dialect { least_time: false, half_close: false, push: None },
        ..main_input()
    };
    let empty = MainFile::render(&templates, &debian, &limits, zone_of(&[]), []).expect("rendered");
    insta::assert_snapshot!("main-dynamic-module", empty.text);
    let resolver = Some("127.0.0.1:343".parse().expect("an address"));
    let pushed = MainInput { dialect: PUSHED, resolver, ..main_input() };
    let pushed = MainFile::render(&templates, &pushed, &limits, 8192, []).expect("rendered");
    insta::assert_snapshot!("main-pushed", pushed.text);
    assert_eq!(MainFile::resolver_in(&pushed.text), resolver);
    assert_eq!(MainFile::resolver_in(&full.text), None);
    assert_eq!((MainFile::zone_in(&pushed.text), MainFile::zone_in(&full.text)), (Some(8192), Some(zone_of(&parts))));
}

#[test]
fn least_time_is_left_out_where_nginx_lacks_it() {
    let templates = Templates::new().expect("templates");
    let (_, service) = kinds().pop().expect("least_time");
    let text = render_service(&templates, &service, Dialect { least_time: false, ..NEWEST }).expect("rendered");
    assert!(!text.contains("least_time"), "{text}");
}

#[test]
fn a_part_is_read_back_from_its_text() {
    let templates = Templates::new().expect("templates");
    let part = |name: &str| {
        let (_, service) = kinds().into_iter().find(|(kind, _)| *kind == name).expect("a kind");
        let text = render_service(&templates, &service, NEWEST).expect("rendered");
        let file = ServiceFileName::of(&key(name), &text);
        assert!(
            file.fits(&text)
                && !file.fits("")
                && ServiceFileName::parse(file.as_str()) == Some((key(name), file.clone()))
        );
        Part::read(file, &text)
    };
    let dual = part("dual-stack");
    let claims: Vec<String> = dual.claims.iter().map(ToString::to_string).collect();
    assert_eq!(claims, ["TCP 0.0.0.0:19080", "TCP [::]:19080", "UDP 0.0.0.0:19080", "UDP [::]:19080"]);
    assert_eq!((dual.upstreams, dual.servers), (2, 4));
    let empty = part("no-servers");
    assert_eq!((empty.claims.len(), empty.upstreams, empty.servers), (2, 0, 0));
}

/// Each kind by itself, and all configurations that this NGINX can have.
#[tokio::test]
async fn real_nginxes_take_every_kind() {
    for choice in nginxes() {
        takes_every_kind(choice, render_only, str::to_owned, |_, layout| {
            assert!(!layout.generation_socket().exists(), "the check leaves no socket");
            assert!(!layout.pid_file().exists(), "the check writes no pid file");
        })
        .await;
    }
}

fn any_listener() -> impl Strategy<Value = Listener> {
    let address = prop_oneof![
        any::<[u8; 4]>().prop_map(std::net::IpAddr::from),
        any::<[u8; 16]>().prop_map(std::net::IpAddr::from),
    ];
    let server = (address.clone(), 1u16..).prop_map(std::net::SocketAddr::from);
    let algorithm = prop_oneof![
        Just(Algorithm::RoundRobin),
        Just(Algorithm::LeastConn),
        Just(Algorithm::ClientIp),
        any::<bool>().prop_map(|inflight| Algorithm::LeastTime(Method { until: Until::FirstByte, inflight })),
    ];
    let network =
        (address.clone(), 0u8..=32).prop_map(|(ip, length)| ipnet::IpNet::new(ip, length).expect("a network"));
    (
        any::<bool>(),
        1u16..,
        proptest::collection::vec(address, 1..3),
        proptest::collection::vec(server, 0..5),
        proptest::collection::vec(network, 0..3),
        algorithm,
        any::<u32>(),
    )
        .prop_map(|(is_udp, port, ips, servers, allow, algorithm, millis)| {
            let mut listener = if is_udp { udp(port, &[]) } else { tcp(port, &[]) };
            listener.addresses = ips.into();
            listener.allow = allow.into();
            listener.idle_timeout = Duration::from_millis(millis.into());
            listener.upstream = lbex_core::desired::Upstream {
                algorithm,
                servers: lbex_core::desired::Servers::Addresses(servers.into()),
            };
            listener
        })
}

proptest! {
    /// Whatever is desired renders, to the same bytes each time, of the characters that LBEX's templates and types have, with
    /// balanced braces, and can be read back.
    #[test]
    fn any_service_renders(listeners in proptest::collection::vec(any_listener(), 1..4)) {
        let templates = Templates::new().expect("templates");
        let service = service("any", listeners);
        let text = render_service(&templates, &service, NEWEST).expect("rendered");
        prop_assert_eq!(&text, &render_service(&Templates::new().expect("templates"), &service, NEWEST).expect("rendered"));
        prop_assert!(text.chars().all(|c| c.is_ascii_graphic() || c == ' ' || c == '\n'));
        prop_assert_eq!(text.matches('{').count(), text.matches('}').count());
        let part = Part::read(ServiceFileName::of(&service.service, &text), &text);
        let claims: usize = service.listeners.iter().map(|listener| listener.addresses.len()).sum();
        prop_assert_eq!(part.claims.len(), claims);
    }
}

/// What `lbex render` shows is what LBEX writes, but for the limits of the host.
#[tokio::test]
async fn render_only_says_what_apply_writes() {
    for choice in nginxes() {
        let folder = tempfile::tempdir().expect("a folder");
        let prefix = folder.path().join("p");
        let options = NginxOptions {
            choice: choice.clone(),
            prefix: prefix.clone(),
            worker_shutdown_timeout: None,
            endpoint_updates: EndpointUpdates::default(),
            starter: lbex_backend_nginx::process::Starter::Own,
            socket_keeper: None,
        };
        let backend = NginxBackend::open(options).await.expect("opened");
        let state = DesiredState { generation: 1, ..DesiredState::default() };
        let delta = Delta { from: 0, to: 1, ..Delta::default() };
        backend.apply(&state, &delta).await.expect("applied");
        backend.stop(Duration::ZERO).await.expect("stopped");
        let root = backend.layout().root().to_owned();
        let options = RenderOptions {
            candidate: find(&choice).await.expect("an NGINX"),
            prefix: root,
            worker_shutdown_timeout: None,
            endpoint_updates: EndpointUpdates::default(),
        };
        let files = render_only(&state, &options).expect("rendered");
        let depends_on_host = |line: &&str| {
            !["worker_rlimit", "worker_conn", "return", "resolver "].iter().any(|w| line.trim().starts_with(w))
        };
        let lines = |text: &str| text.lines().filter(depends_on_host).map(str::to_owned).collect::<Vec<_>>();
        let written = std::fs::read_to_string(backend.layout().main_conf()).expect("read");
        assert_eq!(lines(&files["conf/nginx.conf"]), lines(&written));
    }
}
