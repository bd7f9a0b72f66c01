//! Services.

use serde_json::{Value, json};

use super::{LOAD_BALANCER_CLASS, Object, merge};

/// A Service in the making. Made by [`service`].
#[derive(Debug, Clone)]
pub struct Service(Value);

/// A Service of type NodePort without a selector (so that the test writes its endpoints), which does not ask for LBEX.
pub fn service(name: &str) -> Service {
    Service(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "NodePort", "ports": []},
    }))
}

impl Service {
    /// Asks for LBEX by annotation.
    #[must_use]
    pub fn ask(self) -> Self {
        self.annotate("kubernetes.io/loadbalancer-class", "loadbalancer-lbex")
    }

    /// Asks for LBEX by `loadBalancerClass`; the type becomes LoadBalancer.
    #[must_use]
    pub fn ask_by_class(self) -> Self {
        self.spec(json!({"type": "LoadBalancer", "loadBalancerClass": LOAD_BALANCER_CLASS}))
    }

    /// Sets an annotation. API servers take texts only; in manifests numbers and booleans may stand too.
    #[must_use]
    pub fn annotate(self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.merge(json!({"metadata": {"annotations": {name: value}}}))
    }

    /// Sets the annotation `loadbalancer.lbex/NAME`.
    #[must_use]
    pub fn lbex(self, name: &str, value: &str) -> Self {
        self.annotate(&format!("loadbalancer.lbex/{name}"), value)
    }

    /// Sets the annotation `loadbalancer-port.lbex/PORTNAME`: where LBEX listens for that Service port.
    #[must_use]
    pub fn listen(self, port_name: &str, port: u16) -> Self {
        self.annotate(&format!("loadbalancer-port.lbex/{port_name}"), port.to_string())
    }

    /// Adds a TCP port with its node port. An empty name is none (one-port Services only), node port 0 lets the API server choose.
    #[must_use]
    pub fn tcp(self, name: &str, port: u16, node_port: u16) -> Self {
        self.numbered_port("TCP", name, port, node_port)
    }

    /// Adds a UDP port with its node port, as [`tcp`](Self::tcp) does.
    #[must_use]
    pub fn udp(self, name: &str, port: u16, node_port: u16) -> Self {
        self.numbered_port("UDP", name, port, node_port)
    }

    fn numbered_port(self, protocol: &str, name: &str, port: u16, node_port: u16) -> Self {
        let mut entry = json!({"protocol": protocol, "port": port});
        if !name.is_empty() {
            entry["name"] = name.into();
        }
        if node_port != 0 {
            entry["nodePort"] = node_port.into();
        }
        self.port(entry)
    }

    /// Adds an entry to `spec.ports`, for instance one with a `targetPort`.
    #[must_use]
    pub fn port(mut self, entry: Value) -> Self {
        if let Some(ports) = self.0["spec"]["ports"].as_array_mut() {
            ports.push(entry);
        }
        self
    }

    /// Makes its type ClusterIP. Its ports must have no node port (0).
    #[must_use]
    pub fn cluster_ip(self) -> Self {
        self.spec(json!({"type": "ClusterIP"}))
    }

    /// Makes it headless: type ClusterIP without a ClusterIP.
    #[must_use]
    pub fn headless(self) -> Self {
        self.spec(json!({"type": "ClusterIP", "clusterIP": "None"}))
    }

    /// Sets a label that its Pods have.
    #[must_use]
    pub fn selector(self, label: &str, value: &str) -> Self {
        self.spec(json!({"selector": {label: value}}))
    }

    /// Sets its address families: `["IPv4"]`, `["IPv6"]`, or both in either order.
    #[must_use]
    pub fn families(self, families: &[&str]) -> Self {
        let policy = if families.len() > 1 { "RequireDualStack" } else { "SingleStack" };
        self.spec(json!({"ipFamilies": families, "ipFamilyPolicy": policy}))
    }

    /// Puts something into `spec`, for instance `json!({"externalTrafficPolicy": "Local"})`.
    #[must_use]
    pub fn spec(self, changes: Value) -> Self {
        self.merge(json!({"spec": changes}))
    }

    /// Puts it in another namespace than that of [`Objects`](super::Objects).
    #[must_use]
    pub fn namespace(self, namespace: &str) -> Self {
        self.merge(json!({"metadata": {"namespace": namespace}}))
    }

    /// Puts something anywhere.
    #[must_use]
    pub fn merge(mut self, changes: Value) -> Self {
        merge(&mut self.0, &changes);
        self
    }
}

impl Object for Service {
    fn json(&self) -> Value {
        self.0.clone()
    }
}
