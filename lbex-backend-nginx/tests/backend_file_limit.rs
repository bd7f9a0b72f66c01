//! A host that allows few open files. A test binary of its own: it takes rights away from its process.

mod common;
#[path = "common/net.rs"]
mod net;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{desired, key, nginxes, on, service, tcp};
use lbex_backend_nginx::{EndpointUpdates, NginxBackend, NginxOptions};
use lbex_core::backend::{Instead, ProxyBackend};
use lbex_core::desired::{Delta, ServiceChange, ServiceConfig};
use net::{ask_tcp, free_ports, own_address, server};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, chown, geteuid, setgid, setuid};

/// Gives up root, which could raise the limit.
fn become_nobody(folder: &std::path::Path) {
    if geteuid().is_root() {
        let (user, group) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
        chown(folder, Some(user), Some(group)).expect("given away");
        setgid(group).expect("another group");
        setuid(user).expect("another user");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_services_with_1024_files_are_served_or_refused_with_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    setrlimit(Resource::RLIMIT_NOFILE, 1024, 1024).expect("limited");
    become_nobody(folder.path());
    let home = own_address();
    let one = server("one", home).to_string();
    let ports = free_ports(home, 1000);
    let services: Vec<Arc<ServiceConfig>> = ports
        .iter()
        .enumerate()
        .map(|(n, port)| {
            let listener = on(tcp(*port, &[&one]), &[&home.to_string()]);
            let mut config = Arc::unwrap_or_clone(service(&format!("s{n}"), vec![listener]));
            // The first are the youngest.
            config.created = Some(2_000_000 - i64::try_from(n).expect("small"));
            Arc::new(config)
        })
        .collect();
    let state = desired(&services);
    let changes: BTreeMap<_, _> =
        state.services.iter().map(|(key, config)| (key.clone(), ServiceChange::Added(config.clone()))).collect();
    for choice in nginxes() {
        let prefix = folder.path().join(choice.to_string());
        let options = NginxOptions {
            choice,
            prefix,
            worker_shutdown_timeout: None,
            endpoint_updates: EndpointUpdates::default(),
            starter: lbex_backend_nginx::process::Starter::Own,
            socket_keeper: None,
        };
        let backend = NginxBackend::open(options).await.expect("opened");
        let delta = Delta { from: 0, to: 1, changes: changes.clone() };
        let report = backend.apply(&state, &delta).await.expect("applied");
        let (refused, served) = (report.refused.len(), 1000 - report.refused.len());
        assert!((1..500).contains(&refused), "{refused} refused");
        for n in 0..1000 {
            let refusal = report.refused.get(&key(&format!("s{n}"))).map(|refusals| &refusals[0]);
            assert_eq!(refusal.is_some(), n < refused, "the youngest go without: s{n}");
            if let Some(refusal) = refusal {
                assert_eq!((refusal.code, refusal.instead), ("FileLimit", Instead::LeftOut));
                assert!(refusal.message.contains(&format!("{served} files")), "{}", refusal.message);
            }
        }
        for n in [refused, 700, 999] {
            assert_eq!(ask_tcp(SocketAddr::new(home, ports[n])).as_deref(), Some("one"), "s{n}");
        }
        backend.stop(Duration::from_millis(200)).await.expect("stopped");
    }
}
