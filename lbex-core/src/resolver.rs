//! The trait that says where a Service port's traffic goes. Implementations are in `lbex-upstream`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::intent::{Intent, UpstreamType};
use crate::model::{Service, ServicePort};
use crate::rejection::Reason;
use crate::snapshot::Snapshot;

/// On which nodes a result depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeInputs {
    /// On none.
    None,
    /// On the nodes that the Service's endpoints name.
    OfEndpoints,
    /// On all.
    All,
}

/// What a result depends on besides the Service itself. The planner resolves again when that changes, and only then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inputs {
    /// The Service's endpoints.
    pub endpoints: bool,
    /// Nodes.
    pub nodes: NodeInputs,
}

/// Where a port's traffic goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The servers; the planner sorts them and drops duplicates. May be empty: the listener stays.
    pub targets: Vec<SocketAddr>,
    /// What is worth telling the Service's author.
    pub notes: Vec<Reason>,
}

/// Says where a Service port's traffic goes. Pure and total.
pub trait UpstreamResolver: Send + Sync {
    /// What results for Services of this intent depend on.
    fn inputs(&self, intent: &Intent) -> Inputs;

    /// The servers of one port. An error means that the port cannot be served and makes it claim no listener port; it must depend
    /// on the Service alone, so that ports do not change hands with endpoints.
    fn resolve(
        &self,
        cluster: &Snapshot,
        service: &Service,
        intent: &Intent,
        port: &ServicePort,
    ) -> Result<Resolved, Reason>;
}

/// A resolver for each upstream type.
pub type Resolvers = BTreeMap<UpstreamType, Box<dyn UpstreamResolver>>;
