//! How many workers, connections and open files NGINX gets (contract section 1).
//!
//! Pure: what is to be served and what the host allows go in, three numbers come out. A TCP connection takes two slots (client
//! side and server side) and two files, a UDP session two slots and one file: its client side shares the listener's. A listening socket takes one slot and one
//! file in every worker; one with `reuseport` (UDP) is opened once per worker, and every process has all of them.

use std::fmt;

/// Slots in all, on hosts with up to four workers: room for 65,536 connections. A slot takes about 430 bytes, at once: 56 MB.
const SLOTS: u64 = 131_072;

/// Slots that every worker gets where there are more of them: TCP connections are not spread evenly over workers.
const SLOTS_PER_WORKER: u64 = 32_768;

/// With less than this, a worker is of no use, and listeners are given up instead.
const FEWEST_SLOTS: u64 = 128;

/// Files that a process has besides listeners and connections: logs, epoll, the channels to other processes.
const RESERVE: u64 = 64;

/// Channels: to every other worker, while old workers of a reload still run.
const RESERVE_PER_WORKER: u64 = 4;

/// What the host allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// How many CPUs this process may use.
    pub cpus: u32,
    /// How many files NGINX's master may open: `RLIMIT_NOFILE` that it has, or would be started with.
    pub master: u64,
    /// How many a worker may: as the master, or more where LBEX runs as root (a worker then raises its own limit).
    pub worker: u64,
}

/// What is to be served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// Listening sockets that all workers share: TCP addresses.
    pub shared: u64,
    /// Listening sockets that each worker has for itself: UDP addresses.
    pub per_worker: u64,
}

impl Demand {
    /// Files that the listening sockets take in every process.
    pub fn files(self, workers: u32) -> u64 {
        self.shared + self.per_worker * u64::from(workers)
    }
}

impl std::ops::Add for Demand {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { shared: self.shared + other.shared, per_worker: self.per_worker + other.per_worker }
    }
}

/// What goes into the main file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `worker_processes`.
    pub workers: u32,
    /// `worker_connections`: slots of one worker, those of listeners included.
    pub worker_connections: u64,
    /// `worker_rlimit_nofile`.
    pub worker_rlimit_nofile: u64,
    /// Where the host allows less than LBEX would like.
    pub shortage: Option<Shortage>,
}

/// The host allows fewer open files than LBEX would like. What it serves it serves, with fewer connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// Files that one process of NGINX would need.
    pub needed: u64,
    /// Files that it may open.
    pub limit: u64,
    /// TCP connections and UDP sessions, of all workers together, that there is room for.
    pub connections: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "NGINX may open {} files per process and should be able to open {}: there is room for {} connections; raise the limit \
             ({RAISE})",
            self.limit, self.needed, self.connections
        )
    }
}

/// How to raise the limit on open files, in words.
pub const RAISE: &str = "systemd: LimitNOFILE=, containers: --ulimit nofile=, shells: ulimit -n";

/// Workers: one for each CPU.
pub fn workers(host: &Host) -> u32 {
    host.cpus.clamp(1, 512)
}

/// The most listening sockets that fit, as [`Demand::files`] counts them.
pub fn room_for_listeners(host: &Host) -> u64 {
    host.master.min(host.worker).saturating_sub(reserve(workers(host)) + FEWEST_SLOTS)
}

/// How many files NGINX's master and workers should be able to open to serve `demand`: what `RLIMIT_NOFILE` is raised to.
pub fn wanted_files(demand: Demand, cpus: u32) -> u64 {
    let workers = cpus.clamp(1, 512);
    slots_per_worker(workers) + demand.files(workers) + reserve(workers)
}

/// The limits with which NGINX serves `demand`, which must fit ([`room_for_listeners`]).
pub fn limits(demand: Demand, host: &Host) -> Limits {
    let workers = workers(host);
    let (listeners, reserve) = (demand.files(workers), reserve(workers));
    let needed = slots_per_worker(workers) + listeners + reserve;
    // In steps, so that a Service more or less does not change it.
    let files = needed.next_multiple_of(1024).min(host.worker).max(listeners + FEWEST_SLOTS + reserve);
    let rest = files - reserve - listeners;
    let shortage =
        (files < needed).then(|| Shortage { needed, limit: files, connections: rest / 2 * u64::from(workers) });
    // The client side of a UDP session takes a slot and no file: where files are short there may be more slots than files.
    let slots = if shortage.is_some() { (2 * rest).min(slots_per_worker(workers)) } else { rest };
    let worker_connections = slots + listeners;
    Limits { workers, worker_connections, worker_rlimit_nofile: files, shortage }
}

fn slots_per_worker(workers: u32) -> u64 {
    (SLOTS / u64::from(workers)).max(SLOTS_PER_WORKER)
}

fn reserve(workers: u32) -> u64 {
    RESERVE + RESERVE_PER_WORKER * u64::from(workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(cpus: u32, files: u64) -> Host {
        Host { cpus, master: files, worker: files }
    }

    #[test]
    fn room_for_64k_connections_on_small_hosts_and_a_bound_on_memory_on_large_ones() {
        let demand = Demand { shared: 10, per_worker: 10 };
        for (cpus, slots) in [(1, 131_072), (2, 65_536), (4, 32_768), (8, 32_768), (64, 32_768)] {
            let limits = limits(demand, &host(cpus, 1 << 20));
            assert_eq!(limits.workers, cpus);
            assert!((slots..slots + 2048).contains(&limits.worker_connections), "{cpus}: {limits:?}");
            assert!(limits.worker_rlimit_nofile >= slots + 10 + 10 * u64::from(cpus), "{limits:?}");
            assert!(slots / 2 * u64::from(cpus) >= 65_536, "{cpus} CPUs");
            assert_eq!(limits.shortage, None);
        }
    }

    #[test]
    fn a_service_more_or_less_does_not_change_them() {
        let with = |n| limits(Demand { shared: n, per_worker: n }, &host(2, 1 << 20));
        assert_eq!(with(1), with(2));
        assert_ne!(with(1), with(2000));
    }

    #[test]
    fn a_shortage_is_said_in_numbers_and_what_there_is_is_used() {
        let limits = limits(Demand { shared: 100, per_worker: 50 }, &host(2, 1024));
        // 1024 less 64 + 2*4 in reserve, less 100 + 2*50 listening sockets.
        let shortage = limits.shortage.expect("a shortage");
        assert_eq!((shortage.needed, shortage.limit, shortage.connections), (65_536 + 272, 1024, 752));
        assert_eq!(limits.worker_rlimit_nofile, 1024);
        assert_eq!(limits.worker_connections, 2 * 752 + 200);
        let text = shortage.to_string();
        for word in ["1024", "65808", "752", "LimitNOFILE", "ulimit -n"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn room_for_listeners_leaves_some_for_connections() {
        assert_eq!(room_for_listeners(&host(2, 1024)), 1024 - 72 - 128);
        assert_eq!(room_for_listeners(&host(2, 64)), 0);
        // A running master that was started with less is what counts for listeners.
        assert_eq!(room_for_listeners(&Host { cpus: 2, master: 1024, worker: 1 << 20 }), 824);
        let full = Demand { shared: 824, per_worker: 0 };
        let limits = limits(full, &host(2, 1024));
        assert!(limits.worker_connections > 824 + 100 && limits.worker_rlimit_nofile <= 1024, "{limits:?}");
    }

    #[test]
    fn udp_listeners_count_once_per_worker() {
        let demand = Demand { shared: 0, per_worker: 100 } + Demand { shared: 7, per_worker: 0 };
        assert_eq!(demand.files(4), 407);
        assert!(wanted_files(demand, 4) > 32_768 + 407);
    }
}
