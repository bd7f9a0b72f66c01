//! One test per rule, on JSON as the API server sends it. The same types read from YAML are in `manifests`.

use lbex_core::model::{EndpointList, EndpointsApi, Node, NodeAddressType, Protocol, Service, ServiceType};
use serde_json::{Value, json};

use super::*;

fn service(spec: &Value) -> Result<Service, ObjectError> {
    let object = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
    serde_json::from_value::<ServiceObject>(object).unwrap().into_model()
}

fn service_error(spec: &Value) -> String {
    service(spec).unwrap_err().to_string()
}

fn slice(object: &Value) -> Result<Option<EndpointList>, ObjectError> {
    let mut whole = json!({
        "metadata": {"name": "web-x1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "endpoints": [], "ports": [],
    });
    for (key, value) in object.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value::<EndpointSliceObject>(whole).unwrap().into_model()
}

fn node(object: &Value) -> Node {
    serde_json::from_value::<NodeObject>(object.clone()).unwrap().into_model().unwrap()
}

#[test]
fn a_whole_service() {
    let object = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "77",
            "creationTimestamp": "2026-01-31T12:00:00Z", "deletionTimestamp": "2026-02-01T00:00:00Z",
            "managedFields": [{"manager": "x", "fieldsV1": {"f:spec": {}}}],
            "labels": {"app": "web"},
            "annotations": {
                "kubernetes.io/loadbalancer-class": "loadbalancer-lbex",
                "loadbalancer-port.lbex/http": "80",
                "loadbalancer.lbex/unknown": "kept",
                "kubectl.kubernetes.io/last-applied-configuration": "left out",
            },
        },
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "lbex.io/lbex", "clusterIP": "10.96.0.1",
            "clusterIPs": ["10.96.0.1", "fd00::1"], "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local",
            "loadBalancerSourceRanges": ["10.0.0.0/8", "nonsense"],
            "ports": [
                {"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
                {"name": "dns", "protocol": "UDP", "port": 80, "nodePort": 0},
                {"name": "sctp", "protocol": "SCTP", "port": 80},
            ],
        },
        "status": {"loadBalancer": {}},
    });
    let wire: ServiceObject = serde_json::from_value(object).unwrap();
    assert_eq!(wire.metadata.standard.resource_version.as_deref(), Some("77"));
    assert!(wire.metadata.standard.annotations.is_none() && wire.metadata.standard.managed_fields.is_none());
    let service = wire.into_model().unwrap();
    assert_eq!(service.key.to_string(), "shop/web");
    assert_eq!((&*service.uid, service.created), ("u-1", Some(1_769_860_800)));
    assert_eq!(service.kind, ServiceType::LoadBalancer);
    assert_eq!(service.load_balancer_class.as_deref(), Some("lbex.io/lbex"));
    let names: Vec<_> = service.annotations.keys().map(|name| &**name).collect();
    assert_eq!(names, ["kubernetes.io/loadbalancer-class", "loadbalancer-port.lbex/http", "loadbalancer.lbex/unknown"]);
    assert!(service.unquoted.is_empty());
    assert_eq!(service.cluster_ips, ["10.96.0.1".parse::<std::net::IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
    assert!(!service.headless && service.client_ip_affinity && service.local_traffic_only);
    assert_eq!(service.source_ranges, ["10.0.0.0/8".into(), "nonsense".into()]);
    let ports: Vec<_> = service.ports.iter().map(|p| (&*p.name, p.protocol, p.port, p.node_port)).collect();
    assert_eq!(
        ports,
        [
            ("http", Some(Protocol::Tcp), 80, Some(30080)),
            ("dns", Some(Protocol::Udp), 80, None),
            ("sctp", None, 80, None)
        ]
    );
}

#[test]
fn the_least_service_and_nulls() {
    let least = service(&json!({})).unwrap();
    assert_eq!((least.kind, least.created, least.ports.len()), (ServiceType::ClusterIp, None, 0));
    let nulls = service(&json!({"ports": null, "clusterIPs": null, "type": null, "sessionAffinity": null})).unwrap();
    assert_eq!(nulls, least);
    let no_namespace = serde_json::from_value::<ServiceObject>(json!({"metadata": {"name": "web"}})).unwrap();
    assert_eq!(no_namespace.into_model().unwrap().key.to_string(), "default/web");
    assert_eq!(service(&json!({"type": "Newer"})).unwrap().kind, ServiceType::Unknown);
}

#[test]
fn cluster_ips() {
    assert!(service(&json!({"clusterIP": "None"})).unwrap().headless);
    assert!(service(&json!({"clusterIP": "None", "clusterIPs": ["None"]})).unwrap().headless);
    assert_eq!(service(&json!({"clusterIP": "10.0.0.1"})).unwrap().cluster_ips.len(), 1);
    assert_eq!(service(&json!({"clusterIP": ""})).unwrap().cluster_ips.len(), 0);
    let external = service(&json!({"type": "ExternalName", "externalName": "a.example", "clusterIP": "None"})).unwrap();
    assert!(!external.headless && external.external_name.as_deref() == Some("a.example"));
    for ip in ["10.0.0.256", "010.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "0.0.0.0", "224.0.0.1", "10.0.0.1\n"] {
        let text = service_error(&json!({"clusterIPs": ["10.0.0.1", ip]}));
        assert!(text.starts_with("Service shop/web: spec.clusterIPs[1] \""), "{text}");
    }
}

#[test]
fn a_service_that_is_not_valid() {
    let cases = [
        (json!({"ports": [{"port": 0}]}), "spec.ports[0].port 0 is not valid; allowed: a port number, 1-65535"),
        (json!({"ports": [{"port": 65536}]}), "spec.ports[0].port 65536"),
        (json!({"ports": [{"port": -1}]}), "spec.ports[0].port -1"),
        (json!({"ports": [{}]}), "spec.ports[0].port is missing"),
        (json!({"ports": [{"port": 1, "nodePort": 70000}]}), "spec.ports[0].nodePort 70000"),
        (json!({"ports": [{"port": 1, "protocol": "tcp"}]}), "spec.ports[0].protocol \"tcp\""),
        (json!({"ports": [{"port": 1, "name": "A b"}]}), "spec.ports[0].name \"A b\""),
        (json!({"ports": [{"port": 1, "name": "a"}, {"port": 2}]}), "spec.ports[1].name is missing"),
        (json!({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]}), "spec.ports[1].name \"a\""),
        (json!({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]}), "spec.ports[1].port 1"),
        (json!({"sessionAffinity": "Client"}), "allowed: None, ClientIP"),
        (json!({"externalTrafficPolicy": "local"}), "allowed: Cluster, Local"),
    ];
    for (spec, wanted) in cases {
        let text = service_error(&spec);
        assert!(text.starts_with("Service shop/web: ") && text.contains(wanted), "{text}");
        assert!(text.ends_with("; the object is left out"), "{text}");
    }
    let created = json!({"metadata": {"name": "web", "creationTimestamp": "yesterday"}});
    let error = serde_json::from_value::<ServiceObject>(created).unwrap().into_model().unwrap_err();
    assert!(error.to_string().contains("metadata.creationTimestamp \"yesterday\""), "{error}");
}

#[test]
fn hostile_names_give_short_texts_on_one_line() {
    let long = "x\n;{$".repeat(64 * 1024);
    let objects = [
        json!({"metadata": {"name": long}}),
        json!({"metadata": {"name": "web", "namespace": long}}),
        json!({"metadata": {"name": "web", "annotations": {format!("loadbalancer.lbex/{long}"): "1"}}}),
        json!({"metadata": {"name": "web", "annotations": {"loadbalancer.lbex/port": "9".repeat(300_000)}}}),
        json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 1, "name": long}]}}),
        json!({"metadata": {"name": "web"}, "spec": {"clusterIP": long}}),
        json!({"metadata": {"name": ""}}),
        json!({}),
    ];
    for object in objects {
        let error = serde_json::from_value::<ServiceObject>(object).unwrap().into_model().unwrap_err().to_string();
        assert!(error.len() < 700 && !error.contains('\n'), "{error}");
    }
    let node = serde_json::from_value::<NodeObject>(json!({"metadata": {"name": long}})).unwrap();
    let error = node.into_model().unwrap_err().to_string();
    assert!(error.len() < 700 && !error.contains('\n'), "{error}");
}

#[test]
fn annotation_values_that_are_no_text() {
    let object = json!({"metadata": {"name": "web", "annotations": {
        "loadbalancer.lbex/port": 123, "loadbalancer.lbex/algorithm": true, "loadbalancer.lbex/method": null, "other": [1],
    }}});
    let service = serde_json::from_value::<ServiceObject>(object).unwrap().into_model().unwrap();
    let values: Vec<_> = service.annotations.values().map(|v| &**v).collect();
    assert_eq!(values, ["true", "", "123"]);
    assert_eq!(service.unquoted, ["loadbalancer.lbex/algorithm".into(), "loadbalancer.lbex/port".into()]);
}

#[test]
fn slice_conditions_default_as_kube_proxy_has_it() {
    let cases = [
        (json!({}), (true, true, false)),
        (json!({"ready": null, "serving": null, "terminating": null}), (true, true, false)),
        (json!({"ready": false}), (false, false, false)),
        (json!({"ready": false, "serving": true, "terminating": true}), (false, true, true)),
    ];
    for (conditions, wanted) in cases {
        let endpoint = json!({"addresses": ["10.1.0.1", "10.1.0.2"], "conditions": conditions, "nodeName": "node-1.x"});
        let list =
            slice(&json!({"endpoints": [endpoint], "ports": [{"port": 8080, "name": "http"}]})).unwrap().unwrap();
        let [endpoint] = &list.subsets[0].endpoints[..] else { panic!("only the first address counts") };
        assert_eq!((endpoint.ready, endpoint.serving, endpoint.terminating), wanted);
        assert_eq!(endpoint.address.to_string(), "10.1.0.1");
        assert_eq!(endpoint.node.as_deref(), Some("node-1.x"));
        assert_eq!(list.service.to_string(), "shop/web");
        assert_eq!((list.key.api, &*list.key.namespace, &*list.key.name), (EndpointsApi::Slices, "shop", "web-x1"));
    }
}

#[test]
fn slices_that_concern_no_service_and_ports_without_number() {
    assert_eq!(slice(&json!({"metadata": {"name": "x", "namespace": "shop"}})), Ok(None));
    assert_eq!(slice(&json!({"metadata": {"name": "x", "labels": {"kubernetes.io/service-name": ""}}})), Ok(None));
    assert_eq!(slice(&json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.example"]}]})), Ok(None));
    let ports =
        json!([{"name": "all"}, {"port": null}, {"port": 53, "protocol": "UDP"}, {"port": 1, "protocol": "SCTP"}]);
    let list = slice(&json!({"ports": ports})).unwrap().unwrap();
    let ports: Vec<_> = list.subsets[0].ports.iter().map(|p| (&*p.name, p.protocol, p.port)).collect();
    assert_eq!(ports, [("", Some(Protocol::Udp), 53), ("", None, 1)]);
}

#[test]
fn a_slice_that_is_not_valid() {
    let cases = [
        (json!({"addressType": "IPX"}), "addressType \"IPX\""),
        (json!({"endpoints": [{"addresses": []}]}), "endpoints[0].addresses[0] is missing"),
        (json!({"endpoints": [{"addresses": ["fd00::1"]}]}), "an address of the slice's addressType"),
        (json!({"endpoints": [{"addresses": ["host"]}]}), "endpoints[0].addresses[0] \"host\""),
        (json!({"endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "A/b"}]}), "endpoints[0].nodeName \"A/b\""),
        (json!({"ports": [{"port": 0}]}), "ports[0].port 0"),
        (json!({"metadata": {"name": "x", "labels": {"kubernetes.io/service-name": "a b"}}}), "service-name] \"a b\""),
    ];
    for (object, wanted) in cases {
        let text = slice(&object).unwrap_err().to_string();
        assert!(text.starts_with("EndpointSlice ") && text.contains(wanted), "{text}");
    }
}

#[test]
fn endpoints_with_several_subsets() {
    let object = json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "subsets": [
            {
                "addresses": [{"ip": "10.1.0.1", "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "p"}}],
                "notReadyAddresses": [{"ip": "10.1.0.2"}],
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            },
            {"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 53, "protocol": "UDP"}]},
            {"addresses": null, "ports": null},
        ],
    });
    let list = serde_json::from_value::<EndpointsObject>(object).unwrap().into_model().unwrap();
    assert_eq!((list.key.api, list.subsets.len()), (EndpointsApi::Endpoints, 3));
    let first: Vec<_> = list.subsets[0].endpoints.iter().map(|e| (e.address.to_string(), e.ready, e.serving)).collect();
    assert_eq!(first, [("10.1.0.1".to_owned(), true, true), ("10.1.0.2".to_owned(), false, false)]);
    assert_eq!(list.subsets[1].ports[0].protocol, Some(Protocol::Udp));
    let bad = json!({"metadata": {"name": "web"}, "subsets": [{"notReadyAddresses": [{"ip": "x"}]}]});
    let error = serde_json::from_value::<EndpointsObject>(bad).unwrap().into_model().unwrap_err().to_string();
    assert!(error.starts_with("Endpoints default/web: subsets[0].notReadyAddresses[0].ip \"x\""), "{error}");
}

#[test]
fn nodes() {
    let whole = node(&json!({
        "metadata": {"name": "node-1.example", "labels": {"zone": "a"}},
        "spec": {"taints": [{"key": "other", "effect": "NoSchedule"}]},
        "status": {
            "addresses": [
                {"type": "Hostname", "address": "node-1"}, {"type": "InternalIP", "address": "127.0.0.2"},
                {"type": "ExternalIP", "address": "2001:db8::1"}, {"type": "InternalIP", "address": "not an address"},
            ],
            "conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": "True"}],
        },
    }));
    let addresses: Vec<_> = whole.addresses.iter().map(|(kind, ip)| (*kind, ip.to_string())).collect();
    assert_eq!(
        addresses,
        [(NodeAddressType::Internal, "127.0.0.2".to_owned()), (NodeAddressType::External, "2001:db8::1".to_owned())]
    );
    assert!(whole.ready && !whole.leaving && !whole.excluded);
    let unready =
        node(&json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}));
    assert!(!unready.ready && !node(&json!({"metadata": {"name": "n"}})).ready);
    let deleted = node(&json!({"metadata": {"name": "n", "deletionTimestamp": "2026-02-01T00:00:00Z"}}));
    let taint = json!([{"key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "NoSchedule"}]);
    assert!(deleted.leaving && node(&json!({"metadata": {"name": "n"}, "spec": {"taints": taint}})).leaving);
    let label = json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""});
    assert!(node(&json!({"metadata": {"name": "n", "labels": label}})).excluded);
}
