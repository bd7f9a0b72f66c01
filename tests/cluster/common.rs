//! What these tests share: a namespace with a node, LBEX on it, and who answers where.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::backends::{Echo, tcp_ask, tcp_tally, udp_ask};
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::objects::{Objects, Service, node, service, slice};
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually, eventually_is};
use tokio::task::JoinHandle;

/// The LBEX under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lbex"))
}

/// An endpoint address for Services whose traffic goes to nodes: nothing is ever sent there.
pub(crate) const ELSEWHERE: &str = "198.51.100.1";

/// A namespace of an API server, with one Ready node at 127.0.0.1.
pub(crate) struct Cluster {
    pub(crate) objects: Objects,
    pub(crate) kubeconfig: PathBuf,
    /// The node at 127.0.0.1: [`Cluster::node`].
    pub(crate) node: String,
}

impl Cluster {
    /// On the shared API server.
    pub(crate) async fn new() -> Result<Self> {
        Self::on(ApiServer::shared().await?).await
    }

    /// On an API server of the test's own.
    pub(crate) async fn on(server: &ApiServer) -> Result<Self> {
        let objects = Objects::new(server.client().await?, server.namespace().await?);
        let this = Self { node: String::new(), kubeconfig: server.kubeconfig_admin().to_owned(), objects };
        let name = this.name("node");
        this.objects.create(&node(&name).internal(Ipv4Addr::LOCALHOST)).await?;
        Ok(Self { node: name, ..this })
    }

    /// The namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.objects.namespace()
    }

    /// A name that no other test uses, for what is not in a namespace.
    pub(crate) fn name(&self, short: &str) -> String {
        format!("{short}-{}", self.namespace())
    }

    /// The node at 127.0.0.1.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Makes a node called `short` (see [`name`](Self::name)) with an internal address.
    pub(crate) async fn add_node(&self, short: &str, internal: impl Into<IpAddr>) -> Result<String> {
        let name = self.name(short);
        self.objects.create(&node(&name).internal(internal.into())).await?;
        Ok(name)
    }

    /// LBEX on this namespace, which says everything that it decides.
    pub(crate) fn lbex(&self) -> Builder {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig.display());
        Lbex::builder(binary()).args([kubeconfig, format!("--namespace={}", self.namespace()), "-v=1".to_owned()])
    }

    /// Starts it with these flags besides and waits until it is healthy.
    pub(crate) async fn start(&self, flags: &[&str]) -> Result<Lbex> {
        let lbex = self.lbex().args(flags).start().await?;
        lbex.wait_healthy().await?;
        Ok(lbex)
    }

    /// Makes a Service that asks for LBEX, with one TCP port called `http`, and a backend of its name behind its node port.
    /// `change` may add to it.
    pub(crate) async fn serve(&self, name: &str, change: impl Fn(Service) -> Service) -> Result<Served> {
        self.serve_any(name, |service, listen| change(service.ask().listen("http", listen))).await
    }

    /// Like [`serve`](Self::serve), for a Service that does not ask, with a free port to listen on.
    pub(crate) async fn serve_any(&self, name: &str, change: impl Fn(Service, u16) -> Service) -> Result<Served> {
        let port = free_port()?;
        self.objects.create(&slice(&format!("{name}-1"), name).tcp("http", 80).ready(ELSEWHERE, self.node())).await?;
        let mut tries = 0;
        loop {
            let echo = Echo::new(name).start()?;
            tries += 1;
            match self.objects.create(&change(service(name).tcp("http", 80, echo.port()), port)).await {
                // The API server may have given this number to another test's Service.
                Err(error) if tries < 3 && format!("{error:#}").contains("already allocated") => {}
                made => return made.map(|_| Served { port, _echo: echo }),
            }
        }
    }

    /// Waits until the log has this reason of a Service of this namespace; returns the line.
    pub(crate) async fn told(&self, lbex: &Lbex, service: &str, reason: &str) -> Result<String> {
        self.told_since(lbex, 0, service, reason).await
    }

    /// Like [`told`](Self::told), for lines after a mark.
    pub(crate) async fn told_since(&self, lbex: &Lbex, mark: usize, service: &str, reason: &str) -> Result<String> {
        let fields = format!("service={}/{service} reason={reason}", self.namespace());
        lbex.wait_log_since(mark, &fields, SOON).await
    }

    /// Whether the log has a line about a Service of this namespace with this reason.
    pub(crate) fn has_told(&self, lbex: &Lbex, service: &str, reason: &str) -> bool {
        lbex.log().contains(&format!("service={}/{service} reason={reason}\n", self.namespace()))
    }

    /// The part of NGINX's configuration that is for a Service of this namespace; fails if it has none.
    pub(crate) fn configuration(&self, lbex: &Lbex, service: &str) -> Result<String> {
        let main = std::fs::read_to_string(lbex.prefix().join("conf/nginx.conf"))?;
        let start = format!("include ../services/{}.{service}.", self.namespace());
        let line = main.lines().map(str::trim).find(|line| line.starts_with(&start));
        let file = line.with_context(|| format!("{service} has no configuration"))?;
        let file = file.trim_start_matches("include ../").trim_end_matches(';');
        Ok(std::fs::read_to_string(lbex.prefix().join(file))?)
    }

    /// Waits until the configuration of a Service has a text.
    pub(crate) async fn configured(&self, lbex: &Lbex, service: &str, text: &str) -> Result<()> {
        eventually(&format!("the configuration of {service} has {text:?}"), SOON, || async {
            let configuration = self.configuration(lbex, service)?;
            anyhow::ensure!(configuration.contains(text), "{configuration}");
            Ok(())
        })
        .await
    }
}

/// A Service with one TCP port and one backend.
pub(crate) struct Served {
    /// The port it asked for.
    pub(crate) port: u16,
    /// The backend, of the Service's name.
    _echo: Echo,
}

/// 127.0.0.1 and a port: where LBEX listens.
pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Who answers a TCP client: the name of a backend, or `refused` (no listener), `closed` (no endpoints, or not let in), or what
/// else happened.
pub(crate) async fn answer(address: SocketAddr) -> String {
    tcp_ask(address).await.unwrap_or_else(|error| outcome(&error))
}

/// Who answers a UDP client: the name of a backend, `refused` (no listener), or `silent`.
pub(crate) async fn udp_answer(address: SocketAddr) -> String {
    let answer = udp_ask(address, "question", Duration::from_millis(500)).await;
    answer.unwrap_or_else(|error| outcome(&error))
}

fn outcome(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "refused".to_owned(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => "closed".to_owned(),
        ErrorKind::TimedOut => "silent".to_owned(),
        _ => error.to_string(),
    }
}

/// Waits until a TCP client at `port` is answered by `who` (as [`answer`] says).
pub(crate) async fn tcp_is(port: u16, who: &str) -> Result<()> {
    at_is(local(port), who).await
}

/// Like [`tcp_is`], at any address.
pub(crate) async fn at_is(address: SocketAddr, who: &str) -> Result<()> {
    let what = format!("TCP {address} is answered by {who}");
    eventually_is(&what, SOON, who.to_owned(), || answer(address)).await
}

/// Waits until a UDP client at `port` is answered by `who`.
pub(crate) async fn udp_is(port: u16, who: &str) -> Result<()> {
    udp_at_is(local(port), who).await
}

/// Like [`udp_is`], at any address.
pub(crate) async fn udp_at_is(address: SocketAddr, who: &str) -> Result<()> {
    let what = format!("UDP {address} is answered by {who}");
    eventually_is(&what, SOON, who.to_owned(), || udp_answer(address)).await
}

/// Waits until exactly these backends share the TCP clients at `port`.
pub(crate) async fn spread_is(port: u16, names: &[&str]) -> Result<()> {
    let expected: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
    let clients = names.len() * 4;
    eventually_is(&format!("TCP {port} is answered by {names:?}"), SOON, Ok(expected), || async move {
        let tally = tcp_tally(local(port), clients).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(tally.into_keys().collect())
    })
    .await
}

/// A client that asks again and again, and must always be answered as it should.
pub(crate) struct Steady {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<usize, String>>,
}

impl Steady {
    /// Begins to ask at `port`, where one backend must answer.
    pub(crate) fn start(port: u16, name: &str) -> Self {
        let name = name.to_owned();
        Self::start_with(port, move |seen| seen == name)
    }

    /// Begins to ask at `port`, where `accept` says which answers are right.
    pub(crate) fn start_with(port: u16, accept: impl Fn(&str) -> bool + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut count = 0;
            while !stopped.load(Ordering::SeqCst) {
                let seen = answer(local(port)).await;
                if !accept(&seen) {
                    return Err(format!("after {count} right answers: {seen}"));
                }
                count += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(count)
        });
        Self { stop, task }
    }

    /// Ends; fails if ever somebody else answered, or nobody.
    pub(crate) async fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        let count = self.task.await?.map_err(anyhow::Error::msg)?;
        anyhow::ensure!(count > 0, "nobody was asked");
        Ok(())
    }
}
