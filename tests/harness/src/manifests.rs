//! LBEX on a folder of manifests, and short ways to ask what it serves.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Scratch;
use crate::backends::{Echo, tcp_ask, udp_ask};
use crate::lbex::{Builder, Lbex};
use crate::objects::{EndpointSlice, Object, Service, list, service, slice};
use crate::wait::{SOON, eventually};

/// How long an answer over UDP may take where one is expected; a test that succeeds does not wait for it.
pub const ANSWER: Duration = Duration::from_secs(2);

/// How long silence is listened to.
pub const SILENCE: Duration = Duration::from_millis(300);

/// A folder of manifests. Files come and change by a rename, as editors and configuration managers do it.
#[derive(Debug)]
pub struct Manifests {
    folder: Scratch,
}

impl Manifests {
    /// An empty folder.
    pub fn new() -> Result<Self> {
        // Others may read it: LBEX runs as another user in some tests.
        Ok(Self { folder: Scratch::for_nginx("manifests")? })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file whole.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let hidden = self.folder.join(format!(".{name}.new"));
        std::fs::write(&hidden, text).with_context(|| format!("failed to write {}", hidden.display()))?;
        std::fs::rename(&hidden, self.file(name)).with_context(|| format!("failed to put {name} in place"))
    }

    /// Writes objects to a file.
    pub fn put<'a>(&self, name: &str, objects: impl IntoIterator<Item = &'a dyn Object>) -> Result<()> {
        self.write(name, &list(objects))
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> Result<()> {
        std::fs::remove_file(self.file(name)).with_context(|| format!("failed to remove {name}"))
    }

    /// What makes an LBEX follow it.
    pub fn flag(&self) -> String {
        format!("--manifests={}", self.path().display())
    }
}

/// An LBEX that serves a folder of manifests.
#[derive(Debug)]
pub struct World {
    /// The LBEX.
    pub lbex: Lbex,
    /// What it follows.
    pub manifests: Manifests,
}

impl World {
    /// Starts this LBEX on these objects, and waits until it is healthy and has applied them.
    pub async fn serve<'a>(lbex: Builder, objects: impl IntoIterator<Item = &'a dyn Object>) -> Result<Self> {
        let manifests = Manifests::new()?;
        manifests.put("objects.json", objects)?;
        let lbex = lbex.arg(manifests.flag()).start().await?;
        lbex.wait_healthy().await?;
        let this = Self { lbex, manifests };
        this.wait_applied().await?;
        Ok(this)
    }

    /// Replaces the objects.
    pub fn put<'a>(&self, objects: impl IntoIterator<Item = &'a dyn Object>) -> Result<()> {
        self.manifests.put("objects.json", objects)
    }

    /// Waits until everything planned is confirmed by NGINX.
    pub async fn wait_applied(&self) -> Result<()> {
        self.lbex.wait_applied().await
    }

    /// How often NGINX was reloaded.
    pub async fn reloads(&self) -> Result<f64> {
        let name = "lbex_apply_duration_seconds_count";
        Ok(self.lbex.metric(name, &[("action", "reloaded")]).await?.unwrap_or_default())
    }
}

/// Where LBEX serves a listener port, over IPv4.
pub fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The same over IPv6.
pub fn at6(port: u16) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port).into()
}

/// An address of this host that can stand for a node, a Pod or a client.
pub fn local(network: u8, host: u8) -> IpAddr {
    [127, 0, network, host].into()
}

/// A TCP and UDP Service whose traffic goes to Pods: LBEX's `listener` port for the ports `tcp` and `udp`.
pub fn pods(name: &str, listener: u16) -> Service {
    service(name)
        .ask()
        .lbex("upstream-type", "pod")
        .tcp("tcp", listener, 0)
        .udp("udp", listener, 0)
        .listen("tcp", listener)
        .listen("udp", listener)
}

/// The EndpointSlice of a Service made by [`pods`], with these servers, which all have the same port.
pub fn pods_slice<'a>(service: &str, servers: impl IntoIterator<Item = &'a Echo>) -> EndpointSlice {
    let mut servers = servers.into_iter().peekable();
    let port = servers.peek().map_or(1, |server| server.port());
    let ports = slice(&format!("{service}-1"), service).tcp("tcp", port).udp("udp", port);
    servers.fold(ports, |slice, server| slice.ready(server.address().ip(), "somewhere"))
}

/// Servers called `a`, `b`, `c`, ... on one port of 127.0.10.1, .2, .3, ...
pub fn servers(count: u8) -> Result<Vec<Echo>> {
    let names: Vec<String> = (0..count).map(|n| char::from(b'a' + n).to_string()).collect();
    Echo::on_one_port(names.iter().zip(1..).map(|(name, n)| (name.as_str(), local(10, n))))
}

/// Waits until exactly these servers answer, each of them, over TCP.
pub async fn tcp_reaches(server: SocketAddr, names: &[&str]) -> Result<()> {
    reaches("TCP", server, names, || tcp_ask(server)).await
}

/// Waits until exactly these servers answer, each of them, over UDP.
pub async fn udp_reaches(server: SocketAddr, names: &[&str]) -> Result<()> {
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
pub async fn tcp_closes(server: SocketAddr) -> Result<()> {
    eventually(&format!("TCP clients of {server} are closed"), SOON, || fails_with(tcp_ask(server), CLOSED)).await
}

/// Waits until nothing listens on a TCP port.
pub async fn tcp_refused(server: SocketAddr) -> Result<()> {
    let refused = &[io::ErrorKind::ConnectionRefused];
    eventually(&format!("{server} refuses TCP clients"), SOON, || fails_with(tcp_ask(server), refused)).await
}

/// Waits until UDP gets no answer.
pub async fn udp_silent(server: SocketAddr) -> Result<()> {
    let silent = &[io::ErrorKind::TimedOut];
    let what = format!("{server} is silent over UDP");
    eventually(&what, SOON, || fails_with(udp_ask(server, "anybody", SILENCE), silent)).await
}

/// Waits until UDP clients are told that nobody takes what they send.
pub async fn udp_refused(server: SocketAddr) -> Result<()> {
    let refused = &[io::ErrorKind::ConnectionRefused];
    let what = format!("{server} refuses UDP clients");
    eventually(&what, SOON, || fails_with(udp_ask(server, "anybody", ANSWER), refused)).await
}

/// How a TCP client sees that it was accepted and closed.
pub const CLOSED: &[io::ErrorKind] = &[io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];

/// Fails unless `asking` fails in one of these ways.
pub async fn fails_with(asking: impl Future<Output = io::Result<String>>, kinds: &[io::ErrorKind]) -> Result<()> {
    match asking.await {
        Ok(name) => anyhow::bail!("{name} answered"),
        Err(error) if kinds.contains(&error.kind()) => Ok(()),
        Err(error) => Err(error).context("failed in another way"),
    }
}
