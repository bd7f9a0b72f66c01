//! Ports that are free, and stay so until the test process ends.
//!
//! A port that the kernel gave (`bind` to port 0) may be taken by any connection as soon as it is let go of.
//! So ports for LBEX's listeners come from below the kernel's own range, in blocks that one test
//! process at a time holds: the lock is a socket in the abstract namespace, which ends with the process. Each network
//! namespace has ports and such sockets of its own, so a block belongs to the namespace of the thread that asks.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

/// The first port handed out.
const LOWEST: u16 = 10_000;

/// How many ports one lock covers.
const BLOCK: u16 = 64;

/// How long a port is tried that somebody else seems to have.
const LET_GO: Duration = Duration::from_secs(5);

/// By network namespace.
static HELD: Mutex<BTreeMap<PathBuf, Held>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Held {
    locks: Vec<Lock>,
    next: u16,
    end: u16,
}

/// A port on which nothing listens, on no address, TCP or UDP, IPv4 or IPv6.
///
/// It is not handed out again, to this or another test process, before this process ends.
pub fn free_port() -> Result<u16> {
    let namespace = std::fs::read_link("/proc/thread-self/ns/net").context("failed to read the network namespace")?;
    let mut all = HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let held = all.entry(namespace).or_default();
    loop {
        while held.next < held.end {
            held.next += 1;
            if is_free(held.next - 1) {
                return Ok(held.next - 1);
            }
        }
        let (first, lock) = take_block()?;
        held.locks.push(lock);
        held.next = first;
        held.end = first + BLOCK;
    }
}

/// Several different ports, each as [`free_port`] gives them.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    (0..count).map(|_| free_port()).collect()
}

/// Tries to bind a free port until it can be had: a program that another test starts has this process's sockets too, until it is executed.
pub fn soon<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + LET_GO;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

fn take_block() -> Result<(u16, Lock)> {
    let blocks = (ephemeral_start() - LOWEST) / BLOCK;
    let (index, lock) = Lock::any("ports", blocks.into(), |_| true)
        .with_context(|| format!("no free block of {BLOCK} ports between {LOWEST} and {}", ephemeral_start()))?;
    Ok((LOWEST + BLOCK * u16::try_from(index)?, lock))
}

/// Where the range begins from which the kernel takes ports by itself.
fn ephemeral_start() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_ascii_whitespace().next()?.parse().ok())
        .filter(|start| *start > LOWEST + 50 * BLOCK)
        .unwrap_or(32_768)
}

fn is_free(port: u16) -> bool {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    TcpListener::bind(v4).is_ok() && UdpSocket::bind(v4).is_ok() && is_free_v6(v6)
}

// Apart from IPv4, which has been tried. A host without IPv6 has nothing there that could be in the way.
fn is_free_v6(address: SocketAddr) -> bool {
    [(Type::STREAM, Protocol::TCP), (Type::DGRAM, Protocol::UDP)].into_iter().all(|(kind, protocol)| {
        let Ok(socket) = Socket::new(Domain::IPV6, kind, Some(protocol)) else { return true };
        let bound = socket.set_only_v6(true).and_then(|()| socket.set_reuse_address(kind == Type::STREAM));
        match bound.and_then(|()| socket.bind(&address.into())) {
            Err(error) => error.kind() != std::io::ErrorKind::AddrInUse,
            Ok(()) => kind == Type::DGRAM || socket.listen(1).is_ok(),
        }
    })
}

/// One of a number of things that test processes on this machine must not share. Free again when
/// dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct Lock {
    _socket: UnixListener,
}

impl Lock {
    /// Takes any of the `count` things of one kind that nobody holds and that `usable` accepts.
    pub(crate) fn any(kind: &str, count: u64, usable: impl Fn(u64) -> bool) -> Result<(u64, Self)> {
        let start = RandomState::new().build_hasher().finish() % count;
        for index in (start..count).chain(0..start) {
            let address = UnixAddr::from_abstract_name(format!("lbex-test-{kind}-{index}"))?;
            match UnixListener::bind_addr(&address) {
                Ok(socket) if usable(index) => return Ok((index, Self { _socket: socket })),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error).context("failed to bind a socket in the abstract namespace"),
            }
        }
        bail!("each of the {count} {kind} is taken by some test process")
    }
}
