//! A Service with any annotations: parsing is total, and what it complains about is short and on one line.

use lbex_core::intent;
use lbex_core::model::{Protocol, Service, ServicePort, ServiceType};
use lbex_core::names::ServiceKey;
use lbex_core::settings::PlanSettings;

/// The annotations that are read; `NAME` stands for a port's name.
const NAMES: [&str; 13] = [
    "kubernetes.io/loadbalancer-class",
    "loadbalancer-port.lbex/web",
    "loadbalancer-port.lbex/unnamed",
    "loadbalancer.lbex/port",
    "loadbalancer.lbex/algorithm",
    "loadbalancer.lbex/method",
    "loadbalancer.lbex/resolver",
    "loadbalancer.lbex/connect-timeout",
    "loadbalancer.lbex/idle-timeout",
    "loadbalancer.lbex/upstream-type",
    "loadbalancer.lbex/node-set",
    "loadbalancer.lbex/node-address-type",
    "loadbalancer.lbex/service-pool",
];

/// One line for each annotation: the first byte says which, the rest is its value. The last is the source range.
pub fn annotations(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut service = Service {
        key: ServiceKey::new("default", "web").expect("a name"),
        uid: "".into(),
        created: None,
        kind: ServiceType::NodePort,
        load_balancer_class: None,
        annotations: [("kubernetes.io/loadbalancer-class".into(), "loadbalancer-lbex".into())].into(),
        unquoted: Vec::new(),
        cluster_ips: Vec::new(),
        headless: false,
        external_name: None,
        ports: vec![ServicePort {
            name: "web".into(),
            protocol: Some(Protocol::Tcp),
            port: 80,
            node_port: Some(30000),
        }],
        client_ip_affinity: false,
        local_traffic_only: false,
        source_ranges: Vec::new(),
    };
    // A value may have line breaks in it.
    for line in text.split('\0') {
        let mut value = line.chars();
        let Some(which) = value.next() else { continue };
        match NAMES.get(which as usize % (NAMES.len() + 2)) {
            Some(name) => drop(service.annotations.insert((*name).into(), value.as_str().into())),
            None => service.source_ranges.push(value.as_str().into()),
        }
    }
    let settings = PlanSettings::default();
    let parsed = intent::parse(&service, intent::asks(&service, &settings), &settings);
    for rejection in &parsed.rejections {
        let told = rejection.to_string();
        assert!(!told.contains(char::is_control) && told.len() < 2000, "{told:?}");
    }
}
