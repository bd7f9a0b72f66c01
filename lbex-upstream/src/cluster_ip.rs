//! Upstream type `cluster-ip`: the ClusterIPs and the Service port.

use std::net::SocketAddr;

use lbex_core::intent::Intent;
use lbex_core::model::{Service, ServicePort};
use lbex_core::rejection::Reason;
use lbex_core::resolver::{Inputs, NodeInputs, Resolved, UpstreamResolver};
use lbex_core::snapshot::Snapshot;

use crate::endpoints::usable;

/// Sends traffic to the Service's ClusterIPs (two in a dual-stack Service); which endpoint takes it is kube-proxy's choice. LBEX's
/// host needs a route to them.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClusterIpResolver;

impl UpstreamResolver for ClusterIpResolver {
    fn inputs(&self, _intent: &Intent) -> Inputs {
        Inputs { endpoints: false, nodes: NodeInputs::None }
    }

    /// Fails with [`Reason::NoClusterIp`] where the Service has no ClusterIP that traffic can be sent to.
    fn resolve(
        &self,
        _cluster: &Snapshot,
        service: &Service,
        _intent: &Intent,
        port: &ServicePort,
    ) -> Result<Resolved, Reason> {
        let ips = service.cluster_ips.iter().filter_map(|&ip| usable(ip));
        let mut targets: Vec<_> = ips.map(|ip| SocketAddr::new(ip, port.port)).filter(|t| t.port() > 0).collect();
        targets.sort_unstable();
        targets.dedup();
        if targets.is_empty() { Err(Reason::NoClusterIp) } else { Ok(Resolved { targets, notes: Vec::new() }) }
    }
}

#[cfg(test)]
mod tests;
