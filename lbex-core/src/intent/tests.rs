//! Contract sections 3 and 4, sentence by sentence.

mod annotations;
mod hostile;
mod ports;
mod spec;

use std::sync::Arc;

use super::*;
use crate::names::ServiceKey;
use crate::rejection::Effect;

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort { name: name.into(), protocol: Some(Protocol::Tcp), port: number, node_port: Some(30_000) }
}

/// A Service of type NodePort with the TCP port 80, `http`, and these annotations; names without a slash are under
/// `loadbalancer.lbex/`. Its listener port is 80.
fn service(annotations: &[(&str, &str)]) -> Service {
    let name = |name: &str| -> Arc<str> {
        if name.contains('/') { name.into() } else { format!("loadbalancer.lbex/{name}").into() }
    };
    let mut annotations: std::collections::BTreeMap<_, Arc<str>> =
        annotations.iter().map(|(n, value)| (name(n), (*value).into())).collect();
    annotations.insert(crate::annotations::CLASS.into(), crate::annotations::CLASS_VALUE.into());
    annotations.entry("loadbalancer-port.lbex/http".into()).or_insert_with(|| "80".into());
    Service {
        key: ServiceKey::new("default", "web").unwrap(),
        uid: "".into(),
        created: None,
        kind: ServiceType::NodePort,
        load_balancer_class: None,
        annotations,
        unquoted: Vec::new(),
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        headless: false,
        external_name: None,
        ports: vec![port("http", 80)],
        client_ip_affinity: false,
        local_traffic_only: false,
        source_ranges: Vec::new(),
    }
}

/// The same without a listener port annotation, and with these ports instead.
fn with_ports(annotations: &[(&str, &str)], ports: Vec<ServicePort>) -> Service {
    let mut service = Service { ports, ..service(annotations) };
    if !annotations.iter().any(|(name, _)| *name == "loadbalancer-port.lbex/http") {
        service.annotations.remove("loadbalancer-port.lbex/http");
    }
    service
}

fn parse_with(service: &Service, settings: &PlanSettings) -> Parsed {
    parse(service, Asks::ByAnnotation, settings)
}

fn parse_default(service: &Service) -> Parsed {
    parse_with(service, &PlanSettings::default())
}

/// The intent of a Service about which nothing is to be told.
fn clean(service: &Service) -> Intent {
    let Parsed { intent, rejections } = parse_default(service);
    assert_eq!(texts(&rejections), [""; 0]);
    intent.expect("it is served")
}

/// Why a Service is not served at all, where that is all there is to tell.
fn refusal(service: &Service, settings: &PlanSettings) -> Reason {
    let mut parsed = parse_with(service, settings);
    assert_eq!(parsed.intent, None, "it is not served");
    assert_eq!(parsed.rejections.len(), 1, "{:?}", parsed.rejections);
    let rejection = parsed.rejections.remove(0);
    assert_eq!((rejection.effect(), &rejection.port), (Effect::NotServed, &None));
    rejection.reason
}

fn texts(rejections: &[Rejection]) -> Vec<String> {
    rejections.iter().map(ToString::to_string).collect()
}
