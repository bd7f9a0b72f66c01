//! The backend without LBEX: states go in, the proxy's configuration comes out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lbex_myproxy::MyProxy;
use lbex_plugin_sdk::{
    Action, Algorithm, Backend, Call, Changes, Host, Listener, Protocol, Server, Service, Settings, State,
};

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    folder
}

fn open(folder: &Path) -> MyProxy {
    let settings = Settings { state_dir: folder.display().to_string(), ..Settings::default() };
    MyProxy::open(settings, Host::detached()).unwrap()
}

fn call() -> Call {
    Call::with_timeout(Duration::from_secs(1))
}

fn service(allow: &[&str]) -> Arc<Service> {
    let listener = Listener {
        protocol: Protocol::Tcp,
        port: 80,
        addresses: vec!["127.0.0.1".parse().unwrap()].into(),
        allow: allow.iter().map(|network| network.parse().unwrap()).collect(),
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(60),
        algorithm: Algorithm::RoundRobin,
        method: None,
        servers: vec![Server { address: "10.0.0.1".parse().unwrap(), port: 8080 }].into(),
        dns: None,
    };
    Arc::new(Service { created: None, listeners: vec![listener] })
}

#[test]
fn what_is_desired_is_served_once_and_put_right_when_somebody_ends_it() {
    let folder = folder("served");
    let mut backend = open(&folder);
    assert!(!backend.observe(&call()).unwrap().healthy);
    let state = State::new("r1", BTreeMap::from([("default/web".to_owned(), service(&[]))]));
    let mut action = || backend.apply(&state, &Changes::All, &call()).unwrap().action;
    assert_eq!([action(), action()], [Action::Started, Action::Unchanged]);
    let config = std::fs::read_to_string(folder.join("myproxy.conf")).unwrap();
    assert_eq!(config, "listen 127.0.0.1:80 # default/web\n    server 10.0.0.1:8080\n");
    std::fs::remove_file(folder.join("myproxy.conf")).unwrap();
    assert_eq!(action(), Action::Started);
    let observed = backend.observe(&call()).unwrap();
    assert!(observed.healthy && observed.in_step == Some(true), "{observed:?}");
}

#[test]
fn a_proxy_that_runs_is_adopted_and_ended_by_stop_only() {
    let folder = folder("adopted");
    let state = State::new("r1", BTreeMap::from([("default/web".to_owned(), service(&[]))]));
    open(&folder).apply(&state, &Changes::All, &call()).unwrap();
    let mut next = open(&folder);
    assert_eq!(next.apply(&state, &Changes::All, &call()).unwrap().action, Action::Unchanged);
    next.stop(Duration::ZERO, &call()).unwrap();
    assert!(!next.observe(&call()).unwrap().healthy);
}

#[test]
fn a_service_that_lets_in_some_clients_only_is_refused_and_harms_no_other() {
    let folder = folder("refused");
    let services = [("a/limited".to_owned(), service(&["10.0.0.0/8"])), ("b/open".to_owned(), service(&[]))];
    let outcome = open(&folder).apply(&State::new("r1", services.into()), &Changes::All, &call()).unwrap();
    assert_eq!(outcome.refused.keys().collect::<Vec<_>>(), ["a/limited"]);
    assert!(std::fs::read_to_string(folder.join("myproxy.conf")).unwrap().contains("b/open"));
}
