//! Nodes.

use serde_json::{Value, json};

use super::{Object, merge};

/// A Node in the making. Made by [`node`].
#[derive(Debug, Clone)]
pub struct Node(Value);

/// A Node that is Ready and has no addresses.
pub fn node(name: &str) -> Node {
    Node(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name},
        "spec": {"taints": []},
        "status": {"addresses": [], "conditions": [ready_condition("True")]},
    }))
}

fn ready_condition(status: &str) -> Value {
    json!({"type": "Ready", "status": status, "reason": "Test", "message": "as the test wants it"})
}

impl Node {
    /// Adds an internal address, IPv4 or IPv6. It may be a loopback address, such as `127.0.0.2`.
    #[must_use]
    pub fn internal(self, address: impl ToString) -> Self {
        self.address("InternalIP", &address.to_string())
    }

    /// Adds an external address.
    #[must_use]
    pub fn external(self, address: impl ToString) -> Self {
        self.address("ExternalIP", &address.to_string())
    }

    /// Adds an address of any type, for instance `Hostname`.
    #[must_use]
    pub fn address(mut self, kind: &str, address: &str) -> Self {
        if let Some(addresses) = self.0["status"]["addresses"].as_array_mut() {
            addresses.push(json!({"type": kind, "address": address}));
        }
        self
    }

    /// Makes it not Ready.
    #[must_use]
    pub fn not_ready(mut self) -> Self {
        self.0["status"]["conditions"] = json!([ready_condition("False")]);
        self
    }

    /// Sets a label.
    #[must_use]
    pub fn label(self, name: &str, value: &str) -> Self {
        self.merge(json!({"metadata": {"labels": {name: value}}}))
    }

    /// Adds a taint; `effect` is `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    #[must_use]
    pub fn taint(mut self, key: &str, effect: &str) -> Self {
        if let Some(taints) = self.0["spec"]["taints"].as_array_mut() {
            taints.push(json!({"key": key, "effect": effect}));
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

impl Object for Node {
    fn json(&self) -> Value {
        self.0.clone()
    }
}
