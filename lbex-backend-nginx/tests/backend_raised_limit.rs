//! A running NGINX that may open too few files for what is to be served now. A test binary of its own: it gives up root.

#[path = "common/bench.rs"]
mod bench;
mod common;
#[path = "common/net.rs"]
mod net;

use std::net::SocketAddr;
use std::sync::Arc;

use bench::{Bench, at};
use common::{nginxes, service, tcp};
use lbex_core::backend::Action;
use lbex_core::desired::ServiceConfig;
use net::{ask_tcp, free_ports, own_address, server};
use nix::unistd::{Gid, Uid, geteuid, setgid, setuid};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// As an ordinary user, whose processes may be raised up to their hard limit.
fn become_nobody() {
    if geteuid().is_root() {
        setgid(Gid::from_raw(65_534)).expect("another group");
        setuid(Uid::from_raw(65_534)).expect("another user");
    }
}

/// Soft limit of open files, from outside.
fn limit_of(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let line = text.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    line.split_ascii_whitespace().nth(3).and_then(|word| word.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_master_is_allowed_the_files_that_more_services_need() {
    become_nobody();
    let home = own_address();
    let one = server("one", home).to_string();
    let ports = free_ports(home, 600);
    let listener = |n: usize| at(tcp(ports[n], &[&one]), home);
    let services: Vec<Arc<ServiceConfig>> = (0..600).map(|n| service(&format!("s{n}"), vec![listener(n)])).collect();
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        bench.apply(&services[..1]).await;
        let master = bench.master().await;
        // As if it had been started from a shell with `ulimit -Sn 512`.
        let raw = Pid::from_raw(master);
        let maximum = getrlimit(Resource::Nofile).maximum;
        prlimit(raw, Resource::Nofile, Rlimit { current: Some(512), maximum }).expect("lowered");

        let report = bench.apply(&services).await;
        assert_eq!((report.action, report.refused.len()), (Action::Reloaded, 0), "{:?}", report.refused);
        assert_eq!(bench.master().await, master, "the same NGINX");
        for pid in bench.pids().await {
            assert!(limit_of(pid) > 600, "process {pid} may open {}", limit_of(pid));
        }
        for n in [0, 300, 599] {
            assert_eq!(ask_tcp(SocketAddr::new(home, ports[n])).as_deref(), Some("one"), "s{n}");
        }
        bench.stop().await;
    }
}
