//! Clients of all Services, on a thread of their own: TCP connections that come and go at a steady rate, TCP connections and UDP
//! sessions that stay. What became of each is counted; what went wrong is kept, with when it was.

mod clients;
mod tally;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) use tally::{Counts, Kind, Outcome, Record, Tally};

/// A Service, as its clients know it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) service: String,
    pub(crate) at: SocketAddr,
    /// Whether each client must be answered. If not, only an answer by another Service's server is wrong.
    pub(crate) steady: bool,
}

/// How much traffic there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Short TCP connections a second, over all Services.
    pub(crate) connections: u32,
    /// TCP connections that stay, and UDP sessions, for each steady Service.
    pub(crate) held: usize,
}

/// Running clients. Dropping them ends them.
pub(crate) struct Traffic {
    tally: Arc<Tally>,
    enough: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Traffic {
    /// Begins. The thread is in the network namespace of the caller.
    pub(crate) fn start(targets: Vec<Target>, rate: Rate) -> Result<Self> {
        let tally = Arc::new(Tally::default());
        let (enough, told) = watch::channel(false);
        let shared = tally.clone();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(all(&targets, rate, &shared, &told));
            Ok(())
        };
        let thread = std::thread::Builder::new().name("traffic".to_owned()).spawn(run).context("no thread")?;
        Ok(Self { tally, enough, thread: Some(thread) })
    }

    /// Ends it: each client ends what it is at. Answers what became of all. Once only.
    pub(crate) fn finish(&mut self) -> Result<(Counts, Vec<Record>)> {
        self.enough.send_replace(true);
        let thread = self.thread.take().context("ended already")?;
        thread.join().map_err(|_| anyhow!("the clients panicked"))??;
        Ok((self.tally.counts(), self.tally.records()))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.enough.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the clients panicked");
        }
    }
}

async fn all(targets: &[Target], rate: Rate, tally: &Arc<Tally>, enough: &watch::Receiver<bool>) {
    let mut clients = JoinSet::new();
    for target in targets.iter().filter(|target| target.steady) {
        for _ in 0..rate.held {
            clients.spawn(clients::held(target.clone(), tally.clone(), enough.clone()));
            clients.spawn(clients::session(target.clone(), tally.clone(), enough.clone()));
        }
    }
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate.connections);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    for target in targets.iter().cycle() {
        tick.tick().await;
        if *enough.borrow() {
            break;
        }
        let (target, tally) = (target.clone(), tally.clone());
        clients.spawn(async move {
            let from = Instant::now();
            let outcome = clients::short(&target).await;
            tally.add(&target, Kind::Short, from, outcome);
        });
        while clients.try_join_next().is_some() {}
    }
    while clients.join_next().await.is_some() {}
}
