//! A real Kubernetes API server: etcd and kube-apiserver, on loopback, with RBAC.
//!
//! [`ApiServer::shared`] is one server per test binary, with a namespace per test; [`ApiServer::start`] and
//! [`ApiServer::builder`] make servers of a test's own, which may be restarted, paused and compacted.
//! Nodes are not in namespaces: tests that make Nodes on the shared server give them names of their own, and
//! tests about all Nodes (`node-set: all`, mass removals) use a server of their own.

mod access;
mod components;
mod options;
mod pki;
mod storage;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ObjectMeta, PostParams};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::sync::OnceCell;

pub use access::{Access, KubectlProxy};
pub use options::Builder;
pub use storage::Backup;

pub(crate) use pki::ca_params;

use crate::ports::{Lock, free_port};
use crate::process::Process;
use crate::wait::eventually;
use crate::{Scratch, http, programs};
use pki::Pki;

/// How long starting may take: seconds on an idle machine, much longer where everything runs at once.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// How often a server is started on other ports when one was taken meanwhile.
const ATTEMPTS: usize = 3;

static SHARED: OnceCell<ApiServer> = OnceCell::const_new();

/// A running API server with its etcd. Dropping it ends all its processes and removes its files.
#[derive(Debug)]
pub struct ApiServer {
    server: Option<Process>,
    // In this order they are dropped: etcd last.
    components: Vec<Process>,
    etcd: Process,
    port: u16,
    etcd_port: u16,
    flags: Vec<String>,
    services: ServiceRange,
    pki: Pki,
    kubeconfig: PathBuf,
    scratch: Scratch,
}

impl ApiServer {
    /// Starts an API server of the test's own, and waits until it is ready (some seconds).
    ///
    /// Fails where a program is missing (run `tests/tools/install.sh`), or with the end of the log of what
    /// did not start.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Starts an API server with a controller manager.
    pub async fn with_controller_manager() -> Result<Self> {
        Self::builder().controller_manager().start().await
    }

    /// Options for an API server of the test's own.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The API server of this test binary, started by the first test that asks. It ends with the process.
    pub async fn shared() -> Result<&'static Self> {
        SHARED.get_or_try_init(Self::start).await
    }

    pub(super) async fn start_with(options: Builder) -> Result<Self> {
        let mut attempt = 1;
        loop {
            match Self::try_start(&options).await {
                Err(error) if attempt < ATTEMPTS && format!("{error:#}").contains("address already in use") => {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn try_start(options: &Builder) -> Result<Self> {
        let scratch = Scratch::new("apiserver")?;
        let (port, etcd_port) = (free_port()?, free_port()?);
        let etcd = start_etcd(&scratch, etcd_port)?;
        let pki = Pki::create(&scratch).context("failed to make certificates")?;
        let kubeconfig = scratch.join("admin.kubeconfig");
        let mut this = Self {
            server: None,
            components: Vec::new(),
            etcd,
            port,
            etcd_port,
            flags: options.flags.clone(),
            services: ServiceRange::take()?,
            pki,
            kubeconfig,
            scratch,
        };
        this.write_kubeconfig(&this.kubeconfig, &this.admin_user())?;
        this.start_again().await?;
        this.wait_for_namespaces().await?;
        this.components = components::start(&this, options)?;
        Ok(this)
    }

    /// A client with all rights, for the runtime it is made on (each `#[tokio::test]` has one of its own).
    pub async fn client(&self) -> Result<kube::Client> {
        self.client_of(&self.kubeconfig).await
    }

    /// A kubeconfig file with all rights, by client certificate.
    pub fn kubeconfig_admin(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where it listens: `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address())
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The certificate of the authority that signed its certificate.
    pub fn ca_pem(&self) -> &str {
        &self.pki.ca_pem
    }

    /// The ranges that ClusterIPs come from, IPv4 and IPv6: this server's alone among those that run on this
    /// machine. Services are dual stack if they ask for it (`ipFamilyPolicy`).
    pub fn service_ranges(&self) -> [String; 2] {
        self.services.cidrs()
    }

    /// Makes a namespace with a name of its own.
    pub async fn namespace(&self) -> Result<String> {
        let name = ObjectMeta { generate_name: Some("test-".to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata: name, ..Namespace::default() };
        let namespaces: Api<Namespace> = Api::all(self.client().await?);
        let made = namespaces.create(&PostParams::default(), &namespace).await.context("failed to make a namespace")?;
        made.metadata.name.context("a namespace without a name")
    }

    /// Kills the API server; etcd keeps running, and clients get 'connection refused'.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts the API server that was stopped, on the same port with the same data, and waits until it is ready.
    pub async fn start_again(&mut self) -> Result<()> {
        let log = self.scratch.join("kube-apiserver.log");
        let process = Process::start("kube-apiserver", &self.command()?, &log)?;
        let ready = tokio::select! {
            ready = eventually("the API server is ready", START_DEADLINE, || self.readyz()) => ready,
            ended = process.wait(START_DEADLINE * 2) => ended.map(drop),
        };
        process.check_running()?;
        ready.with_context(|| format!("the API server did not start; its log ends with:\n{}", process.log_tail()))?;
        self.server = Some(process);
        Ok(())
    }

    /// Kills the API server and starts it again, on the same port with the same data.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop();
        self.start_again().await
    }

    /// Stops the API server with SIGSTOP: it accepts connections (the kernel does) and answers nothing.
    pub fn pause(&mut self) -> Result<()> {
        self.running()?.signal(Signal::SIGSTOP)
    }

    /// Ends [`pause`](Self::pause).
    pub fn resume(&mut self) -> Result<()> {
        self.running()?.signal(Signal::SIGCONT)
    }

    /// Removes all history from etcd. A watch that continues from an older version then gets 410 Gone, if
    /// the server runs [without a watch cache](Builder::without_watch_cache) or was restarted since.
    pub async fn compact(&self) -> Result<()> {
        let etcd = SocketAddr::from((Ipv4Addr::LOCALHOST, self.etcd_port));
        // Any key: only the revision in the answer's header counts.
        let range = http::post_json(etcd, "/v3/kv/range", &json!({"key": "AA=="})).await?;
        let range: serde_json::Value = serde_json::from_str(&range.body).context("etcd did not answer in JSON")?;
        let revision = &range["header"]["revision"];
        let request = json!({"revision": revision, "physical": true});
        let answer = http::post_json(etcd, "/v3/kv/compaction", &request).await?;
        if answer.status != 200 {
            bail!("etcd refused to compact up to revision {revision}: {}", answer.body);
        }
        Ok(())
    }

    /// Fails, with the end of its log, if etcd or one of the programs beside the API server has ended.
    pub fn check_running(&self) -> Result<()> {
        self.components.iter().chain([&self.etcd]).chain(&self.server).try_for_each(Process::check_running)
    }

    /// The end of the log of a program: `kube-apiserver`, `etcd`, `kube-controller-manager`,
    /// `kube-scheduler`, `kwok`.
    pub fn log_tail(&self, program: &str) -> String {
        crate::process::tail(&self.scratch.join(format!("{program}.log")))
    }

    fn running(&self) -> Result<&Process> {
        self.server.as_ref().context("the API server is stopped")
    }

    async fn readyz(&self) -> Result<()> {
        let request = ::http::Request::get("/readyz").body(Vec::new())?;
        let client = self.client().await?;
        let answer = client.request_text(request);
        let text =
            tokio::time::timeout(Duration::from_secs(5), answer).await.context("no answer to /readyz in 5 s")??;
        if text == "ok" { Ok(()) } else { bail!("/readyz says {text:?}") }
    }

    // `default` and `kube-system` come a moment after the server is ready.
    async fn wait_for_namespaces(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client().await?);
        for name in ["default", "kube-system"] {
            eventually("the first namespaces", START_DEADLINE, || namespaces.get(name)).await?;
        }
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(programs::find("kube-apiserver")?);
        let path = |name: &str, path: &Path| format!("--{name}={}", path.display());
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
            .arg(format!("--secure-port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"])
            .arg(path("cert-dir", &self.scratch.join("certs")))
            .arg(path("tls-cert-file", &self.pki.server_certificate))
            .arg(path("tls-private-key-file", &self.pki.server_key))
            .arg(path("client-ca-file", &self.pki.ca))
            .arg(path("service-account-key-file", &self.pki.service_account_public_key))
            .arg(path("service-account-signing-key-file", &self.pki.service_account_key))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .args(["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"])
            .arg(format!("--service-cluster-ip-range={}", self.services.cidrs().join(",")))
            // Any: the node ports of a test are the ports that its backends got.
            .arg("--service-node-port-range=1024-65535")
            .arg("--allow-privileged=true")
            .args(&self.flags);
        Ok(command)
    }
}

fn start_etcd(scratch: &Scratch, port: u16) -> Result<Process> {
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{}", free_port()?);
    let mut command = Command::new(programs::find("etcd")?);
    command
        .args(["--name=test", "--logger=zap"])
        .arg(format!("--data-dir={}", scratch.join("etcd").display()))
        .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
        .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
        .arg(format!("--initial-cluster=test={peer}"));
    Process::start("etcd", &command, &scratch.join("etcd.log"))
}

/// A range of ClusterIPs that no other test process of this machine has.
#[derive(Debug)]
struct ServiceRange {
    index: u64,
    _lock: Lock,
}

impl ServiceRange {
    // Of 100.64.0.0/10, which is for carriers' own use and so on no host's network.
    fn take() -> Result<Self> {
        let (index, lock) = Lock::any("service-ranges", 64, |_| true)?;
        Ok(Self { index, _lock: lock })
    }

    fn cidrs(&self) -> [String; 2] {
        [format!("100.{}.0.0/16", 64 + self.index), format!("fd64:6c62:6578:{:x}::/112", self.index)]
    }
}
