//! EndpointSlices and Endpoints. An API server refuses loopback addresses in both.

use serde_json::{Value, json};

use super::{Object, merge};

/// An EndpointSlice in the making. Made by [`slice()`].
#[derive(Debug, Clone)]
pub struct EndpointSlice(Value);

/// An EndpointSlice called `name` of the Service `service`, for IPv4, without ports and endpoints.
pub fn slice(name: &str, service: &str) -> EndpointSlice {
    EndpointSlice(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [], "endpoints": [],
    }))
}

impl EndpointSlice {
    /// Makes it one of IPv6 addresses.
    #[must_use]
    pub fn ipv6(self) -> Self {
        self.merge(json!({"addressType": "IPv6"}))
    }

    /// Adds a TCP port: the name is that of the Service port (empty: none), the number that of the endpoints.
    #[must_use]
    pub fn tcp(self, name: &str, port: u16) -> Self {
        self.port(name, port, "TCP")
    }

    /// Adds a UDP port.
    #[must_use]
    pub fn udp(self, name: &str, port: u16) -> Self {
        self.port(name, port, "UDP")
    }

    fn port(mut self, name: &str, port: u16, protocol: &str) -> Self {
        if let Some(ports) = self.0["ports"].as_array_mut() {
            ports.push(json!({"name": name, "port": port, "protocol": protocol}));
        }
        self
    }

    /// Adds a ready endpoint on a node.
    #[must_use]
    pub fn ready(self, address: impl ToString, node: &str) -> Self {
        self.endpoint(endpoint(address).node(node))
    }

    /// Adds an endpoint.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        if let Some(endpoints) = self.0["endpoints"].as_array_mut() {
            endpoints.push(endpoint.0);
        }
        self
    }

    /// Puts something anywhere.
    #[must_use]
    pub fn merge(mut self, changes: Value) -> Self {
        merge(&mut self.0, &changes);
        self
    }
}

impl Object for EndpointSlice {
    fn json(&self) -> Value {
        self.0.clone()
    }
}

/// An endpoint of an [`EndpointSlice`] in the making. Made by [`endpoint`].
#[derive(Debug, Clone)]
pub struct Endpoint(Value);

/// A ready endpoint on no node.
pub fn endpoint(address: impl ToString) -> Endpoint {
    let conditions = json!({"ready": true, "serving": true, "terminating": false});
    Endpoint(json!({"addresses": [address.to_string()], "conditions": conditions}))
}

impl Endpoint {
    /// The node it is on.
    #[must_use]
    pub fn node(mut self, name: &str) -> Self {
        self.0["nodeName"] = name.into();
        self
    }

    /// Makes it neither ready nor serving.
    #[must_use]
    pub fn not_ready(self) -> Self {
        self.conditions(json!({"ready": false, "serving": false, "terminating": false}))
    }

    /// Makes it terminating and still serving.
    #[must_use]
    pub fn terminating(self) -> Self {
        self.conditions(json!({"ready": false, "serving": true, "terminating": true}))
    }

    /// Replaces its conditions; `json!({})` has none, which counts as ready.
    #[must_use]
    pub fn conditions(mut self, conditions: Value) -> Self {
        self.0["conditions"] = conditions;
        self
    }
}

/// Endpoints in the making. Made by [`endpoints`].
#[derive(Debug, Clone)]
pub struct Endpoints(Value);

/// The Endpoints of a Service, without addresses. The controller manager does not mirror them to EndpointSlices.
pub fn endpoints(service: &str) -> Endpoints {
    Endpoints(json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": service, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [],
    }))
}

impl Endpoints {
    /// Lets the controller manager mirror them to EndpointSlices.
    #[must_use]
    pub fn mirrored(self) -> Self {
        self.merge(json!({"metadata": {"labels": null}}))
    }

    /// Adds a subset: ready addresses (each with its node, or an empty text), addresses that are not
    /// ready, and ports (`[{"name": ..., "port": ..., "protocol": ...}]`).
    #[must_use]
    pub fn subset(mut self, ready: &[(&str, &str)], not_ready: &[(&str, &str)], ports: &Value) -> Self {
        let addresses = |list: &[(&str, &str)]| -> Vec<Value> {
            let entry = |(ip, node): &(&str, &str)| {
                if node.is_empty() { json!({"ip": ip}) } else { json!({"ip": ip, "nodeName": node}) }
            };
            list.iter().map(entry).collect()
        };
        let subset = json!({"addresses": addresses(ready), "notReadyAddresses": addresses(not_ready), "ports": ports});
        if let Some(subsets) = self.0["subsets"].as_array_mut() {
            subsets.push(subset);
        }
        self
    }

    /// Puts something anywhere.
    #[must_use]
    pub fn merge(mut self, changes: Value) -> Self {
        merge(&mut self.0, &changes);
        self
    }
}

impl Object for Endpoints {
    fn json(&self) -> Value {
        self.0.clone()
    }
}
