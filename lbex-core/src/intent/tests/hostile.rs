//! Parsing is total, and what it says is short, whatever the text (design invariants 1 and 9).

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::backend::Capabilities;

/// What an attacker, or a slip of the hand, may put into a value.
const PIECES: [&str; 30] = [
    "\n",
    "\r\n",
    "{",
    "}",
    ";",
    "$",
    "${x}",
    "\"",
    "'",
    "\\",
    "`",
    "#",
    "%",
    "\u{0}",
    "\u{1b}[2J",
    "\u{202e}",
    "\u{2028}",
    "\u{10ffff}",
    "é",
    "漢",
    "../",
    "include /etc/passwd;",
    "least_time",
    "inflight",
    "10.0.0.1",
    "::1",
    "80",
    "1h",
    " ",
    ",",
];

/// The size that an API server allows all annotations of an object together.
const LONGEST: usize = 256 * 1024;

fn hostile() -> impl Strategy<Value = String> {
    let pieces = vec(select(&PIECES[..]), 0..12).prop_map(|pieces| pieces.concat());
    let long = (select(&PIECES[..]), 0..=LONGEST).prop_map(|(piece, bytes)| piece.repeat(bytes / piece.len()));
    let valid =
        select(&["pod", "all", "external", "least_time", "80", "3s", "10.0.0.1"][..]).prop_map(ToOwned::to_owned);
    prop_oneof![4 => pieces, 2 => any::<String>(), 1 => long, 2 => valid]
}

fn annotation_name() -> impl Strategy<Value = String> {
    let port = prop_oneof![Just("http".to_owned()), Just("unnamed".to_owned()), hostile()];
    prop_oneof![
        6 => select(&crate::annotations::KNOWN[..]).prop_map(ToOwned::to_owned),
        2 => port.prop_map(|port| format!("loadbalancer-port.lbex/{port}")),
        1 => hostile().prop_map(|name| format!("loadbalancer.lbex/{name}")),
    ]
}

fn a_port() -> impl Strategy<Value = ServicePort> {
    let name = prop_oneof![3 => Just("http".to_owned()), 1 => Just(String::new()), 1 => hostile()];
    (name, any::<u16>(), select(vec![Some(Protocol::Tcp), Some(Protocol::Udp), None]))
        .prop_map(|(name, number, protocol)| ServicePort { protocol, ..port(&name, number) })
}

fn a_service() -> impl Strategy<Value = Service> {
    let kinds =
        vec![ServiceType::ClusterIp, ServiceType::LoadBalancer, ServiceType::ExternalName, ServiceType::Unknown];
    let annotations = proptest::collection::btree_map(annotation_name(), hostile(), 0..8);
    let texts = (annotations, vec(a_port(), 0..4), proptest::option::of(hostile()), vec(hostile(), 0..2));
    (select(kinds), texts, any::<[bool; 4]>()).prop_map(|(kind, (annotations, ports, name, ranges), flags)| {
        let annotations: BTreeMap<Arc<str>, Arc<str>> =
            annotations.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Service {
            kind,
            unquoted: if flags[0] { annotations.keys().cloned().collect() } else { Vec::new() },
            annotations,
            headless: flags[1],
            external_name: name.map(Into::into),
            ports,
            client_ip_affinity: flags[2],
            local_traffic_only: flags[3],
            source_ranges: ranges.into_iter().map(Into::into).collect(),
            ..service(&[])
        }
    })
}

fn some_settings() -> impl Strategy<Value = PlanSettings> {
    any::<[bool; 4]>().prop_map(|[require_port, allow_external_name, least_time, dns_servers]| PlanSettings {
        require_port,
        allow_external_name,
        capabilities: Capabilities { least_time, dns_servers, ..Capabilities::default() },
        ..PlanSettings::default()
    })
}

fn assert_short_line(rejection: &Rejection) -> Result<(), TestCaseError> {
    let text = rejection.to_string();
    prop_assert!(text.len() < 1000, "{} bytes: {text}", text.len());
    let breaks = text.chars().find(|c| c.is_control() || "\u{2028}\u{2029}\u{202e}\u{85}".contains(*c));
    prop_assert!(breaks.is_none(), "{breaks:?} in {text:?}");
    Ok(())
}

#[test]
fn every_annotation_at_its_longest() {
    for (name, piece) in crate::annotations::KNOWN.iter().flat_map(|name| PIECES.map(|piece| (name, piece))) {
        let value = piece.repeat(LONGEST / piece.len());
        let parsed = parse_default(&service(&[("algorithm", "least_time"), (name, &value)]));
        for rejection in &parsed.rejections {
            let text = rejection.to_string();
            assert!(text.len() < 1000 && !text.contains(char::is_control), "{text:?}");
        }
        assert!(parsed.intent.is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn parsing_is_total_and_says_what_it_says_in_short_lines(service in a_service(), settings in some_settings()) {
        for asks in [Asks::ByAnnotation, Asks::ByClass] {
            let parsed = parse(&service, asks, &settings);
            for rejection in &parsed.rejections {
                assert_short_line(rejection)?;
            }
            let told = parsed.rejections.iter().any(|r| r.effect() == Effect::NotServed);
            prop_assert!(parsed.intent.is_some() || told, "what is not served has a reason");
            for port in parsed.intent.iter().flat_map(|i| &i.ports) {
                prop_assert!(port.listen > 0);
                prop_assert_eq!(&service.ports[port.index], &port.port);
            }
            let served = parsed.intent.as_ref().map_or(0, |i| i.ports.len());
            let refused = parsed.rejections.iter().filter(|r| r.port.is_some() && r.effect() == Effect::NotServed).count();
            if parsed.intent.is_some() {
                prop_assert_eq!(served + refused, service.ports.len(), "each port is served or has a reason");
            }
            prop_assert_eq!(parse(&service, asks, &settings), parsed, "the same again");
        }
    }

    /// A value that is not one of the words never changes anything: traffic keeps flowing as if it were absent.
    #[test]
    fn one_hostile_value_changes_nothing_else(value in hostile(), name in select(&["algorithm", "upstream-type", "node-set"][..])) {
        prop_assume!(!["pod", "all", "least_time"].contains(&value.trim()));
        let parsed = parse_default(&service(&[(name, &value)]));
        prop_assert_eq!(parsed.intent, parse_default(&service(&[])).intent);
        prop_assert_eq!(parsed.rejections.len(), 1);
    }
}
