//! What a look at an instance says of the upstreams that are kept in step there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::state::{Cause, Group, Live, Standing, State};
use crate::api::{NginxInfo, Peer, PeerState, Problem, Upstream, Upstreams};
use crate::converge::Drains;

impl State {
    /// Takes in a look that began at `began`.
    pub(super) fn looked(&mut self, began: Instant, info: NginxInfo, upstreams: &Upstreams) {
        let restarted = self.info.as_ref().is_some_and(|before| is_another(before, &info));
        self.info = Some(info);
        self.answered();
        self.mended = 0;
        self.live = self.live_of(upstreams);
        if restarted {
            tracing::info!("NGINX Plus was started anew: all upstreams are read again");
            self.mark_all(Cause::Check);
            return;
        }
        let missing = Upstream { peers: Vec::new(), zombies: 0 };
        let mut wrong = Vec::new();
        for (name, group) in &mut self.groups {
            let seen = upstreams.get(&**name);
            if let Some(cause) = wants(group, seen, &missing, began) {
                wrong.push((name.clone(), cause));
            }
        }
        wrong.iter().for_each(|(name, cause)| self.mark(name, *cause));
    }

    fn live_of(&self, upstreams: &Upstreams) -> Live {
        let mut live = Live::default();
        for upstream in self.groups.keys().filter_map(|name| upstreams.get(&**name)) {
            live.removed_busy += upstream.zombies;
            for peer in &upstream.peers {
                *live.servers.entry(peer.state).or_default() += 1;
                live.active += peer.active;
            }
        }
        live
    }
}

/// Whether another process answers now than before. A reload is none: servers survive it.
fn is_another(before: &NginxInfo, now: &NginxInfo) -> bool {
    before.ppid != now.ppid || before.build != now.build || now.generation < before.generation
}

/// Why an upstream is to be looked after, if it is.
fn wants(group: &mut Group, seen: Option<&Upstream>, missing: &Upstream, began: Instant) -> Option<Cause> {
    // What the look has seen may be older than what was done since.
    if group.running || group.dirty.is_some() || group.settled_at >= began {
        return None;
    }
    match (&group.standing, seen) {
        // It may have come, or got its zone.
        (Standing::Refused(error), Some(_)) => {
            matches!(error.problem, Problem::UpstreamNotFound | Problem::UpstreamStatic).then_some(Cause::Change)
        }
        (Standing::Refused(_) | Standing::Waiting | Standing::Unknown, _) => None,
        (Standing::InStep, seen) => {
            let peers = &seen.unwrap_or(missing).peers;
            let mut drained = false;
            for peer in peers.iter().filter(|peer| peer.state == PeerState::Down && peer.active == 0) {
                drained |= group.drains.drains_since_before(peer.id, began) && group.drains.is_idle(peer.id);
            }
            if seen.is_none() || differs(peers, &group.servers, &group.drains) {
                Some(Cause::Check)
            } else {
                drained.then_some(Cause::Drain)
            }
        }
    }
}

/// Whether an upstream's servers are not those that they should be, as far as its status tells.
fn differs(peers: &[Peer], desired: &Arc<BTreeSet<SocketAddr>>, drains: &Drains) -> bool {
    let mut found = BTreeSet::new();
    for peer in peers {
        let address =
            peer.server.parse::<SocketAddr>().ok().filter(|address| !peer.backup && desired.contains(address));
        let right = peer.state != PeerState::Down && peer.weight == 1 && peer.max_conns == 0;
        match address {
            Some(address) if right && found.insert(address) => {}
            _ if drains.has(peer.id) => {}
            _ => return true,
        }
    }
    found.len() < desired.len()
}
