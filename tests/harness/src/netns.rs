//! Network namespaces with addresses that may stand in EndpointSlices.
//!
//! The API server refuses loopback addresses as endpoints. So Pods of a test live in a [`Netns`], joined to the
//! host by a veth pair: 198.18.0.0/15 (the range for tests of networks) and an IPv6 network of its own, which no other
//! test process of this machine uses. The namespace is held by one supervised process and by nothing
//! else: when that ends, the kernel removes namespace, veth pair, addresses and routes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};
use nix::unistd::Uid;

use crate::ports::Lock;
use crate::process::Process;
use crate::{Scratch, programs};

/// How many addresses of each family a namespace has: [`Netns::v4`] and [`Netns::v6`] take 1 to this.
pub const ADDRESSES: u8 = 60;

/// The number of networks of 64 addresses in 198.18.0.0/15.
const NETWORKS: u64 = 2048;

/// The name of the interface inside the namespace.
const INSIDE: &str = "lbex0";

/// A network namespace, joined to the host. Dropping it removes it.
#[derive(Debug)]
pub struct Netns {
    process: Process,
    interface: String,
    network: Network,
    _lock: Lock,
    _scratch: Scratch,
}

impl Netns {
    /// Makes a namespace with [`ADDRESSES`] addresses of each family, reachable from the host and able to reach it.
    ///
    /// Fails, naming what is missing, without root or without the programs `ip` and `unshare`.
    pub fn new() -> Result<Self> {
        if !Uid::effective().is_root() {
            bail!("making a network namespace needs root: run these tests as root");
        }
        let scratch = Scratch::new("netns")?;
        let (index, lock) = Lock::any("networks", NETWORKS, |index| Network::new(index).is_unused())?;
        let mut command = Command::new(programs::find("unshare")?);
        command.arg("--net").arg(programs::find("sleep")?).arg("infinity");
        let process = Process::start("network namespace", &command, &scratch.join("namespace.log"))?;
        wait_until_apart(&process)?;
        let unique = RandomState::new().build_hasher().finish() & 0xffff_ffff;
        let interface = format!("lbex{unique:08x}");
        let this = Self { process, interface, network: Network::new(index), _lock: lock, _scratch: scratch };
        this.set_up().context("failed to set up a network namespace")?;
        Ok(this)
    }

    fn set_up(&self) -> Result<()> {
        let Self { interface, network, process, .. } = self;
        ip_batch(&format!(
            "link add {interface} type veth peer name {INSIDE} netns {pid}\n\
             address add {v4}/26 dev {interface}\n\
             address add {v6}/64 dev {interface} nodad\n\
             link set {interface} up\n",
            pid = process.pid(),
            v4 = network.v4(1),
            v6 = network.v6(1),
        ))?;
        let addresses: String = (1..=ADDRESSES)
            .flat_map(|n| {
                let v4 = format!("address add {}/26 dev {INSIDE}\n", network.v4(n + 1));
                [v4, format!("address add {}/64 dev {INSIDE} nodad\n", network.v6(n + 1))]
            })
            .collect();
        let links = format!("link set lo up\nlink set {INSIDE} up\n");
        let routes = format!("route add default via {}\nroute add ::/0 via {}\n", network.v4(1), network.v6(1));
        self.enter(|| ip_batch(&(links + &addresses + &routes)))?
    }

    /// The `n`th IPv4 address inside the namespace, from 1 to [`ADDRESSES`].
    ///
    /// Panics for other numbers.
    pub fn v4(&self, n: u8) -> Ipv4Addr {
        assert!((1..=ADDRESSES).contains(&n), "address {n} of a namespace: there are 1 to {ADDRESSES}");
        self.network.v4(n + 1)
    }

    /// The `n`th IPv6 address inside the namespace, from 1 to [`ADDRESSES`].
    ///
    /// Panics for other numbers.
    pub fn v6(&self, n: u8) -> Ipv6Addr {
        assert!((1..=ADDRESSES).contains(&n), "address {n} of a namespace: there are 1 to {ADDRESSES}");
        self.network.v6(n + 1)
    }

    /// The host's IPv4 address towards the namespace: what servers inside see as their client.
    pub fn host_v4(&self) -> Ipv4Addr {
        self.network.v4(1)
    }

    /// The host's IPv6 address towards the namespace.
    pub fn host_v6(&self) -> Ipv6Addr {
        self.network.v6(1)
    }

    /// The IPv4 network of the namespace, for instance for kwok's Pods: `198.18.3.64/26`.
    pub fn cidr_v4(&self) -> String {
        format!("{}/26", self.network.v4(0))
    }

    /// Adds an address inside the namespace, with a route to it from the host: the ClusterIP of a Service,
    /// say. Both go with the namespace.
    pub fn add_address(&self, ip: IpAddr) -> Result<()> {
        let (length, via) = match ip {
            IpAddr::V4(_) => (32, IpAddr::V4(self.network.v4(2))),
            IpAddr::V6(_) => (128, IpAddr::V6(self.network.v6(2))),
        };
        let nodad = if ip.is_ipv6() { " nodad" } else { "" };
        self.enter(|| ip_batch(&format!("address add {ip}/{length} dev {INSIDE}{nodad}\n")))??;
        ip_batch(&format!("route add {ip}/{length} via {via} dev {}\n", self.interface))
    }

    /// Runs `work` on a thread that is inside the namespace. Sockets made there, and processes started there,
    /// stay inside, wherever they are used from.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.path();
        let namespace = std::fs::File::open(&path).with_context(|| format!("failed to open {}", path.display()))?;
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).context("failed to enter a network namespace")?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a test on a runtime of its own inside the namespace: its threads, and the processes they start, are inside too, and no
    /// port there is anybody else's.
    ///
    /// It blocks until the test has ended.
    pub fn run<T: Send, F: Future<Output = T>>(&self, test: impl FnOnce() -> F + Send) -> Result<T> {
        self.enter(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.context("failed to start threads")?;
            Ok(runtime.block_on(test()))
        })?
    }

    /// The namespace as a file, for `nsenter --net=PATH`.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.process.pid()).into()
    }
}

/// One of the test networks.
#[derive(Debug, Clone, Copy)]
struct Network {
    v4: u32,
    v6: u128,
}

impl Network {
    fn new(index: u64) -> Self {
        let index = u32::try_from(index % NETWORKS).unwrap_or_default();
        let v6 = u128::from(Ipv6Addr::new(0xfd6c, 0x6265, 0x7800, 0, 0, 0, 0, 0));
        Self { v4: u32::from(Ipv4Addr::new(198, 18, 0, 0)) + index * 64, v6: v6 | (u128::from(index) << 64) }
    }

    fn v4(self, host: u8) -> Ipv4Addr {
        (self.v4 + u32::from(host)).into()
    }

    fn v6(self, host: u8) -> Ipv6Addr {
        (self.v6 + u128::from(host)).into()
    }

    /// Whether no interface of this host has an address in it. A namespace that just ended may still have.
    fn is_unused(self) -> bool {
        let Ok(mut interfaces) = getifaddrs() else { return true };
        !interfaces.any(|interface| {
            interface.address.and_then(|address| address.as_sockaddr_in().map(|v4| u32::from(v4.ip()) & !63))
                == Some(self.v4)
        })
    }
}

/// `unshare` needs a moment until the process is in a namespace of its own.
fn wait_until_apart(process: &Process) -> Result<()> {
    // The thread's, which may be inside another namespace than the process.
    let own = std::fs::read_link("/proc/thread-self/ns/net").context("failed to read /proc/thread-self/ns/net")?;
    let path = PathBuf::from(format!("/proc/{}/ns/net", process.pid()));
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(10) {
        process.check_running().context("failed to make a network namespace")?;
        if std::fs::read_link(&path).is_ok_and(|namespace| namespace != own) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("unshare made no network namespace within 10 s: {}", process.log_tail())
}

fn ip_batch(lines: &str) -> Result<()> {
    let mut command = Command::new(programs::find("ip")?);
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("failed to run ip")?;
    let mut input = child.stdin.take().context("no standard input of ip")?;
    input.write_all(lines.as_bytes()).context("failed to write to ip")?;
    drop(input);
    let output = child.wait_with_output().context("failed to wait for ip")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        // It ends with "Command failed -:LINE".
        let number = message.rsplit(':').next().and_then(|number| number.parse::<usize>().ok());
        let line = number.and_then(|number| lines.lines().nth(number.saturating_sub(1)));
        bail!("ip {} failed: {message}", line.unwrap_or("-batch"));
    }
    Ok(())
}

/// Runs a test inside a network namespace of its own where that is allowed (root): no port there is anybody else's.
pub async fn alone<T: Future<Output = Result<()>>>(test: impl FnOnce() -> T + Send) -> Result<()> {
    if !Uid::effective().is_root() {
        return test().await;
    }
    Netns::new()?.run(test)?
}
