//! Which of each Service's parts is served: the wanted one, the last good one, or none. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use lbex_core::backend::{Instead, Refusal};
use lbex_core::names::ServiceKey;

use crate::limits::{Demand, RAISE};
use crate::probe::Transport;
use crate::render::{Claim, Part, ServiceFileName};

/// A Service's wanted part.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) part: Arc<Part>,
    /// When the Service was created, seconds since the epoch.
    pub(super) created: Option<i64>,
}

/// Why a file is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) retry: bool,
}

impl Why {
    fn instead(self, instead: Instead) -> Refusal {
        Refusal { code: self.code, message: self.message, instead, retry: self.retry }
    }
}

/// Files that are not used, and why.
pub(super) type Blocked = BTreeMap<ServiceFileName, Vec<Why>>;

/// Room for listening sockets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// How many files they may take in a process.
    pub(super) files: u64,
    pub(super) workers: u32,
}

/// What is served of each Service.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    pub(super) parts: BTreeMap<ServiceKey, Arc<Part>>,
    pub(super) refused: BTreeMap<ServiceKey, Vec<Refusal>>,
}

impl Choice {
    /// What its listening sockets take.
    pub(super) fn demand(&self) -> Demand {
        self.parts.values().fold(Demand::default(), |sum, part| sum + demand(part))
    }

    /// How many upstreams it has.
    pub(super) fn upstreams(&self) -> u64 {
        self.parts.values().map(|part| u64::from(part.upstreams)).sum()
    }

    /// The Service and file that listen on `claim`; for a UDP socket too if there is no such TCP one.
    pub(super) fn owner(&self, claim: Claim) -> Option<(&ServiceKey, &Arc<Part>, Claim)> {
        let udp = Claim { transport: Transport::Udp, ..claim };
        [claim, udp].into_iter().find_map(|claim| {
            self.parts.iter().find(|(_, part)| part.claims.contains(&claim)).map(|(key, part)| (key, part, claim))
        })
    }
}

/// What a part's listening sockets take.
pub(super) fn demand(part: &Part) -> Demand {
    let udp = part.claims.iter().filter(|claim| claim.transport == Transport::Udp).count() as u64;
    Demand { shared: part.claims.len() as u64 - udp, per_worker: udp }
}

/// Chooses. A Service whose wanted file is blocked is served as it last was, unless that is blocked too or is in the way of a
/// wanted part of another; where there is no room for all listeners the youngest Services go without.
pub(super) fn choose(
    wanted: &BTreeMap<ServiceKey, Wanted>,
    good: &BTreeMap<ServiceKey, Arc<Part>>,
    blocked: &Blocked,
    room: Room,
) -> Choice {
    let mut choice = Choice::default();
    let mut fallbacks = Vec::new();
    let mut budget = Budget { left: room.files, workers: room.workers };
    for (key, want) in in_order(wanted, room) {
        let why = match blocked.get(&want.part.file) {
            Some(why) => why.clone(),
            None if budget.take(&want.part) => {
                choice.parts.insert(key.clone(), want.part.clone());
                continue;
            }
            None => vec![no_room(&want.part, room)],
        };
        fallbacks.push((key, why, good.get(key).filter(|part| part.file != want.part.file)));
    }
    let mut ports = Ports::of(choice.parts.values().filter(|_| !fallbacks.is_empty()));
    for (key, why, fallback) in fallbacks {
        let usable = fallback
            .filter(|part| !blocked.contains_key(&part.file) && ports.are_free_for(part))
            .filter(|part| budget.take(part));
        let instead = if usable.is_some() { Instead::LastGood } else { Instead::LeftOut };
        if let Some(part) = usable {
            ports.add(part);
            choice.parts.insert(key.clone(), part.clone());
        }
        choice.refused.insert(key.clone(), why.into_iter().map(|why| why.instead(instead)).collect());
    }
    choice
}

/// All Services; where they do not all fit, the oldest first.
fn in_order(wanted: &BTreeMap<ServiceKey, Wanted>, room: Room) -> Vec<(&ServiceKey, &Wanted)> {
    let mut sorted: Vec<_> = wanted.iter().collect();
    let all = sorted.iter().fold(Demand::default(), |sum, (_, want)| sum + demand(&want.part));
    if all.files(room.workers) > room.files {
        // Without a time of creation a Service is as young as can be, as in the planner.
        sorted.sort_by_key(|(key, want)| (want.created.unwrap_or(i64::MAX), *key));
    }
    sorted
}

fn no_room(part: &Part, room: Room) -> Why {
    Why {
        code: "FileLimit",
        message: format!(
            "NGINX may open {} files per process for listening sockets, older Services take them, and this Service needs {}; \
             raise the limit ({RAISE})",
            room.files,
            demand(part).files(room.workers)
        ),
        retry: true,
    }
}

struct Budget {
    left: u64,
    workers: u32,
}

impl Budget {
    fn take(&mut self, part: &Part) -> bool {
        let files = demand(part).files(self.workers);
        let fits = files <= self.left;
        if fits {
            self.left -= files;
        }
        fits
    }
}

/// Claims by port.
struct Ports(HashMap<(Transport, u16), Vec<Claim>>);

impl Ports {
    fn of<'a>(parts: impl Iterator<Item = &'a Arc<Part>>) -> Self {
        parts.fold(Self(HashMap::new()), |mut all, part| {
            all.add(part);
            all
        })
    }

    fn add(&mut self, part: &Part) {
        for claim in &part.claims {
            self.0.entry((claim.transport, claim.address.port())).or_default().push(*claim);
        }
    }

    fn are_free_for(&self, part: &Part) -> bool {
        part.claims.iter().all(|claim| !self.0.contains_key(&(claim.transport, claim.address.port())))
    }
}

/// Services whose sockets NGINX could not open while it still has those in `served`: the same port on an address that covers
/// the other. NGINX opens new sockets before it closes old ones.
pub(super) fn in_the_way_of_themselves(choice: &Choice, served: &BTreeSet<Claim>) -> BTreeSet<ServiceKey> {
    let mut by_port: HashMap<(Transport, u16), Vec<Claim>> = HashMap::new();
    for claim in served {
        by_port.entry((claim.transport, claim.address.port())).or_default().push(*claim);
    }
    let blocked = |claim: &Claim| {
        !served.contains(claim)
            && by_port
                .get(&(claim.transport, claim.address.port()))
                .is_some_and(|others| others.iter().any(|other| claim.collides(other)))
    };
    let services = choice.parts.iter().filter(|(_, part)| part.claims.iter().any(blocked));
    services.map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
