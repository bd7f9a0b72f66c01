//! Who has which listener port (contract section 5): the oldest claim, always.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::Protocol;
use crate::names::ServiceKey;
use crate::service::Standing;

/// A listener port. All listeners bind the same addresses, so a port is claimed on all of them.
pub(crate) type PortKey = (Protocol, u16);

/// A claim. Ordered as contract section 5 says: the older Service (without a timestamp after those with one), then
/// namespace/name, then the first in the Service's list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    created: i64,
    /// Whose.
    pub(crate) service: ServiceKey,
    index: usize,
}

impl Claim {
    pub(crate) fn new(created: Option<i64>, service: &ServiceKey, index: usize) -> Self {
        Self { created: created.unwrap_or(i64::MAX), service: service.clone(), index }
    }
}

/// The first two in line for a port.
pub(crate) type Front = [Option<Claim>; 2];

/// The claims on one port: nearly always one.
#[derive(Debug)]
struct Line {
    first: Claim,
    others: BTreeSet<Claim>,
}

impl Line {
    fn insert(&mut self, mut claim: Claim) {
        if claim < self.first {
            std::mem::swap(&mut claim, &mut self.first);
        }
        if claim != self.first {
            self.others.insert(claim);
        }
    }

    /// Answers whether no claim is left.
    fn remove(&mut self, claim: &Claim) -> bool {
        if self.first != *claim {
            self.others.remove(claim);
            return false;
        }
        match self.others.pop_first() {
            Some(next) => self.first = next,
            None => return true,
        }
        false
    }

    fn iter(&self) -> impl Iterator<Item = &Claim> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// All claims.
#[derive(Debug, Default)]
pub(crate) struct PortTable {
    lines: BTreeMap<PortKey, Line>,
}

impl PortTable {
    pub(crate) fn insert(&mut self, port: PortKey, claim: Claim) {
        match self.lines.entry(port) {
            Entry::Vacant(vacant) => drop(vacant.insert(Line { first: claim, others: BTreeSet::new() })),
            Entry::Occupied(mut line) => line.get_mut().insert(claim),
        }
    }

    pub(crate) fn remove(&mut self, port: PortKey, claim: &Claim) {
        if self.lines.get_mut(&port).is_some_and(|line| line.remove(claim)) {
            self.lines.remove(&port);
        }
    }

    /// The holder and the next in line.
    pub(crate) fn front(&self, port: PortKey) -> Front {
        let mut claims = self.lines.get(&port).into_iter().flat_map(Line::iter).cloned();
        [claims.next(), claims.next()]
    }

    /// Whether anyone claims the port.
    pub(crate) fn is_claimed(&self, port: PortKey) -> bool {
        self.lines.contains_key(&port)
    }

    /// Everyone who claims the port.
    pub(crate) fn claimants(&self, port: PortKey) -> impl Iterator<Item = &ServiceKey> {
        self.lines.get(&port).into_iter().flat_map(Line::iter).map(|claim| &claim.service)
    }

    /// Where `claim`, which is in the table, stands.
    pub(crate) fn standing(&self, port: PortKey, claim: &Claim) -> Standing {
        match self.front(port) {
            [Some(first), _] if first != *claim => Standing::Waits { holder: first.service },
            [_, next] => Standing::Holds { next: next.map(|c| c.service) },
        }
    }
}
