//! Hostile texts, and objects with one in each place that somebody may write to.

use lbex_test_harness::objects::{Object, node, slice};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::pods;

/// Stands in every hostile text. Kubernetes allows no upper case in names, so no file of LBEX's may have it rightly.
pub(super) const MARKER: &str = "Zq7HostileQz";

/// Where hostile text can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    ServiceName,
    Namespace,
    LabelName,
    LabelValue,
    ClassAnnotation,
    UnknownAnnotation,
    PortAnnotationName,
    PortAnnotationValue,
    Annotation(&'static str),
    PortName,
    PortProtocol,
    PortAppProtocol,
    TargetPort,
    Type,
    ExternalName,
    ExternalNameResolver,
    ClusterIp,
    LoadBalancerClass,
    SourceRange,
    SessionAffinity,
    CreationTimestamp,
    Uid,
    NodeName,
    NodeAddress,
    NodeLabel,
    NodeTaint,
    SliceName,
    SliceService,
    SliceAddress,
    SlicePort,
    SliceNodeName,
    Kind,
    ApiVersion,
}

/// All of them.
pub(super) const PLACES: &[Place] = &[
    Place::ServiceName,
    Place::Namespace,
    Place::LabelName,
    Place::LabelValue,
    Place::ClassAnnotation,
    Place::UnknownAnnotation,
    Place::PortAnnotationName,
    Place::PortAnnotationValue,
    Place::Annotation("port"),
    Place::Annotation("algorithm"),
    Place::Annotation("method"),
    Place::Annotation("resolver"),
    Place::Annotation("connect-timeout"),
    Place::Annotation("idle-timeout"),
    Place::Annotation("upstream-type"),
    Place::Annotation("node-set"),
    Place::Annotation("node-address-type"),
    Place::Annotation("service-pool"),
    Place::PortName,
    Place::PortProtocol,
    Place::PortAppProtocol,
    Place::TargetPort,
    Place::Type,
    Place::ExternalName,
    Place::ExternalNameResolver,
    Place::ClusterIp,
    Place::LoadBalancerClass,
    Place::SourceRange,
    Place::SessionAffinity,
    Place::CreationTimestamp,
    Place::Uid,
    Place::NodeName,
    Place::NodeAddress,
    Place::NodeLabel,
    Place::NodeTaint,
    Place::SliceName,
    Place::SliceService,
    Place::SliceAddress,
    Place::SlicePort,
    Place::SliceNodeName,
    Place::Kind,
    Place::ApiVersion,
];

/// An object with the text in that place, and all else as it should be: it asks for LBEX, on `port` in some.
pub(super) fn in_place(place: Place, text: &str, port: u16) -> Value {
    let name = format!("h{}", PLACES.iter().position(|other| *other == place).unwrap_or_default());
    let service = || pods(&name, port).merge(json!({"metadata": {"creationTimestamp": "2024-01-01T00:00:00Z"}}));
    let with = |changes: Value| service().merge(changes).json();
    let port_with = |changes: Value| {
        let mut service = service().json();
        for (key, value) in changes.as_object().into_iter().flatten() {
            service["spec"]["ports"][0][key] = value.clone();
        }
        service
    };
    let external = |name: &str, resolver: &str| {
        service().lbex("resolver", resolver).spec(json!({"type": "ExternalName", "externalName": name})).json()
    };
    let slice = || slice(&format!("{name}-1"), &name).tcp("tcp", 1);
    match place {
        Place::ServiceName => with(json!({"metadata": {"name": text}})),
        Place::Namespace => with(json!({"metadata": {"namespace": text}})),
        Place::LabelName => with(json!({"metadata": {"labels": {text: "x"}}})),
        Place::LabelValue => with(json!({"metadata": {"labels": {"app": text}}})),
        Place::ClassAnnotation => service().annotate("kubernetes.io/loadbalancer-class", text).json(),
        Place::UnknownAnnotation => service().lbex(text, "x").json(),
        Place::PortAnnotationName => service().annotate(&format!("loadbalancer-port.lbex/{text}"), "8080").json(),
        Place::PortAnnotationValue => service().annotate("loadbalancer-port.lbex/tcp", text).json(),
        Place::Annotation(annotation) => service().lbex(annotation, text).json(),
        Place::PortName => port_with(json!({"name": text})),
        Place::PortProtocol => port_with(json!({"protocol": text})),
        Place::PortAppProtocol => port_with(json!({"appProtocol": text})),
        Place::TargetPort => port_with(json!({"targetPort": text})),
        Place::Type => with(json!({"spec": {"type": text}})),
        Place::ExternalName => external(text, "127.0.0.1"),
        Place::ExternalNameResolver => external("example.com", text),
        Place::ClusterIp => {
            let by_ip = service().lbex("upstream-type", "cluster-ip");
            by_ip.spec(json!({"clusterIP": text, "clusterIPs": [text]})).json()
        }
        Place::LoadBalancerClass => with(json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": text}})),
        Place::SourceRange => with(json!({"spec": {"loadBalancerSourceRanges": [text]}})),
        Place::SessionAffinity => with(json!({"spec": {"sessionAffinity": text}})),
        Place::CreationTimestamp => with(json!({"metadata": {"creationTimestamp": text}})),
        Place::Uid => with(json!({"metadata": {"uid": text}})),
        Place::NodeName => node(text).internal("127.0.0.1").json(),
        Place::NodeAddress => node(&name).internal(text).json(),
        Place::NodeLabel => node(&name).internal("127.0.0.1").label(text, text).json(),
        Place::NodeTaint => node(&name).internal("127.0.0.1").taint(text, "NoSchedule").json(),
        Place::SliceName => slice().ready("127.0.0.1", "n").merge(json!({"metadata": {"name": text}})).json(),
        Place::SliceService => {
            let label = json!({"metadata": {"labels": {"kubernetes.io/service-name": text}}});
            slice().ready("127.0.0.1", "n").merge(label).json()
        }
        Place::SliceAddress => slice().ready(text, "n").json(),
        Place::SlicePort => slice().udp(text, 1).ready("127.0.0.1", "n").json(),
        Place::SliceNodeName => slice().ready("127.0.0.1", text).json(),
        Place::Kind => with(json!({"kind": text})),
        Place::ApiVersion => with(json!({"apiVersion": text})),
    }
}

/// Texts that would do harm if they came through, and texts that break what reads them.
pub(super) fn hand_picked() -> Vec<String> {
    let tricks = [
        "8080; } server { listen 1; return MARKER; } upstream x { server 127.0.0.1:1",
        "\n}\ninclude /etc/MARKER;\n#",
        "\r\nerror_log /tmp/MARKER debug;\r\n",
        "$MARKER${remote_addr}$(touch MARKER)`touch MARKER`",
        "'; load_module MARKER; '",
        "\"MARKER\" \\\"; daemon off;",
        "../../../../MARKER/etc/nginx.conf",
        "{{ MARKER }}{% include \"MARKER\" %}{# MARKER #}",
        "10.0.0.1/MARKER; deny all",
        "MARKER\u{0}MARKER",
        "\u{2028}\u{202e}MARKER\u{feff}\u{1f4a3}é",
        "unix:/run/MARKER.sock",
        "-MARKER -c /etc/nginx.conf -g 'user root;'",
        "a\tb MARKER\u{7f}\u{1b}[31m",
        "# MARKER",
    ];
    let long = format!("8080{}MARKER", ";{}\n".repeat(64 * 1024));
    let tricks = tricks.into_iter().map(ToOwned::to_owned).chain([long]);
    tricks.map(|text| text.replace("MARKER", MARKER)).collect()
}

/// The marker among generated characters of the dangerous kind, some texts up to 256 KiB long.
pub(super) fn text() -> impl Strategy<Value = String> {
    let dangerous = prop_oneof![
        4 => prop::sample::select("\n\r\t;{}$\"'\\#`()[]<>|&*?~!%@:,./= -_0a\u{0}\u{1b}".chars().collect::<Vec<_>>()),
        1 => any::<char>(),
    ];
    let around = || prop::collection::vec(dangerous.clone(), 0..40).prop_map(String::from_iter);
    let times = prop_oneof![6 => Just(1), 1 => Just(1_000), 1 => Just(20_000)];
    (around(), around(), times).prop_map(|(before, after, times)| {
        let mut text = format!("{before}{MARKER}{after}");
        let many = times.min(256 * 1024 / text.len()).max(1);
        text = text.repeat(many);
        text
    })
}
