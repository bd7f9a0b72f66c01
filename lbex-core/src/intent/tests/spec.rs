//! What the spec of a Service decides: who asks, which types are served, who is let in.

use super::*;
use crate::annotations::{CLASS, CLASS_VALUE};
use crate::backend::Capabilities;

fn allowing_external_names() -> PlanSettings {
    PlanSettings { allow_external_name: true, ..PlanSettings::default() }
}

fn external(name: &str, annotations: &[(&str, &str)]) -> Service {
    Service { kind: ServiceType::ExternalName, external_name: Some(name.into()), ..service(annotations) }
}

#[test]
fn a_service_asks_by_annotation_or_by_class() {
    let settings = PlanSettings::default();
    let asking = |kind, class: Option<&str>, annotation: Option<&str>| {
        let mut service = Service { kind, load_balancer_class: class.map(Into::into), ..service(&[]) };
        service.annotations = annotation.map(|value| (CLASS.into(), value.into())).into_iter().collect();
        asks(&service, &settings)
    };
    let (cluster_ip, node_port, balancer) = (ServiceType::ClusterIp, ServiceType::NodePort, ServiceType::LoadBalancer);
    for kind in [cluster_ip, node_port, balancer] {
        assert_eq!(asking(kind, None, Some(CLASS_VALUE)), Asks::ByAnnotation);
        assert_eq!(asking(kind, Some("other"), Some(CLASS_VALUE)), Asks::ByAnnotation);
        assert_eq!(asking(kind, None, None), Asks::No);
        for value in ["", "nginx", "LOADBALANCER-LBEX", "loadbalancer-lbex,x"] {
            assert_eq!(asking(kind, None, Some(value)), Asks::No);
        }
    }
    assert_eq!(asking(balancer, Some("lbex.io/lbex"), None), Asks::ByClass);
    assert_eq!(asking(balancer, Some("lbex.io/lbex"), Some(CLASS_VALUE)), Asks::ByClass);
    assert_eq!(asking(node_port, Some("lbex.io/lbex"), None), Asks::No, "the class counts with type LoadBalancer only");
    assert_eq!(asking(balancer, Some("lbex.io/other"), None), Asks::No);
    let renamed = PlanSettings { load_balancer_class: "example.com/edge".to_owned(), ..settings };
    let class = |class: &str| Service {
        kind: balancer,
        load_balancer_class: Some(class.into()),
        annotations: <_>::default(),
        ..service(&[])
    };
    assert_eq!(asks(&class("example.com/edge"), &renamed), Asks::ByClass);
    assert_eq!(asks(&class("lbex.io/lbex"), &renamed), Asks::No);
}

#[test]
fn types_that_are_served_and_one_that_is_not() {
    for kind in [ServiceType::ClusterIp, ServiceType::NodePort, ServiceType::LoadBalancer] {
        clean(&Service { kind, ..service(&[]) });
    }
    let unknown = Service { kind: ServiceType::Unknown, ..service(&[]) };
    assert_eq!(refusal(&unknown, &PlanSettings::default()), Reason::UnknownType);
}

#[test]
fn a_headless_service_only_with_pod() {
    let headless =
        |annotations: &[(&str, &str)]| Service { headless: true, cluster_ips: Vec::new(), ..service(annotations) };
    assert_eq!(clean(&headless(&[("upstream-type", "pod")])).upstream_type(), Some(UpstreamType::Pod));
    for annotations in [&[][..], &[("upstream-type", "node")], &[("upstream-type", "cluster-ip")]] {
        let reason = refusal(&headless(annotations), &PlanSettings::default());
        assert!(
            reason.to_string().ends_with("it needs the annotation loadbalancer.lbex/upstream-type: pod"),
            "{reason}"
        );
    }
    assert_eq!(parse_default(&headless(&[("upstream-type", "pods")])).intent, None, "the default is node");
}

#[test]
fn external_name_with_the_flag_and_a_resolver() {
    let service = external("Db.Example.com.", &[("resolver", "10.0.0.53")]);
    assert_eq!(refusal(&service, &PlanSettings::default()), Reason::ExternalNameNotAllowed);
    let parsed = parse_with(&service, &allowing_external_names());
    let resolvers: Arc<[SocketAddr]> = Arc::from(["10.0.0.53:53".parse().unwrap()]);
    let name = DnsName::new("db.example.com").unwrap();
    assert_eq!(parsed.intent.unwrap().destination, Destination::Dns { name, resolvers });
    assert_eq!(parsed.rejections, []);
}

#[test]
fn external_name_without_what_it_needs() {
    let settings = allowing_external_names();
    for annotations in [&[][..], &[("resolver", "")], &[("resolver", " , ")]] {
        assert_eq!(refusal(&external("example.com", annotations), &settings), Reason::ResolverMissing);
    }
    let resolver = [("resolver", "10.0.0.53")];
    for name in ["", "10.0.0.1", "::1", "a b", "x;y", "x\n.y", "$host", "{}", "a..b", "ex ample.com", "münchen.de"] {
        let value = name.to_owned();
        assert_eq!(refusal(&external(name, &resolver), &settings), Reason::InvalidExternalName { value }, "{name:?}");
    }
    let capabilities = Capabilities { dns_servers: false, ..Capabilities::default() };
    let cannot = PlanSettings { capabilities, ..settings };
    assert_eq!(refusal(&external("example.com", &resolver), &cannot), Reason::DnsUnsupported);
}

#[test]
fn external_name_says_what_has_no_effect() {
    let others =
        [("upstream-type", "pod"), ("node-set", "all"), ("node-address-type", "external"), ("algorithm", "least_conn")];
    for other in others {
        let parsed = parse_with(&external("example.com", &[("resolver", "::1"), other]), &allowing_external_names());
        assert!(parsed.intent.is_some_and(|i| i.algorithm == Algorithm::RoundRobin));
        let [told] = &parsed.rejections[..] else { panic!("{other:?}: {:?}", parsed.rejections) };
        assert!(told.to_string().starts_with(&format!("annotation loadbalancer.lbex/{} has no effect: ", other.0)));
    }
    let sticky = Service { client_ip_affinity: true, ..external("example.com", &[("resolver", "::1")]) };
    let parsed = parse_with(&sticky, &allowing_external_names());
    assert_eq!(parsed.rejections, [Rejection::of_service(Reason::AffinityUnsupported)]);
}

#[test]
fn resolver_addresses() {
    let all = |text: &str, expected: &[&str]| {
        let expected: Vec<SocketAddr> = expected.iter().map(|a| a.parse().unwrap()).collect();
        assert_eq!(parse_resolvers(text), (expected, true), "{text:?}");
    };
    all("10.0.0.1", &["10.0.0.1:53"]);
    all("10.0.0.1:5353", &["10.0.0.1:5353"]);
    all("10.0.0.1 10.0.0.2", &["10.0.0.1:53", "10.0.0.2:53"]);
    all("10.0.0.1,10.0.0.2, 10.0.0.3:54", &["10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:54"]);
    all("::1 [::1]:54 [fd00::1]", &["[::1]:53", "[::1]:54", "[fd00::1]:53"]);
    all("10.0.0.1 10.0.0.1:53", &["10.0.0.1:53"]);
    for text in [
        "dns.example.com",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "0.0.0.0",
        "224.0.0.1",
        "::",
        "fe80::1%eth0",
        "x;y",
        "::ffff:0.0.0.0",
    ] {
        assert_eq!(parse_resolvers(text), (vec![], false), "{text:?}");
        let mixed = format!("{text} 10.0.0.1");
        assert_eq!(parse_resolvers(&mixed), (vec!["10.0.0.1:53".parse().unwrap()], false), "the others are used");
    }
    let nine: Vec<_> = (1..=9).map(|n| format!("10.0.0.{n}")).collect();
    let (used, all_used) = parse_resolvers(&nine.join(","));
    assert!(used.len() == 8 && !all_used);
}

#[test]
fn a_resolver_annotation_that_is_not_valid_is_told() {
    let told = |value| {
        texts(&parse_with(&external("example.com", &[("resolver", value)]), &allowing_external_names()).rejections)
    };
    let text = "annotation loadbalancer.lbex/resolver: \"10.0.0.1 x;\" is not valid; allowed: at most 8 IP addresses, \
                optionally with :port, separated by spaces or commas; used instead: 10.0.0.1:53";
    assert_eq!(told("10.0.0.1 x;"), [text]);
    let [invalid, missing] = &told("x;")[..] else { panic!("{:?}", told("x;")) };
    assert!(invalid.ends_with("used instead: none"));
    assert!(missing.starts_with("type ExternalName needs the annotation loadbalancer.lbex/resolver"));
    let other = parse_default(&service(&[("resolver", "10.0.0.1")]));
    let text = "annotation loadbalancer.lbex/resolver has no effect: it is read only with type ExternalName";
    assert_eq!(texts(&other.rejections), [text]);
}

fn with_ranges(ranges: &[&str]) -> Service {
    Service { source_ranges: ranges.iter().map(|&r| r.into()).collect(), ..service(&[]) }
}

#[test]
fn source_ranges() {
    let allow = |ranges: &[&str]| -> Vec<String> {
        clean(&with_ranges(ranges)).allow.iter().map(ToString::to_string).collect()
    };
    assert_eq!(allow(&["10.0.0.0/8"]), ["10.0.0.0/8"]);
    assert_eq!(allow(&[" 10.0.0.0/8 "]), ["10.0.0.0/8"]);
    assert_eq!(allow(&["10.1.2.3/8", "10.0.0.0/8"]), ["10.0.0.0/8"], "host bits are dropped, and duplicates");
    assert_eq!(allow(&["2001:db8::1/32", "192.0.2.7/32"]), ["192.0.2.7/32", "2001:db8::/32"]);
    assert_eq!(allow(&["0.0.0.0/0", "::/0"]), ["0.0.0.0/0", "::/0"]);
}

#[test]
fn a_source_range_that_is_not_valid_closes_the_service() {
    let invalid = [
        "",
        "10.0.0.1",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0/8",
        "::1",
        "::/129",
        "all",
        "0/0",
        "10.0.0.0/8;allow all",
        "10.0.0.0/8\n10.0.0.0/8",
    ];
    for range in invalid {
        let reason = refusal(&with_ranges(&["10.0.0.0/8", range]), &PlanSettings::default());
        assert_eq!(reason, Reason::InvalidSourceRange { value: range.to_owned() });
        let shown = crate::names::Quoted(range).to_string();
        let text = reason.to_string();
        assert!(text.contains(&shown) && text.ends_with("the Service is not served"), "{text}");
    }
}

#[test]
fn unicast_addresses() {
    for address in ["10.0.0.1", "127.0.0.1", "169.254.0.1", "::1", "fd00::1", "fe80::1", "::ffff:10.0.0.1"] {
        assert!(is_unicast(&address.parse().unwrap()), "{address}");
    }
    for address in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "::ffff:0.0.0.0", "::ffff:224.0.0.1"] {
        assert!(!is_unicast(&address.parse().unwrap()), "{address}");
    }
}
