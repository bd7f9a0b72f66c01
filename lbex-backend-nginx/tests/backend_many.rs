//! Many upstreams.

mod common;
#[path = "common/net.rs"]
mod net;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{change, nginxes, on, service, tcp};
use lbex_backend_nginx::process::raise_file_limit;
use lbex_backend_nginx::{EndpointUpdates, NginxBackend, NginxOptions};
use lbex_core::backend::{Action, ProxyBackend};
use lbex_core::desired::DesiredState;
use net::{ask_tcp, free_ports, own_address, server};

/// Listeners of one Service.
const PER_SERVICE: usize = 100;

/// As many as the host allows, up to 5,000; with 10 servers each.
#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_upstreams_with_ten_servers_start_and_change() {
    let limit = raise_file_limit(8192);
    let many = usize::try_from(limit.soft.saturating_sub(1024).min(5000)).expect("a number");
    // The system's, where there is one: older ones need more memory for an upstream.
    let choice = nginxes().pop().expect("an NGINX");
    let home = own_address();
    let mut servers = vec![server("one", home).to_string()];
    servers.extend((1..10).map(|n| format!("10.255.255.{n}:30000")));
    let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
    let ports = free_ports(home, many);
    let on_ports = |ports: &[u16], servers: &[&str]| {
        let listeners = ports.iter().map(|port| on(tcp(*port, servers), &[&home.to_string()])).collect();
        service(&format!("s{}", ports[0]), listeners)
    };
    let mut services: Vec<_> = ports.chunks(PER_SERVICE).map(|ports| on_ports(ports, &servers)).collect();

    let folder = tempfile::tempdir().expect("a folder");
    let options = NginxOptions {
        choice,
        prefix: folder.path().join("p"),
        worker_shutdown_timeout: None,
        endpoint_updates: EndpointUpdates::default(),
        starter: lbex_backend_nginx::process::Starter::Own,
        socket_keeper: None,
    };
    let backend = NginxBackend::open(options).await.expect("opened");
    let begin = Instant::now();
    let (state, delta) = change(&DesiredState::default(), &services);
    let report = backend.apply(&state, &delta).await.expect("applied");
    let started = begin.elapsed();
    assert_eq!((report.action, report.refused), (Action::Started, BTreeMap::new()));

    services[0] = on_ports(&ports[..PER_SERVICE], &servers[..1]);
    let begin = Instant::now();
    let (next, delta) = change(&state, &services);
    assert_eq!(backend.apply(&next, &delta).await.expect("applied").action, Action::Reloaded);
    println!("{many} upstreams: started in {started:?}, changed in {:?}", begin.elapsed());
    assert_eq!(ask_tcp(SocketAddr::new(home, ports[0])).as_deref(), Some("one"));
    let files = std::fs::read_dir(backend.layout().services_dir()).expect("read").count();
    assert_eq!(files, services.len(), "replaced files are removed");
    backend.stop(Duration::from_millis(200)).await.expect("stopped");
}
