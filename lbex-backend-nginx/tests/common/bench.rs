//! A backend with a real NGINX, for tests from outside.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lbex_backend_nginx::binary::NginxChoice;
use lbex_backend_nginx::process::Nginx;
use lbex_backend_nginx::{EndpointUpdates, NginxBackend, NginxOptions};
use lbex_core::backend::{ApplyReport, ProxyBackend};
use lbex_core::desired::{Delta, DesiredState, Listener, ServiceConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{change, on, service, tcp, udp};
use crate::net::{ask_tcp, ask_udp, eventually};

/// A backend, what it was told, and a prefix that goes with its NGINX.
pub(crate) struct Bench {
    pub(crate) backend: Option<NginxBackend>,
    pub(crate) choice: NginxChoice,
    pub(crate) updates: EndpointUpdates,
    pub(crate) prefix: PathBuf,
    pub(crate) state: DesiredState,
    _folder: tempfile::TempDir,
}

/// Held while a backend is opened: LBEX has few ports for NGINX's questions, and one that lets go of its port and takes it again may find
/// another test on it.
static OPENING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Bench {
    pub(crate) async fn open(choice: NginxChoice) -> Self {
        let updates = EndpointUpdates::default();
        let folder = tempfile::tempdir().expect("a folder");
        let prefix = folder.path().join("p");
        let _opening = OPENING.lock().await;
        let backend = Some(open(&choice, updates, &prefix).await);
        Self { backend, choice, updates, prefix, state: DesiredState::default(), _folder: folder }
    }

    pub(crate) fn backend(&self) -> &NginxBackend {
        self.backend.as_ref().expect("open")
    }

    pub(crate) fn nginx(&self) -> Nginx {
        Nginx::new(self.backend().layout().clone())
    }

    pub(crate) async fn apply(&mut self, services: &[Arc<ServiceConfig>]) -> ApplyReport {
        let (state, delta) = change(&self.state, services);
        let report = self.backend().apply(&state, &delta).await.expect("applied");
        assert_eq!(report.generation, state.generation);
        self.state = state;
        report
    }

    /// As after an event that changed nothing, or to repair.
    pub(crate) async fn apply_again(&self) -> ApplyReport {
        let delta = Delta { from: self.state.generation, to: self.state.generation, ..Delta::default() };
        self.backend().apply(&self.state, &delta).await.expect("applied")
    }

    /// NGINX serves what it should, as LBEX sees it. One look may get no answer in time, which says nothing.
    pub(crate) async fn is_well(&self) {
        eventually("all is well", async || {
            self.backend().observe().await.is_ok_and(|seen| seen.healthy && seen.in_step)
        })
        .await;
    }

    /// LBEX ends, and another one begins.
    pub(crate) async fn restart(&mut self) {
        let _opening = OPENING.lock().await;
        self.backend = None;
        self.backend = Some(open(&self.choice, self.updates, &self.prefix).await);
        self.state = DesiredState::default();
    }

    pub(crate) async fn master(&self) -> i32 {
        self.nginx().status().await.expect("it runs").id.pid
    }

    pub(crate) async fn pids(&self) -> Vec<i32> {
        let master = self.nginx().status().await.expect("it runs");
        master.all_workers().map(|worker| worker.id.pid).chain([master.id.pid]).collect()
    }

    pub(crate) async fn stop(mut self) {
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

pub(crate) async fn open(choice: &NginxChoice, updates: EndpointUpdates, prefix: &Path) -> NginxBackend {
    let options = NginxOptions {
        choice: choice.clone(),
        prefix: prefix.to_owned(),
        worker_shutdown_timeout: None,
        endpoint_updates: updates,
        starter: lbex_backend_nginx::process::Starter::Own,
        socket_keeper: None,
    };
    NginxBackend::open(options).await.expect("opened")
}

pub(crate) fn at(listener: Listener, address: IpAddr) -> Listener {
    on(listener, &[&address.to_string()])
}

pub(crate) fn to(server: SocketAddr) -> String {
    server.to_string()
}

pub(crate) const SHORT: Duration = Duration::from_millis(300);
pub(crate) const LONG: Duration = Duration::from_secs(5);

/// One Service with TCP and UDP on one port.
pub(crate) fn both(name: &str, listen: SocketAddr, servers: &[SocketAddr]) -> Arc<ServiceConfig> {
    let servers: Vec<String> = servers.iter().copied().map(to).collect();
    let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
    let listeners = vec![tcp(listen.port(), &servers), udp(listen.port(), &servers)];
    service(name, listeners.into_iter().map(|listener| at(listener, listen.ip())).collect())
}

pub(crate) fn answers(address: SocketAddr) -> (Option<String>, Option<String>) {
    let udp = ask_udp(address, b"hello", LONG).map(|bytes| String::from_utf8(bytes).expect("text"));
    (ask_tcp(address), udp)
}

pub(crate) fn named(name: &str) -> (Option<String>, Option<String>) {
    (Some(name.to_owned()), Some(format!("{name} hello")))
}
