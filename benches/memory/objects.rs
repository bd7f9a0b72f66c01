//! The cluster of the memory benchmark, object by object, as an API server would send them.

use serde_json::{Value, json};

/// How large the cluster is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) services: usize,
    pub(crate) endpoints_each: usize,
    pub(crate) nodes: usize,
}

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Service,
    Node,
    EndpointSlice,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Service, Self::Node, Self::EndpointSlice];

    pub(crate) fn count(self, size: Size) -> usize {
        if self == Self::Node { size.nodes } else { size.services }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Node => "Node",
            Self::EndpointSlice => "EndpointSlice",
        }
    }

    pub(crate) fn api_version(self) -> &'static str {
        if self == Self::EndpointSlice { "discovery.k8s.io/v1" } else { "v1" }
    }

    /// The object of that number. Services listen on `ports`; the even ones are of upstream type `node`, the odd ones `pod`.
    pub(crate) fn object(self, size: Size, number: usize, ports: &[u16]) -> Value {
        match self {
            Self::Service => service(number, ports[number]),
            Self::Node => node(number),
            Self::EndpointSlice => slice(size, number),
        }
    }
}

fn service(number: usize, listen: u16) -> Value {
    let upstream = if number.is_multiple_of(2) { "node" } else { "pod" };
    let mut metadata = metadata(&format!("service-{number}"), number, "kubectl-client-side-apply", "f:spec");
    metadata["labels"] =
        json!({"app.kubernetes.io/name": format!("app-{number}"), "app.kubernetes.io/part-of": "shop"});
    metadata["annotations"] = json!({
        "kubernetes.io/loadbalancer-class": "loadbalancer-lbex",
        "loadbalancer-port.lbex/tcp": listen.to_string(),
        "loadbalancer.lbex/upstream-type": upstream,
    });
    let address = address(10, 96, number);
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {
            "type": "NodePort", "selector": {"app.kubernetes.io/name": format!("app-{number}")},
            "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "ports": [{"name": "tcp", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30_000 + number}],
        },
        "status": {"loadBalancer": {}},
    })
}

fn node(number: usize) -> Value {
    let mut metadata = metadata(&node_name(number), number, "kubelet", "f:status");
    metadata["labels"] = json!({"kubernetes.io/hostname": node_name(number), "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"});
    let images: Vec<_> = (0..50)
        .map(|image| json!({"names": [format!("registry.example/image-{image}@sha256:{image:064x}")], "sizeBytes": 123_456_789}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": metadata,
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address(172, 16, number)}, {"type": "Hostname", "address": node_name(number)}],
            "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110"}, "allocatable": {"cpu": "8", "memory": "31Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
                "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "images": images,
        },
    })
}

fn slice(size: Size, number: usize) -> Value {
    let service = format!("service-{number}");
    let mut metadata = metadata(&format!("{service}-x7k2p"), number, "kube-controller-manager", "f:endpoints");
    metadata["labels"] = json!({
        "kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    });
    let endpoint = |place: usize| {
        let target = format!("app-{number}-5d4f8c7b9-{place:05}");
        json!({
            "addresses": [address(10, 128, number * size.endpoints_each + place)],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": node_name((number + place) % size.nodes), "zone": "zone-a",
            "targetRef": {"kind": "Pod", "name": target, "namespace": "default", "uid": uid(number * 100 + place)},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
        "ports": [{"name": "tcp", "protocol": "TCP", "port": 8080}],
        "endpoints": (0..size.endpoints_each).map(endpoint).collect::<Vec<_>>(),
    })
}

/// What every object has, `managedFields` of one manager among it.
fn metadata(name: &str, number: usize, manager: &str, part: &str) -> Value {
    json!({
        "name": name, "namespace": "default", "uid": uid(number), "resourceVersion": (1000 + number).to_string(),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{
            "manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:annotations": {".": {}, "f:kubernetes.io/loadbalancer-class": {}}, "f:labels": {".": {}}},
                part: {"f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}}},
                    "f:selector": {}, "f:sessionAffinity": {}, "f:type": {}},
            },
        }],
    })
}

fn uid(number: usize) -> String {
    format!("6f1d0c1e-0000-4000-8000-{number:012x}")
}

fn node_name(number: usize) -> String {
    format!("node-{number}")
}

fn address(first: u8, second: u8, number: usize) -> String {
    // 1 to 250 in the last place, and beyond the second place where the third is full.
    let (last, rest) = (number % 250 + 1, number / 250);
    format!("{first}.{}.{}.{last}", usize::from(second) + rest / 250, rest % 250)
}
