//! Which ports are served, and where they listen.

use super::*;
use crate::backend::Capabilities;
use crate::settings::{PortRanges, Reserved};

const HTTP: &str = "loadbalancer-port.lbex/http";
const UNNAMED: &str = "loadbalancer-port.lbex/unnamed";

/// Listener ports by the Service port's label.
fn listening(parsed: &Parsed) -> Vec<(String, u16)> {
    parsed.intent.iter().flat_map(|i| &i.ports).map(|p| (p.port.label(), p.listen)).collect()
}

/// What a Service with the one port 80 (named, or not) listens on, and what is told.
fn one_port(name: &str, annotations: &[(&str, &str)]) -> (Option<u16>, Vec<String>) {
    let parsed = parse_default(&with_ports(annotations, vec![port(name, 80)]));
    (listening(&parsed).first().map(|(_, listen)| *listen), texts(&parsed.rejections))
}

fn without_require_port() -> PlanSettings {
    PlanSettings { require_port: false, ..PlanSettings::default() }
}

#[test]
fn each_spelling_by_itself() {
    assert_eq!(one_port("http", &[(HTTP, "8080")]), (Some(8080), vec![]));
    for name in ["http", ""] {
        assert_eq!(one_port(name, &[(UNNAMED, "8080")]), (Some(8080), vec![]));
        assert_eq!(one_port(name, &[("port", "8080")]), (Some(8080), vec![]));
    }
    for (value, listen) in [("1", 1), ("65535", 65535), (" 80\n", 80), ("00080", 80)] {
        assert_eq!(one_port("http", &[(HTTP, value)]), (Some(listen), vec![]), "{value:?}");
    }
}

#[test]
fn a_protocol_that_the_backend_does_not_carry_is_not_served_and_the_other_is() {
    let capabilities = Capabilities { description: "X 1".to_owned(), udp: false, ..Capabilities::default() };
    let settings = PlanSettings { capabilities, require_port: false, ..PlanSettings::default() };
    let udp = ServicePort { protocol: Some(Protocol::Udp), ..port("dns-udp", 53) };
    let parsed = parse_with(&with_ports(&[], vec![port("dns", 53), udp]), &settings);
    assert_eq!(listening(&parsed), [("dns".to_owned(), 53)]);
    assert_eq!(texts(&parsed.rejections), ["port \"dns-udp\": the backend (X 1) does not carry UDP"]);
    assert_eq!(parsed.rejections[0].effect(), Effect::NotServed);
}

#[test]
fn a_port_that_is_not_valid_is_not_served_and_the_others_are() {
    let values =
        ["", " ", "0", "65536", "-1", "+80", "80.0", "0x50", "http", "80 81", "80;", "8\n0", "٨٠", "99999999999"];
    for value in values {
        let service =
            with_ports(&[(HTTP, value), ("loadbalancer-port.lbex/dns", "53")], vec![port("http", 80), port("dns", 53)]);
        let parsed = parse_default(&service);
        assert_eq!(listening(&parsed), [("dns".to_owned(), 53)]);
        let shown = crate::names::Quoted(value.trim());
        let expected =
            format!("port \"http\": annotation {HTTP}: {shown} is not a port (1-65535); the port is not served");
        assert_eq!(texts(&parsed.rejections), [expected]);
        assert_eq!(parsed.rejections[0].effect(), Effect::NotServed);
    }
}

#[test]
fn the_ports_name_wins_over_unnamed_and_that_over_the_older_spelling() {
    let (listen, told) = one_port("http", &[("port", "3"), (UNNAMED, "2"), (HTTP, "1")]);
    assert_eq!(listen, Some(1));
    let wins = |used: &str, number, other: &str, value: &str| {
        format!("annotation {used} ({number}) wins over {other} (\"{value}\")")
    };
    let http = |text| format!("port \"http\": {text}");
    let expected = [http(wins(HTTP, 1, UNNAMED, "2")), http(wins(HTTP, 1, "loadbalancer.lbex/port", "3"))];
    assert_eq!(told, expected);
    let (listen, told) = one_port("http", &[("port", "3"), (UNNAMED, "2")]);
    assert_eq!((listen, told), (Some(2), vec![http(wins(UNNAMED, 2, "loadbalancer.lbex/port", "3"))]));
}

#[test]
fn equal_values_are_nothing_to_tell() {
    assert_eq!(one_port("http", &[("port", "1"), (UNNAMED, " 1"), (HTTP, "01")]), (Some(1), vec![]));
}

#[test]
fn one_that_loses_is_told_also_where_it_is_not_valid() {
    let (listen, told) = one_port("http", &[("port", "x"), (HTTP, "1")]);
    assert_eq!(listen, Some(1));
    assert_eq!(told.len(), 1);
    assert_eq!(one_port("http", &[("port", "1"), (HTTP, "x")]).0, None, "one that wins is not passed over");
}

#[test]
fn a_port_that_is_named_unnamed() {
    assert_eq!(one_port("unnamed", &[(UNNAMED, "8080")]), (Some(8080), vec![]));
    let two = with_ports(&[(UNNAMED, "8080"), (HTTP, "80")], vec![port("unnamed", 1), port("http", 2)]);
    assert_eq!(clean(&two).ports.len(), 2);
}

#[test]
fn a_service_with_several_ports_names_each() {
    let ports = vec![port("http", 80), port("https", 443), port("dns", 53)];
    let annotations = [(HTTP, "8080"), ("loadbalancer-port.lbex/https", "8443")];
    let parsed = parse_default(&with_ports(&annotations, ports.clone()));
    assert_eq!(listening(&parsed), [("http".to_owned(), 8080), ("https".to_owned(), 8443)]);
    assert_eq!(parsed.intent.as_ref().unwrap().ports[1].index, 1);
    assert_eq!(
        texts(&parsed.rejections),
        ["port \"dns\": it has no annotation loadbalancer-port.lbex/dns with the port to listen on (required unless \
          --require-port=false or spec.loadBalancerClass)"]
    );
    for name in [UNNAMED, "loadbalancer.lbex/port"] {
        let parsed = parse_default(&with_ports(&[(name, "8080")], ports.clone()));
        assert_eq!(listening(&parsed), []);
        let expected = format!("annotation {name} has no effect: it is read only for a Service with one port");
        assert!(texts(&parsed.rejections).contains(&expected), "{:?}", parsed.rejections);
    }
}

#[test]
fn an_annotation_for_a_port_that_is_not_there() {
    for name in ["loadbalancer-port.lbex/htp", "loadbalancer-port.lbex/"] {
        let (listen, told) = one_port("http", &[(HTTP, "80"), (name, "81")]);
        assert_eq!(listen, Some(80));
        assert_eq!(told, [format!("annotation {name} has no effect: the Service has no port of that name")]);
    }
    assert_eq!(one_port("", &[("port", "80"), ("loadbalancer-port.lbex/", "81")]).1.len(), 1);
}

#[test]
fn an_annotation_is_required_unless_the_operator_or_the_class_says_otherwise() {
    let named = with_ports(&[], vec![port("http", 80)]);
    let nameless = with_ports(&[], vec![port("", 80)]);
    for (service, missing) in [(&named, HTTP), (&nameless, UNNAMED)] {
        let parsed = parse_default(service);
        assert_eq!(listening(&parsed), []);
        assert!(parsed.intent.is_some() && parsed.rejections.len() == 1);
        assert!(parsed.rejections[0].to_string().contains(&format!("it has no annotation {missing} with")));

        let label = service.ports[0].label();
        assert_eq!(listening(&parse_with(service, &without_require_port())), [(label.clone(), 80)]);
        assert_eq!(listening(&parse(service, Asks::ByClass, &PlanSettings::default())), [(label, 80)]);
    }
    let annotated = with_ports(&[(HTTP, "8080")], vec![port("http", 80)]);
    assert_eq!(listening(&parse_with(&annotated, &without_require_port())), [("http".to_owned(), 8080)]);
    let invalid = with_ports(&[(HTTP, "eighty")], vec![port("http", 80)]);
    assert_eq!(listening(&parse_with(&invalid, &without_require_port())), [], "no safe default");
}

#[test]
fn tcp_and_udp_may_share_a_port_and_sctp_is_not_served() {
    let mut ports = vec![port("tcp", 53), port("udp", 53), port("sctp", 53)];
    (ports[1].protocol, ports[2].protocol) = (Some(Protocol::Udp), None);
    let parsed = parse_with(&with_ports(&[], ports), &without_require_port());
    let protocols: Vec<_> = parsed.intent.as_ref().unwrap().ports.iter().map(|p| (p.protocol, p.listen)).collect();
    assert_eq!(protocols, [(Protocol::Tcp, 53), (Protocol::Udp, 53)]);
    assert_eq!(texts(&parsed.rejections), ["port \"sctp\": its protocol is neither TCP nor UDP"]);
}

#[test]
fn ports_outside_allowed_ports_are_refused() {
    let settings =
        PlanSettings { allowed_ports: PortRanges::parse("53,8000-8999").unwrap(), ..PlanSettings::default() };
    for (listen, served) in
        [("53", true), ("8000", true), ("8999", true), ("54", false), ("9000", false), ("80", false)]
    {
        let parsed = parse_with(&service(&[(HTTP, listen)]), &settings);
        assert_eq!(!listening(&parsed).is_empty(), served, "{listen}");
        if !served {
            let expected = format!("port \"http\": listener port {listen} is outside --allowed-ports (53,8000-8999)");
            assert_eq!(texts(&parsed.rejections), [expected]);
        }
    }
}

#[test]
fn ports_that_lbex_uses_are_refused() {
    let health = Reserved { protocol: Protocol::Tcp, address: "127.0.0.1:7331".parse().unwrap(), what: "health" };
    let any = PlanSettings { reserved: vec![health.clone()], ..PlanSettings::default() };
    let elsewhere = PlanSettings { listen: Arc::from(["10.0.0.1".parse().unwrap()]), ..any.clone() };
    let parsed = parse_with(&service(&[(HTTP, "7331")]), &any);
    assert_eq!(listening(&parsed), []);
    let expected = "port \"http\": TCP port 7331 is LBEX's own (health on 127.0.0.1:7331)";
    assert_eq!(texts(&parsed.rejections), [expected]);
    assert_eq!(
        listening(&parse_with(&service(&[(HTTP, "7331")]), &elsewhere)).len(),
        1,
        "on another address it is free"
    );
    let mut udp = service(&[(HTTP, "7331")]);
    udp.ports[0].protocol = Some(Protocol::Udp);
    assert_eq!(listening(&parse_with(&udp, &any)).len(), 1, "and for UDP");
}

#[test]
fn a_service_without_ports() {
    let service = Service { ports: Vec::new(), ..service(&[]) };
    let parsed = parse_default(&service);
    assert_eq!(parsed.intent, None);
    assert!(texts(&parsed.rejections).contains(&"it has no ports".to_owned()));
}
