//! Which calls bring an upstream's servers to what is wanted. Pure.
//!
//! The fewest: a server that is right is not touched, one that is missing takes one POST, one that is configured otherwise one PATCH,
//! one too many one DELETE, with a PATCH before it where it is drained. (The API could also give a server another address; what
//! becomes of its connections and counters then is not documented, and its id would stand for two servers in turn, so that is
//! not done.)

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::api::{Patch, Server};

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// POST: a server that is missing.
    Add(SocketAddr),
    /// PATCH: a server that stays is made right.
    Mend {
        /// Which.
        id: u64,
        /// What changes.
        patch: Patch,
    },
    /// PATCH: a server that is to go takes no new connections from now on.
    Drain(u64),
    /// DELETE: a server that is gone, or there twice.
    Remove(u64),
}

/// What happens to servers that are to go.
#[derive(Debug, Clone, Copy)]
pub enum Going<'a> {
    /// They are removed at once. NGINX lets the connections that they have go on.
    Removed,
    /// They are told to take no new connections, and removed when their time is over.
    Drained {
        /// The ids of those whose time is over.
        over: &'a BTreeSet<u64>,
    },
}

/// The calls that add what is missing and put right what stays. To be made first: what goes may be all that there was.
pub fn additions(observed: &[Server], desired: &BTreeSet<SocketAddr>) -> Vec<Call> {
    let kept = kept(observed, desired);
    let add = desired.iter().filter(|address| !kept.contains_key(address)).map(|address| Call::Add(*address));
    let mend = kept.values().filter_map(|server| {
        let patch = Patch::to_right(server);
        (!patch.is_empty()).then_some(Call::Mend { id: server.id, patch })
    });
    add.chain(mend).collect()
}

/// The calls that take away what is not wanted, after the additions were made; none while that would leave no server although
/// some are wanted.
pub fn removals(observed: &[Server], desired: &BTreeSet<SocketAddr>, going: Going<'_>) -> Vec<Call> {
    let kept = kept(observed, desired);
    if !desired.is_empty() && !kept.values().any(|server| !server.down) {
        return Vec::new();
    }
    surplus(observed, desired)
        .filter_map(|server| match going {
            Going::Removed => Some(Call::Remove(server.id)),
            Going::Drained { .. } if !server.down => Some(Call::Drain(server.id)),
            Going::Drained { over } => over.contains(&server.id).then_some(Call::Remove(server.id)),
        })
        .collect()
}

/// The servers that are to go. Those that NGINX made by resolving a name go with the one that has the name.
pub fn surplus<'a>(observed: &'a [Server], desired: &BTreeSet<SocketAddr>) -> impl Iterator<Item = &'a Server> {
    let kept: BTreeSet<u64> = kept(observed, desired).into_values().map(|server| server.id).collect();
    observed.iter().filter(move |server| server.parent.is_none() && !kept.contains(&server.id))
}

/// The server that stays for each address: of several the one that is right, else one that takes connections, else the oldest.
fn kept<'a>(observed: &'a [Server], desired: &BTreeSet<SocketAddr>) -> BTreeMap<SocketAddr, &'a Server> {
    let rank = |server: &Server| (!Patch::to_right(server).is_empty(), server.down, server.id);
    let mut kept: BTreeMap<SocketAddr, &Server> = BTreeMap::new();
    for server in observed {
        let Some(address) = server.address().filter(|address| desired.contains(address)) else { continue };
        let best = kept.entry(address).or_insert(server);
        if rank(server) < rank(best) {
            *best = server;
        }
    }
    kept
}

#[cfg(test)]
mod tests;
