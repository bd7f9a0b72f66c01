//! The backend with the embedded NGINX, taken up from an LBEX that was killed, while clients ask.
#![cfg(feature = "embedded")]

#[path = "common/bench.rs"]
mod bench;
mod common;
#[path = "common/net.rs"]
mod net;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use bench::{Bench, both};
use lbex_backend_nginx::EndpointUpdates;
use lbex_backend_nginx::binary::NginxChoice;
use lbex_core::backend::Action;
use net::{ask_tcp, free_port, own_address, server};

/// An LBEX was killed after it had written names for the servers and before NGINX took them over, and NGINX cannot be asked what it
/// serves: it gets addresses beside the names first, as it has asked for none.
#[tokio::test(flavor = "multi_thread")]
async fn an_nginx_without_its_socket_that_never_asked_for_endpoints_serves_without_a_gap() {
    let mut bench = Bench::open(NginxChoice::Embedded).await;
    let home = own_address();
    let (one, a) = (server("one", home), SocketAddr::new(home, free_port(home)));
    let services = [both("a", a, &[one])];
    bench.apply(&services).await;
    let (conf, written) = (bench.prefix.join("conf"), bench.prefix.with_file_name("written"));
    copy(&conf, &written);
    bench.updates = EndpointUpdates::Reload;
    bench.restart().await;
    bench.apply(&services).await;
    copy(&written.join("."), &conf);
    std::fs::remove_file(bench.backend().layout().generation_socket()).expect("removed");

    let (master, clients) = (bench.master().await, Clients::start(a));
    bench.updates = EndpointUpdates::Push;
    bench.restart().await;
    let report = bench.apply(&services).await;
    assert_eq!((report.action, bench.master().await), (Action::Reloaded, master));
    let answers = clients.answers();
    assert_eq!(answers.keys().collect::<Vec<_>>(), [&Some("one".to_owned())], "{answers:?}");
    bench.stop().await;
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().expect("run").success());
}

/// Clients that ask one after the other.
struct Clients {
    done: Arc<AtomicBool>,
    asking: JoinHandle<BTreeMap<Option<String>, u32>>,
}

impl Clients {
    fn start(address: SocketAddr) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let is_done = done.clone();
        let asking = std::thread::spawn(move || {
            let mut answers = BTreeMap::new();
            while !is_done.load(Ordering::Acquire) {
                *answers.entry(ask_tcp(address)).or_default() += 1;
            }
            answers
        });
        Self { done, asking }
    }

    /// How often each answer was given until now.
    fn answers(self) -> BTreeMap<Option<String>, u32> {
        self.done.store(true, Ordering::Release);
        self.asking.join().expect("no panic")
    }
}
