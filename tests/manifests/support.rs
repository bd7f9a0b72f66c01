//! A running LBEX that follows a folder of manifests, and short ways to ask what it serves.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::{Echo, tcp_ask, udp_ask};
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::netns::Netns;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{EndpointSlice, Object, Service, list, service, slice};
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// How long an answer over UDP may take where one is expected; a test that succeeds does not wait for it.
pub(crate) const ANSWER: Duration = Duration::from_secs(2);

/// How long silence is listened to.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// With this variable set, tests that take seconds take the minutes that their numbers are meant for.
pub(crate) const LONG: &str = "LBEX_TEST_LONG";

/// The LBEX under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lbex"))
}

/// A folder of manifests. Files come and change by a rename, as editors and configuration managers do it.
#[derive(Debug)]
pub(crate) struct Manifests {
    folder: Scratch,
}

impl Manifests {
    pub(crate) fn new() -> Result<Self> {
        // Others may read it: LBEX runs as another user in some tests.
        Ok(Self { folder: Scratch::for_nginx("manifests")? })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file whole.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let hidden = self.folder.join(format!(".{name}.new"));
        std::fs::write(&hidden, text).with_context(|| format!("failed to write {}", hidden.display()))?;
        std::fs::rename(&hidden, self.file(name)).with_context(|| format!("failed to put {name} in place"))
    }

    /// Writes objects to a file.
    pub(crate) fn put<'a>(&self, name: &str, objects: impl IntoIterator<Item = &'a dyn Object>) -> Result<()> {
        self.write(name, &list(objects))
    }

    /// Removes a file.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        std::fs::remove_file(self.file(name)).with_context(|| format!("failed to remove {name}"))
    }

    /// How an LBEX is started on them.
    pub(crate) fn lbex(&self, nginx: Nginx) -> Builder {
        Lbex::builder(binary()).arg(format!("--manifests={}", self.path().display())).nginx(nginx)
    }
}

/// An LBEX that serves a folder of manifests.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) lbex: Lbex,
    pub(crate) manifests: Manifests,
}

impl World {
    /// Starts LBEX on these objects, and waits until it is healthy. Reloads may follow one another at once.
    pub(crate) async fn start<'a>(nginx: Nginx, objects: impl IntoIterator<Item = &'a dyn Object>) -> Result<Self> {
        Self::start_with(nginx, &["--reload-interval=100ms"], objects).await
    }

    /// The same with these flags.
    pub(crate) async fn start_with<'a>(
        nginx: Nginx,
        flags: &[&str],
        objects: impl IntoIterator<Item = &'a dyn Object>,
    ) -> Result<Self> {
        let manifests = Manifests::new()?;
        manifests.put("objects.json", objects)?;
        let lbex = manifests.lbex(nginx).args(flags).start().await?;
        lbex.wait_healthy().await?;
        let this = Self { lbex, manifests };
        this.wait_applied().await?;
        Ok(this)
    }

    /// Replaces the objects.
    pub(crate) fn put<'a>(&self, objects: impl IntoIterator<Item = &'a dyn Object>) -> Result<()> {
        self.manifests.put("objects.json", objects)
    }

    /// Waits until everything planned is confirmed by NGINX.
    pub(crate) async fn wait_applied(&self) -> Result<()> {
        eventually("what was planned is applied", SOON, || async {
            let ready = self.lbex.get("/readyz").await?;
            ensure!(ready.status == 200, "{} {:?}", ready.status, ready.body);
            let planned = self.lbex.metric("lbex_desired_generation", &[]).await?;
            let applied = self.lbex.metric("lbex_applied_generation", &[]).await?;
            ensure!(planned == applied, "planned {planned:?}, applied {applied:?}");
            Ok(())
        })
        .await
    }

    /// The ids of the NGINX processes that serve new clients, master and workers.
    pub(crate) fn nginx_pids(&self) -> Vec<u32> {
        serving_pids(&self.lbex)
    }

    /// How often NGINX was reloaded.
    pub(crate) async fn reloads(&self) -> Result<f64> {
        let name = "lbex_apply_duration_seconds_count";
        Ok(self.lbex.metric(name, &[("action", "reloaded")]).await?.unwrap_or_default())
    }
}

/// The ids of an LBEX's NGINX processes that serve new clients, master and workers.
pub(crate) fn serving_pids(lbex: &Lbex) -> Vec<u32> {
    let processes = lbex.nginx_processes();
    processes.iter().filter(|process| !process.is_shutting_down()).map(|process| process.pid).collect()
}

/// Where LBEX serves a listener port, over IPv4.
pub(crate) fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The same over IPv6.
pub(crate) fn at6(port: u16) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port).into()
}

/// An address of this host that can stand for a node, a Pod or a client.
pub(crate) fn local(network: u8, host: u8) -> IpAddr {
    [127, 0, network, host].into()
}

/// A TCP and UDP Service whose traffic goes to Pods: LBEX's `listener` port for the ports `tcp` and `udp`.
pub(crate) fn pods(name: &str, listener: u16) -> Service {
    service(name)
        .ask()
        .lbex("upstream-type", "pod")
        .tcp("tcp", listener, 0)
        .udp("udp", listener, 0)
        .listen("tcp", listener)
        .listen("udp", listener)
}

/// The EndpointSlice of a Service made by [`pods`], with these servers, which all have the same port.
pub(crate) fn pods_slice<'a>(service: &str, servers: impl IntoIterator<Item = &'a Echo>) -> EndpointSlice {
    let mut servers = servers.into_iter().peekable();
    let port = servers.peek().map_or(1, |server| server.port());
    let ports = slice(&format!("{service}-1"), service).tcp("tcp", port).udp("udp", port);
    servers.fold(ports, |slice, server| slice.ready(server.address().ip(), "somewhere"))
}

/// Servers called `a`, `b`, `c`, ... on one port of 127.0.10.1, .2, .3, ...
pub(crate) fn servers(count: u8) -> Result<Vec<Echo>> {
    let names: Vec<String> = (0..count).map(|n| char::from(b'a' + n).to_string()).collect();
    Echo::on_one_port(names.iter().zip(1..).map(|(name, n)| (name.as_str(), local(10, n))))
}

/// Waits until exactly these servers answer, each of them, over TCP.
pub(crate) async fn tcp_reaches(server: SocketAddr, names: &[&str]) -> Result<()> {
    reaches("TCP", server, names, || tcp_ask(server)).await
}

/// Waits until exactly these servers answer, each of them, over UDP.
pub(crate) async fn udp_reaches(server: SocketAddr, names: &[&str]) -> Result<()> {
    reaches("UDP", server, names, || udp_ask(server, "who", ANSWER)).await
}

async fn reaches<F: Future<Output = io::Result<String>>>(
    protocol: &str,
    server: SocketAddr,
    names: &[&str],
    mut ask: impl FnMut() -> F,
) -> Result<()> {
    let expected: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
    let what = format!("{protocol} to {server} reaches {names:?}");
    let mut round = || {
        // Round robin: after a few rounds everyone had a turn.
        let asks: Vec<_> = (0..names.len() * 3).map(|_| ask()).collect();
        async {
            let mut seen = BTreeSet::new();
            for ask in asks {
                seen.insert(ask.await?);
            }
            ensure!(seen == expected, "{seen:?}");
            Ok(())
        }
    };
    eventually(&what, SOON, &mut round).await
}

/// Waits until TCP clients are accepted and closed at once, or sooner: no endpoints, or kept out.
pub(crate) async fn tcp_closes(server: SocketAddr) -> Result<()> {
    eventually(&format!("TCP clients of {server} are closed"), SOON, || fails_with(tcp_ask(server), CLOSED)).await
}

/// Waits until nothing listens on a TCP port.
pub(crate) async fn tcp_refused(server: SocketAddr) -> Result<()> {
    let refused = &[io::ErrorKind::ConnectionRefused];
    eventually(&format!("{server} refuses TCP clients"), SOON, || fails_with(tcp_ask(server), refused)).await
}

/// Waits until UDP gets no answer.
pub(crate) async fn udp_silent(server: SocketAddr) -> Result<()> {
    let silent = &[io::ErrorKind::TimedOut];
    let what = format!("{server} is silent over UDP");
    eventually(&what, SOON, || fails_with(udp_ask(server, "anybody", SILENCE), silent)).await
}

/// How a TCP client sees that it was accepted and closed.
pub(crate) const CLOSED: &[io::ErrorKind] = &[io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];

/// Fails unless `asking` fails in one of these ways.
pub(crate) async fn fails_with(
    asking: impl Future<Output = io::Result<String>>,
    kinds: &[io::ErrorKind],
) -> Result<()> {
    match asking.await {
        Ok(name) => anyhow::bail!("{name} answered"),
        Err(error) if kinds.contains(&error.kind()) => Ok(()),
        Err(error) => Err(error).context("failed in another way"),
    }
}

/// Runs a test inside a network namespace of its own where that is allowed (root): no port there is anybody else's.
pub(crate) async fn alone<T: Future<Output = Result<()>>>(test: impl FnOnce() -> T + Send) -> Result<()> {
    if !geteuid().is_root() {
        return test().await;
    }
    Netns::new()?.run(test)?
}

/// What NGINX has written to its error log.
pub(crate) fn error_log(lbex: &Lbex) -> Result<String> {
    let path = lbex.prefix().join("logs/error.log");
    std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid.try_into()?), signal).with_context(|| format!("failed to send {signal} to {pid}"))
}
