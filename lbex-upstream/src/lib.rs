//! Where the traffic of a Service port goes (contract section 5): one [`UpstreamResolver`] for each value of the annotation
//! `upstream-type`. Pure functions of a [`lbex_core::snapshot::Snapshot`], free of I/O.
//!
//! | upstream type | servers | depends on |
//! | --- | --- | --- |
//! | [`node`](node::NodeResolver), node set `host` | addresses of the nodes that run a counting endpoint, with the node port | the Service's endpoints and their nodes |
//! | [`node`](node::NodeResolver), node set `all` | addresses of all available nodes, with the node port | all nodes |
//! | [`pod`](pod::PodResolver) | addresses and ports of the counting endpoints | the Service's endpoints |
//! | [`cluster-ip`](cluster_ip::ClusterIpResolver) | the ClusterIPs, with the Service port | the Service alone |
//!
//! Which endpoints count is said once, in [`endpoints`]. Results do not depend on the order in which anything was reported,
//! and cost work in proportion to the Service's own endpoints (to all nodes for `all`).

pub mod cluster_ip;
pub mod endpoints;
pub mod node;
pub mod pod;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;

use lbex_core::intent::UpstreamType;
use lbex_core::resolver::{Resolvers, UpstreamResolver};

/// The resolvers of contract section 5, one for each [`UpstreamType`].
pub fn standard() -> Resolvers {
    let resolver = |upstream| -> Box<dyn UpstreamResolver> {
        match upstream {
            UpstreamType::Node => Box::new(node::NodeResolver),
            UpstreamType::Pod => Box::new(pod::PodResolver),
            UpstreamType::ClusterIp => Box::new(cluster_ip::ClusterIpResolver),
        }
    };
    [UpstreamType::Node, UpstreamType::Pod, UpstreamType::ClusterIp].map(|u| (u, resolver(u))).into()
}
