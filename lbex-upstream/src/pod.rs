//! Upstream type `pod`: endpoint addresses and their own ports.

use lbex_core::intent::Intent;
use lbex_core::model::{Service, ServicePort};
use lbex_core::rejection::Reason;
use lbex_core::resolver::{Inputs, NodeInputs, Resolved, UpstreamResolver};
use lbex_core::snapshot::Snapshot;

use crate::endpoints::counting;

/// Sends traffic to the endpoints themselves: every counting endpoint's address and port, of both families. LBEX's host needs a
/// route to the Pods.
#[derive(Debug, Clone, Copy, Default)]
pub struct PodResolver;

impl UpstreamResolver for PodResolver {
    fn inputs(&self, _intent: &Intent) -> Inputs {
        Inputs { endpoints: true, nodes: NodeInputs::None }
    }

    fn resolve(
        &self,
        cluster: &Snapshot,
        service: &Service,
        _intent: &Intent,
        port: &ServicePort,
    ) -> Result<Resolved, Reason> {
        let counting = counting(cluster, service, port);
        // Sorted by address first, so equal addresses are neighbours.
        let mut targets: Vec<_> = counting.endpoints.iter().map(|e| e.address).collect();
        targets.dedup();
        Ok(Resolved { targets, notes: counting.notes })
    }
}

#[cfg(test)]
mod tests;
