//! Who has which listener port (contract section 5): the oldest claim, always.

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

/// All claims.
#[derive(Debug, Default)]
pub(crate) struct PortTable {
    claims: BTreeMap<PortKey, BTreeSet<Claim>>,
}

impl PortTable {
    pub(crate) fn insert(&mut self, port: PortKey, claim: Claim) {
        self.claims.entry(port).or_default().insert(claim);
    }

    pub(crate) fn remove(&mut self, port: PortKey, claim: &Claim) {
        if let Some(claims) = self.claims.get_mut(&port) {
            claims.remove(claim);
            if claims.is_empty() {
                self.claims.remove(&port);
            }
        }
    }

    /// The holder and the next in line.
    pub(crate) fn front(&self, port: PortKey) -> Front {
        let mut claims = self.claims.get(&port).into_iter().flatten().cloned();
        [claims.next(), claims.next()]
    }

    /// Whether anyone claims the port.
    pub(crate) fn is_claimed(&self, port: PortKey) -> bool {
        self.claims.contains_key(&port)
    }

    /// Everyone who claims the port.
    pub(crate) fn claimants(&self, port: PortKey) -> impl Iterator<Item = &ServiceKey> {
        self.claims.get(&port).into_iter().flatten().map(|claim| &claim.service)
    }

    /// Where `claim`, which is in the table, stands.
    pub(crate) fn standing(&self, port: PortKey, claim: &Claim) -> Standing {
        match self.front(port) {
            [Some(first), _] if first != *claim => Standing::Waits { holder: first.service },
            [_, next] => Standing::Holds { next: next.map(|c| c.service) },
        }
    }
}
