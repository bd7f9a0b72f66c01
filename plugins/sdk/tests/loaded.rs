//! The examples, loaded as LBEX loads a plugin: through the two functions that they export.
#![allow(unsafe_code)]

mod common;

use std::collections::BTreeMap;
use std::ffi::CStr;

use common::Loaded;
use lbex_plugin_sdk::abi::documents::{Delta, Desired, Observation, Report};
use lbex_plugin_sdk::abi::read;
use lbex_plugin_sdk::abi::tables::{ABI_MAJOR, ABI_MINOR, MAGIC, code};
use lbex_plugin_sdk::{Action, Algorithm, Capabilities, Listener, Protocol, Server, Service};

fn service(servers: &[&str]) -> std::sync::Arc<Service> {
    let servers: Vec<Server> =
        servers.iter().map(|server| server.parse::<std::net::SocketAddr>().unwrap().into()).collect();
    let listener = Listener {
        protocol: Protocol::Tcp,
        port: 80,
        addresses: vec!["0.0.0.0".parse().unwrap()].into(),
        allow: Vec::new().into(),
        connect_timeout: std::time::Duration::from_secs(3),
        idle_timeout: std::time::Duration::from_secs(60),
        algorithm: Algorithm::RoundRobin,
        method: None,
        servers: servers.into(),
        dns: None,
    };
    Service { created: None, listeners: vec![listener] }.into()
}

fn desired(revision: &str) -> Desired {
    let services = BTreeMap::from([("default/web".to_owned(), service(&["10.0.0.1:80"]))]);
    Desired { revision: revision.to_owned(), services, ..Desired::default() }
}

fn delta(from: &str, revision: &str) -> Delta {
    Delta { from: from.to_owned(), revision: revision.to_owned(), ..Delta::default() }
}

#[test]
fn it_says_what_it_is_before_it_is_opened() {
    let loaded = Loaded::open(None).unwrap();
    let info = unsafe { *loaded.info };
    let text = |text| unsafe { CStr::from_ptr(text) }.to_bytes();
    assert_eq!((info.magic, info.abi_major, info.abi_minor), (MAGIC, ABI_MAJOR, ABI_MINOR));
    assert_eq!((text(info.name), text(info.version)), (&b"memory"[..], env!("CARGO_PKG_VERSION").as_bytes()));
    let capabilities: Capabilities = read(text(info.capabilities)).unwrap();
    assert!(capabilities.live_servers);
}

#[test]
fn states_and_deltas_are_put_together_and_a_gap_asks_for_the_whole() {
    let loaded = Loaded::open(None).unwrap();
    assert!(!loaded.observe().healthy);
    assert_eq!(loaded.apply(&delta("r0", "r1")).0, code::RESYNC);
    let (done, report) = loaded.apply(&desired("r1"));
    assert_eq!((done, report.unwrap().action), (code::OK, Action::Started));
    let observed = loaded.observe();
    assert_eq!((observed.revision.as_deref(), observed.detail.as_str()), (Some("r1"), "serves 1 Service(s)"));

    let mut more = delta("r1", "r2");
    more.services =
        BTreeMap::from([("default/api".to_owned(), Some(service(&[]))), ("default/never-there".to_owned(), None)]);
    let (done, report) = loaded.apply(&more);
    assert_eq!((done, report.unwrap().action), (code::OK, Action::Reloaded));
    assert_eq!(loaded.observe().detail, "serves 2 Service(s)");
    assert_eq!(loaded.apply(&more).0, code::RESYNC, "its revision is r2, the delta begins with r1");
    let (done, report) = loaded.apply(&delta("r2", "r3"));
    assert_eq!((done, report.unwrap().action), (code::OK, Action::Unchanged));
    assert_eq!(*loaded.logged.lock().unwrap(), ["1 Service(s)", "2 Service(s)", "2 Service(s)"]);
}

#[test]
fn servers_change_live() {
    let loaded = Loaded::open(None).unwrap();
    assert_eq!(loaded.apply(&desired("r1")).0, code::OK);
    let mut live = delta("r1", "r2");
    live.live = true;
    live.services = BTreeMap::from([("default/web".to_owned(), Some(service(&["10.0.0.2:80"])))]);
    let (done, report) = loaded.apply(&live);
    let report = report.unwrap();
    assert_eq!((done, report.action, report.revision.as_str()), (code::OK, Action::Live, "r2"));
    assert_eq!(loaded.observe().revision.as_deref(), Some("r2"));
}

#[test]
fn what_it_refuses_makes_the_rest_partial() {
    let loaded = Loaded::open(Some("refuse evil")).unwrap();
    let mut desired = desired("r1");
    desired.services.insert("evil/web".to_owned(), service(&[]));
    let (done, report) = loaded.apply(&desired);
    let refused = report.unwrap().refused;
    assert_eq!((done, refused.len(), refused.contains_key("evil/web")), (code::PARTIAL, 1, true));
}

#[test]
fn an_error_is_a_code_and_a_text() {
    let (done, text) = Loaded::open(Some("what?")).err().unwrap();
    assert_eq!((done, text.as_str()), (code::INVALID, "the configuration is not `refuse NAMESPACE`: \"what?\""));
    let loaded = Loaded::open(None).unwrap();
    let backend = unsafe { &*loaded.backend };
    let (done, text) = loaded
        .reply::<Report>(|_, reply| unsafe { backend.apply.unwrap()(backend.ctx, b"{}".as_ptr(), 2, 1000, reply) });
    assert_eq!(
        (done, text.unwrap_err().as_str()),
        (code::INVALID, "the document cannot be read: missing field `schema` at line 1 column 2")
    );
    let (done, _) = loaded.apply(&Report::default());
    assert_eq!(done, code::INVALID, "a report is no desired state");
    unsafe {
        backend.cancel.unwrap()(backend.ctx);
        backend.close.unwrap()(backend.ctx);
    }
}

#[test]
fn no_panic_crosses_and_the_backend_is_of_no_use_after_one() {
    let (done, text) = Loaded::load("panics", Some("open")).err().unwrap();
    assert!(done == code::PANIC && text.starts_with("the plugin panicked in open: "), "{done} {text}");
    for place in ["apply", "observe", "stop", "drop"] {
        let loaded = Loaded::load("panics", Some(place)).unwrap();
        let backend = unsafe { &*loaded.backend };
        let codes = || {
            let (applied, said) = loaded.apply(&desired("r1"));
            let (observed, _) =
                loaded.reply::<Observation>(|_, reply| unsafe { backend.observe.unwrap()(backend.ctx, 1000, reply) });
            let (stopped, _) =
                loaded.reply::<Report>(|_, reply| unsafe { backend.stop.unwrap()(backend.ctx, 0, 1000, reply) });
            (said, [applied, observed, stopped])
        };
        let (ok, panic) = (code::OK, code::PANIC);
        let (said, codes) = codes();
        let wanted = match place {
            "apply" => [panic, panic, panic],
            "observe" => [ok, panic, panic],
            "stop" => [ok, ok, panic],
            _ => [ok, ok, ok],
        };
        assert_eq!(codes, wanted, "{place}");
        if place == "apply" {
            assert!(said.unwrap_err().starts_with("the plugin panicked in apply: "));
        }
        unsafe { backend.close.unwrap()(backend.ctx) };
    }
}
