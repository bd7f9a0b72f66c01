//! Endpoint changes without a reload: LBEX is the DNS server that NGINX asks for the addresses of its upstream servers, and holds
//! each question until the addresses change. So an answer is a push, and the question after it the proof that NGINX has applied
//! it (`server NAME:PORT resolve`, from NGINX 1.27.3).
//!
//! [`Responder`] has the sockets and a thread of its own, so that neither planning nor a reload holds an answer back; [`Table`] is
//! the protocol; [`name`] says what is asked for.

mod asker;
mod entry;
mod keeper;
mod kept;
#[cfg(test)]
mod model;
pub mod name;
mod owner;
mod peers;
mod serve;
mod socket;
mod table;
#[cfg(test)]
mod table_tests;
mod waiter;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lbex_core::names::ServiceKey;
use tokio::sync::{Notify, watch};

pub use keeper::{LeftSockets, SocketKeeper};
pub use name::{ServerGroup, ServerName, groups};
pub use socket::usual_address;
pub use table::{Answer, Counts, Pace, Standing, Table};
pub use waiter::{Waited, Waiter};

use wire::LONGEST_UDP;

/// How often it is looked whether an NGINX that began has asked.
const POLL: Duration = Duration::from_millis(10);

/// What a [`Responder`] is opened with.
#[derive(Debug, Clone)]
pub struct ResponderOptions {
    /// Where a running NGINX asks; another port is taken where that is not to be had. `None`: any.
    pub wanted: Option<SocketAddr>,
    /// Where the search for a port below 1024 begins; any number. LBEXes of one host should differ in it: else one takes the port
    /// of another that is away for a moment.
    pub spread: u64,
    /// How NGINX behaves.
    pub pace: Pace,
    /// Users that NGINX's workers may run as: nobody else is answered.
    pub users: Vec<u32>,
    /// Where the questions that wait are kept over a restart of LBEX: NGINX repeats them every five seconds only.
    pub kept: Option<PathBuf>,
    /// Who keeps the sockets over a restart of LBEX. `None`: nobody.
    pub keeper: Option<Arc<dyn SocketKeeper>>,
}

/// Answers NGINX's questions for the addresses of upstream servers, until it is dropped.
#[derive(Debug)]
pub struct Responder {
    shared: Arc<Shared>,
    address: SocketAddr,
    running: Option<(watch::Sender<()>, JoinHandle<()>)>,
    kept: Option<PathBuf>,
}

/// What the thread and the callers share.
#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    udp: std::net::UdpSocket,
    begin: Instant,
    /// Something may be due earlier than the thread thinks.
    wake: Notify,
    /// Questions of strangers, and what is no question.
    ignored: AtomicU64,
    /// Answers that the system did not send.
    unsent: AtomicU64,
}

/// How things stand with the responder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResponderStanding {
    /// The names and what NGINX knows of them.
    pub names: Standing,
    /// Datagrams that were ignored: from others than NGINX, or no questions of its.
    pub ignored: u64,
    /// Answers that the system did not send; they are sent again.
    pub unsent: u64,
}

impl Responder {
    /// Takes the sockets that were kept, or binds new ones, and starts the thread. Questions for Services that are not known yet wait
    /// until they are.
    pub fn open(options: &ResponderOptions) -> io::Result<Self> {
        let sockets = open_sockets(options)?;
        let shared = Arc::new(Shared {
            table: Mutex::new(Table::new(options.pace)),
            udp: sockets.udp.try_clone()?,
            begin: Instant::now(),
            wake: Notify::new(),
            ignored: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
        });
        let address = sockets.address;
        let owners = peers::Owners::new(options.users.clone(), address);
        let mut peers = peers::Peers::new(owners.clone());
        if let Some(path) = &options.kept {
            kept::ask_again(path, address, &shared, &mut peers);
        }
        let (running, stop) = watch::channel(());
        let thread = serve::start(shared.clone(), sockets, owners, peers, stop)?;
        Ok(Self { shared, address, running: Some((running, thread)), kept: options.kept.clone() })
    }

    /// Where it answers, by UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The addresses of a Service's servers as of a generation of the desired state; those of an earlier one than is known change
    /// nothing. What NGINX waits for is sent before this returns. `waiter` is told when NGINX has applied it.
    pub fn set(
        &self,
        service: &ServiceKey,
        generation: u64,
        groups: &BTreeMap<ServerGroup, Vec<IpAddr>>,
        waiter: Option<&Arc<Waiter>>,
    ) {
        self.shared.with(|table, now, out| table.set(now, service, generation, groups, waiter, out));
    }

    /// Forgets a Service's names that are not of these groups, when NGINX has ceased to ask for them.
    pub fn keep_only(&self, service: &ServiceKey, groups: &BTreeSet<ServerGroup>) {
        self.shared.with(|table, _, _| table.keep_only(service, groups));
    }

    /// Forgets a Service that NGINX does not serve any more.
    pub fn forget(&self, service: &ServiceKey, generation: u64) {
        self.shared.with(|table, _, _| table.forget(service, generation));
    }

    /// Waits until NGINX has applied what these names have now, as long as some of it comes in each `pause`, for `most` at the most.
    /// Answers how it ended, and the names that it has not applied.
    pub async fn applied(&self, names: &[ServerName], pause: Duration, most: Duration) -> (Waited, Vec<ServerName>) {
        let waiter = Arc::new(Waiter::default());
        self.shared.lock().await_all(names, &waiter);
        let waited = waiter.done_or_stuck(pause, most).await;
        if waited == Waited::Done {
            return (waited, Vec::new());
        }
        let mut table = self.shared.lock();
        table.give_up(&waiter);
        (waited, table.behind(names))
    }

    /// Waits until all that `waiter` was given to is applied, as long as some of it comes in each `pause`, for `most` at the most.
    /// Answers those of `services` that are not.
    pub async fn taken(
        &self,
        waiter: &Arc<Waiter>,
        services: &BTreeSet<ServiceKey>,
        pause: Duration,
        most: Duration,
    ) -> BTreeSet<ServiceKey> {
        if waiter.done_or_stuck(pause, most).await == Waited::Done {
            return BTreeSet::new();
        }
        let mut table = self.shared.lock();
        table.give_up(waiter);
        services.iter().filter(|service| !table.is_current(service)).cloned().collect()
    }

    /// Waits until an NGINX that began at `since` or later has applied what these names have now, for `most` at the most. Answers how
    /// many it has not.
    pub async fn known_since(&self, names: &[ServerName], since: Instant, most: Duration) -> usize {
        let (since, end) = (since.saturating_duration_since(self.shared.begin), Instant::now() + most);
        loop {
            let unknown = self.shared.lock().unknown_since(names, since);
            if unknown == 0 || Instant::now() >= end {
                return unknown;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether NGINX has asked for a name.
    pub fn was_asked(&self, name: &ServerName) -> bool {
        self.shared.lock().was_asked(name)
    }

    /// Who first asked before `before` belongs to workers that only finish their connections: it is told once more, and then asks
    /// every few minutes only.
    pub fn retire_before(&self, before: Instant) {
        let before = before.saturating_duration_since(self.shared.begin);
        self.shared.with(|table, now, out| table.retire(now, before, out));
    }

    /// How things stand.
    pub fn standing(&self) -> ResponderStanding {
        ResponderStanding {
            names: self.shared.lock().standing(),
            ignored: self.shared.ignored.load(Ordering::Relaxed),
            unsent: self.shared.unsent.load(Ordering::Relaxed),
        }
    }
}

fn open_sockets(options: &ResponderOptions) -> io::Result<socket::Sockets> {
    let keeper = options.keeper.as_ref();
    let sockets = socket::bind(options.wanted, keeper.and_then(|keeper| keeper.take()), options.spread)?;
    if sockets.left {
        tracing::info!("NGINX's questions for endpoints were kept at {} while LBEX was away", sockets.address);
    } else if let Some(Err(error)) = keeper.map(|keeper| keeper.keep(&sockets.udp, &sockets.tcp)) {
        tracing::warn!("the supervisor does not keep the sockets on which NGINX asks for endpoints: {error}");
    }
    Ok(sockets)
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some((running, thread)) = self.running.take() {
            drop(running);
            if thread.join().is_err() {
                tracing::error!("the thread that answers NGINX's questions for endpoints had panicked");
            }
            if let Some(path) = &self.kept {
                kept::keep(path, self.address, &self.shared);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // A table that a panicking thread left is still the best there is: each answer stands for itself.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Does something with the table, and sends what comes of it.
    fn with(&self, act: impl FnOnce(&mut Table, Duration, &mut Vec<Answer>)) {
        let mut out = Vec::new();
        act(&mut self.lock(), self.now(), &mut out);
        out.iter().for_each(|answer| self.send(answer));
        self.wake.notify_one();
    }

    fn send(&self, answer: &Answer) {
        let Answer { to, question, addresses, ttl } = answer;
        let sent = self.udp.send_to(&question.answer(addresses, *ttl, LONGEST_UDP), to);
        let Err(error) = sent else { return };
        self.unsent.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%error, %to, name = %question.name, "an answer was not sent; it is sent again");
    }
}
