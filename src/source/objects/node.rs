//! `v1` Node.

use std::sync::Arc;

use lbex_core::model::{Node, NodeAddressType};
use serde::Deserialize;

use super::checks;
use super::error::ObjectError;
use super::meta::Meta;

/// The taint by which the cluster autoscaler announces a node's end.
const LEAVING_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// A Node.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct NodeObject {
    /// `metadata`.
    #[serde(default, deserialize_with = "checks::or_default")]
    pub metadata: Meta,
    #[serde(default, deserialize_with = "checks::or_default")]
    spec: Spec,
    #[serde(default, deserialize_with = "checks::or_default")]
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Spec {
    #[serde(default, deserialize_with = "checks::or_default")]
    taints: Vec<Taint>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Taint {
    key: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Status {
    #[serde(default, deserialize_with = "checks::or_default")]
    addresses: Vec<Address>,
    #[serde(default, deserialize_with = "checks::or_default")]
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Address {
    r#type: Option<String>,
    address: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Condition {
    r#type: Option<String>,
    status: Option<String>,
}

impl NodeObject {
    /// Checks it and makes LBEX's own Node of it. Addresses of other types, and those that are no unicast address, are left
    /// out: cloud providers write host names there.
    pub fn into_model(self) -> Result<Node, ObjectError> {
        let Self { metadata, spec, status } = self;
        let name: Option<Arc<str>> = metadata.standard.name.as_deref().map(Into::into);
        let name = checks::subdomain("metadata.name", name.as_ref())
            .map_err(|error| error.of("Node", &metadata.shown_name()))?;
        let usable = |address: &Address| {
            let kind = match address.r#type.as_deref()? {
                "InternalIP" => NodeAddressType::Internal,
                "ExternalIP" => NodeAddressType::External,
                _ => return None,
            };
            Some((kind, checks::usable_address(address.address.as_deref()?)?))
        };
        let ready = |c: &Condition| c.r#type.as_deref() == Some("Ready") && c.status.as_deref() == Some("True");
        let tainted = spec.taints.iter().any(|taint| taint.key.as_deref() == Some(LEAVING_TAINT));
        Ok(Node {
            name,
            addresses: status.addresses.iter().filter_map(usable).collect(),
            ready: status.conditions.iter().any(ready),
            leaving: metadata.deleting || tainted,
            excluded: metadata.labels.excluded,
        })
    }
}
