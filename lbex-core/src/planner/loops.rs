//! Which Services have servers on this host, so that a port that becomes LBEX's own, or no longer is, touches those and no others.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::ServiceKey;
use crate::ports::PortKey;
use crate::service::Evaluation;

/// The index from ports of this host to the Services that send traffic there.
#[derive(Debug, Default)]
pub(super) struct Loops {
    on_port: BTreeMap<PortKey, BTreeSet<ServiceKey>>,
}

impl Loops {
    /// Services that have a server on this host at `port`.
    pub(super) fn of_port(&self, port: PortKey) -> impl Iterator<Item = &ServiceKey> {
        self.on_port.get(&port).into_iter().flatten()
    }

    /// A Service was evaluated again.
    pub(super) fn changed(&mut self, key: &ServiceKey, old: Option<&Evaluation>, new: Option<&Evaluation>) {
        let (old, new) = (ports(old), ports(new));
        for port in old.difference(&new) {
            if let Some(services) = self.on_port.get_mut(port) {
                services.remove(key);
                if services.is_empty() {
                    self.on_port.remove(port);
                }
            }
        }
        for port in new.difference(&old) {
            self.on_port.entry(*port).or_default().insert(key.clone());
        }
    }
}

fn ports(evaluation: Option<&Evaluation>) -> BTreeSet<PortKey> {
    let candidates = evaluation.iter().flat_map(|evaluation| &evaluation.candidates);
    candidates.flat_map(|c| c.on_host.iter().map(|server| (c.listener.protocol, server.port()))).collect()
}
