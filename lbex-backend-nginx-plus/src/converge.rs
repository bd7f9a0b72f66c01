//! Brings one upstream of one NGINX Plus to the servers that it should have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::{ApiError, Client, NewServer, Patch, Problem, Scope, Server};
use crate::calls::{Call, Going, additions, removals, surplus};

/// How often what LBEX knows of an upstream may turn out to be old within one attempt: somebody else changes it at the same time.
const MOST_READS: usize = 3;

/// Servers of one upstream that take no new connections and are removed later.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drains {
    /// How long each may take; `None`: servers are removed at once.
    timeout: Option<Duration>,
    /// When each was first seen to drain.
    since: BTreeMap<u64, Instant>,
    /// Those that have no connections left.
    idle: BTreeSet<u64>,
}

impl Drains {
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, ..Self::default() }
    }

    /// Takes in which servers there are. Whoever drains and is new begins now.
    fn see(&mut self, observed: &[Server], desired: &BTreeSet<SocketAddr>, now: Instant) {
        let draining: BTreeSet<u64> =
            surplus(observed, desired).filter(|server| server.down).map(|server| server.id).collect();
        self.since.retain(|id, _| draining.contains(id));
        self.idle.retain(|id| draining.contains(id));
        if self.timeout.is_some() {
            for id in draining {
                self.since.entry(id).or_insert(now);
            }
        }
    }

    fn over(&self, now: Instant) -> BTreeSet<u64> {
        let Some(timeout) = self.timeout else { return BTreeSet::new() };
        let late = self.since.iter().filter(|(_, since)| now.duration_since(**since) >= timeout).map(|(id, _)| *id);
        late.chain(self.idle.iter().copied()).collect()
    }

    /// When the next one's time is over.
    pub(crate) fn next(&self) -> Option<Instant> {
        Some(*self.since.values().min()? + self.timeout?)
    }

    /// Whether this one drains since before `then`.
    pub(crate) fn drains_since_before(&self, id: u64, then: Instant) -> bool {
        self.since.get(&id).is_some_and(|since| *since < then)
    }

    /// This one has no connections left. Whether that is news.
    pub(crate) fn is_idle(&mut self, id: u64) -> bool {
        self.since.contains_key(&id) && self.idle.insert(id)
    }

    /// Whether this one drains.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.since.contains_key(&id)
    }
}

/// What came of an attempt.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Changes that were made.
    pub(crate) changes: u64,
    /// Calls that failed.
    pub(crate) failures: u64,
    /// What drains now.
    pub(crate) drains: Drains,
    /// The first thing that went wrong.
    pub(crate) error: Option<ApiError>,
}

/// Reads the upstream's servers and makes the calls that it takes. A server that is refused keeps no other from its place.
pub(crate) async fn converge(
    client: &Client,
    upstream: &str,
    desired: &BTreeSet<SocketAddr>,
    drains: Drains,
) -> Attempt {
    let mut attempt = Attempt { changes: 0, failures: 0, drains, error: None };
    for _ in 0..MOST_READS {
        attempt.error = None;
        if let Err(error) = once(client, upstream, desired, &mut attempt).await {
            attempt.failures += 1;
            let outdated = error.scope() == Scope::Outdated;
            attempt.error = Some(error);
            if outdated {
                continue;
            }
        }
        break;
    }
    attempt
}

async fn once(
    client: &Client,
    upstream: &str,
    desired: &BTreeSet<SocketAddr>,
    attempt: &mut Attempt,
) -> Result<(), ApiError> {
    let mut observed = client.servers(upstream).await?;
    let calls = additions(&observed, desired);
    make_all(client, upstream, calls, &mut observed, attempt).await?;
    attempt.drains.see(&observed, desired, Instant::now());
    let over = attempt.drains.over(Instant::now());
    let going = if attempt.drains.timeout.is_some() { Going::Drained { over: &over } } else { Going::Removed };
    let calls = removals(&observed, desired, going);
    make_all(client, upstream, calls, &mut observed, attempt).await?;
    attempt.drains.see(&observed, desired, Instant::now());
    Ok(())
}

/// Makes calls one after the other. One that is refused for its server's sake counts, and the others are made all the same.
async fn make_all(
    client: &Client,
    upstream: &str,
    calls: impl IntoIterator<Item = Call>,
    observed: &mut Vec<Server>,
    attempt: &mut Attempt,
) -> Result<(), ApiError> {
    for call in calls {
        match make(client, upstream, &call, observed).await {
            Ok(()) => attempt.changes += 1,
            Err(error) if error.scope() == Scope::Upstream && error.problem != Problem::UpstreamNotFound => {
                attempt.failures += 1;
                attempt.error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn make(client: &Client, upstream: &str, call: &Call, observed: &mut Vec<Server>) -> Result<(), ApiError> {
    let replace = |observed: &mut Vec<Server>, new: Server| {
        observed.iter_mut().filter(|server| server.id == new.id).for_each(|server| *server = new.clone());
    };
    match call {
        Call::Add(address) => observed.push(client.add(upstream, &NewServer::at(*address)).await?),
        Call::Mend { id, patch } => replace(observed, client.change(upstream, *id, patch).await?),
        Call::Drain(id) => replace(observed, client.change(upstream, *id, &Patch::down()).await?),
        Call::Remove(id) => {
            // The answer has the servers that are left; somebody else may have added one, which the next look finds.
            client.remove(upstream, *id).await?;
            observed.retain(|server| server.id != *id);
        }
    }
    Ok(())
}
