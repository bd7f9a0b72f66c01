//! Servers that answer with their own name, and clients that ask them.
//!
//! An [`Echo`] serves TCP and UDP on one port, on a thread of its own (so it answers whatever the test does).
//! TCP: it greets with one line, its name and the client's address as it sees it, then sends back each line.
//! UDP: it answers each datagram with its name, a space, and the datagram.

mod clients;
mod server;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;

pub use clients::{
    Conversation, Greeting, tcp_ask, tcp_ask_from, tcp_greeting, tcp_tally, udp_ask, udp_ask_from, udp_tally,
};

use crate::netns::Netns;
use crate::ports::{free_port, soon};
use server::Sockets;

/// How often binding is tried on other ports when one was taken meanwhile.
const ATTEMPTS: usize = 5;

/// An echo server. Dropping it closes its sockets and connections, and waits until that is done.
#[derive(Debug)]
pub struct Echo {
    name: String,
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicUsize,
    open: AtomicUsize,
    datagrams: AtomicUsize,
}

/// How an [`Echo`] is started. Made by [`Echo::new`]; as it is: TCP and UDP, on 127.0.0.1, on a free port.
#[derive(Debug, Clone)]
pub struct Builder<'a> {
    name: String,
    ip: IpAddr,
    port: Option<u16>,
    tcp: bool,
    udp: bool,
    netns: Option<&'a Netns>,
}

impl Echo {
    /// Options for a server that calls itself `name`, which has no spaces.
    #[allow(clippy::new_ret_no_self)]
    pub fn new<'a>(name: &str) -> Builder<'a> {
        Builder { name: name.to_owned(), ip: Ipv4Addr::LOCALHOST.into(), port: None, tcp: true, udp: true, netns: None }
    }

    /// Starts one server for each name and address, all on the same free port: nodes of a cluster with the
    /// node port of a Service.
    pub fn on_one_port<'a>(servers: impl IntoIterator<Item = (&'a str, IpAddr)>) -> Result<Vec<Self>> {
        let servers: Vec<_> = servers.into_iter().collect();
        let start = |port| servers.iter().map(|(name, ip)| Echo::new(name).ip(*ip).port(port).start()).collect();
        let mut result = bail_no_attempt();
        for _ in 0..ATTEMPTS {
            result = start(free_port()?);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port it serves on, TCP and UDP.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many TCP connections it has accepted so far.
    pub fn connections(&self) -> usize {
        self.counters.connections.load(Ordering::SeqCst)
    }

    /// How many TCP connections it holds now.
    pub fn open_connections(&self) -> usize {
        self.counters.open.load(Ordering::SeqCst)
    }

    /// How many datagrams it has received so far.
    pub fn datagrams(&self) -> usize {
        self.counters.datagrams.load(Ordering::SeqCst)
    }
}

impl<'a> Builder<'a> {
    /// The address to serve on, IPv4 or IPv6.
    #[must_use]
    pub fn ip(mut self, ip: impl Into<IpAddr>) -> Self {
        self.ip = ip.into();
        self
    }

    /// The port to serve on.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Serves TCP only.
    #[must_use]
    pub fn tcp_only(mut self) -> Self {
        self.udp = false;
        self
    }

    /// Serves UDP only.
    #[must_use]
    pub fn udp_only(mut self) -> Self {
        self.tcp = false;
        self
    }

    /// Serves inside a network namespace.
    #[must_use]
    pub fn inside(mut self, netns: &'a Netns) -> Self {
        self.netns = Some(netns);
        self
    }

    /// Starts the server: once this has returned, it serves.
    ///
    /// Fails if the address or the port cannot be bound.
    pub fn start(self) -> Result<Echo> {
        let sockets = self.bind()?;
        let address = sockets.address();
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("echo-{}", self.name)).spawn({
            let (name, counters) = (self.name.clone(), counters.clone());
            move || server::run(sockets, &name, &counters, stopped)
        })?;
        Ok(Echo { name: self.name, address, counters, stop: Some(stop), thread: Some(thread) })
    }

    fn bind(&self) -> Result<Sockets> {
        let mut result = bail_no_attempt();
        for _ in 0..if self.port.is_some() { 1 } else { ATTEMPTS } {
            let port = self.port.map_or_else(free_port, Ok)?;
            let address = SocketAddr::new(self.ip, port);
            let bind = || soon(|| Sockets::bind(address, self.tcp, self.udp));
            result = match self.netns {
                Some(netns) => netns.enter(bind)?,
                None => bind(),
            }
            .with_context(|| format!("the echo server {} failed to bind {address}", self.name));
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

fn bail_no_attempt<T>() -> Result<T> {
    bail!("not tried")
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Either may have happened before: the thread ends by itself only if it panics.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("test harness: the echo server {} has panicked", self.name);
        }
    }
}
