//! Each annotation of contract section 4 with each valid value, and with values that are not.

use super::*;
use crate::backend::Capabilities;
use crate::desired::{Method, Until};

/// Values that are valid for no annotation of words.
const NOT_WORDS: [&str; 10] = ["", " ", "NODE", "nodes", "node pod", "node;", "node\npod", "{}", "\u{0}", "ｎｏｄｅ"];

fn with_least_time() -> PlanSettings {
    let capabilities = Capabilities { least_time: true, ..Capabilities::default() };
    PlanSettings { capabilities, ..PlanSettings::default() }
}

fn algorithm(annotations: &[(&str, &str)]) -> (Algorithm, Vec<String>) {
    let parsed = parse_with(&service(annotations), &with_least_time());
    (parsed.intent.unwrap().algorithm, texts(&parsed.rejections))
}

/// Asserts that a value that is not valid leaves the intent as if it were absent, and is told in full.
fn assert_default_is_used(name: &str, others: &[(&str, &str)], value: &str, allowed: &str, used: &str) {
    let annotations: Vec<_> = others.iter().copied().chain([(name, value)]).collect();
    let parsed = parse_with(&service(&annotations), &with_least_time());
    let absent = parse_with(&service(others), &with_least_time());
    assert_eq!(absent.rejections, []);
    assert_eq!(parsed.intent, absent.intent, "{name}: {value:?} is as if absent");
    let [rejection] = &parsed.rejections[..] else { panic!("{name}: {value:?}: {:?}", parsed.rejections) };
    assert_eq!(rejection.effect(), Effect::Adjusted);
    let text = rejection.to_string();
    let shown = crate::names::Quoted(value.trim()).to_string();
    for part in [
        &format!("loadbalancer.lbex/{name}"),
        &shown,
        &format!("allowed: {allowed};"),
        &format!("used instead: {used}"),
    ] {
        assert!(text.contains(part), "{part} in: {text}");
    }
}

#[test]
fn without_annotations_the_defaults() {
    let intent = clean(&service(&[]));
    let (upstream, node_set, node_address) = (UpstreamType::Node, NodeSet::Host, NodeAddressType::Internal);
    assert_eq!(intent.destination, Destination::Cluster { upstream, node_set, node_address });
    assert_eq!(intent.algorithm, Algorithm::RoundRobin);
    assert_eq!(intent.connect_timeout, Duration::from_secs(3));
    assert_eq!(intent.idle_timeout, None, "the protocol's own default");
    assert!(intent.allow.is_empty());
}

#[test]
fn algorithm_words() {
    assert_eq!(algorithm(&[("algorithm", "round_robin")]), (Algorithm::RoundRobin, vec![]));
    assert_eq!(algorithm(&[("algorithm", "least_conn")]), (Algorithm::LeastConn, vec![]));
    assert_eq!(algorithm(&[("algorithm", " least_conn\n")]), (Algorithm::LeastConn, vec![]), "spaces do not count");
    let connect = Method { until: Until::Connect, inflight: false };
    assert_eq!(algorithm(&[("algorithm", "least_time")]), (Algorithm::LeastTime(connect), vec![]));
    for value in NOT_WORDS.iter().chain(&["Round_Robin", "least-conn", "least_time;", "random"]) {
        assert_default_is_used("algorithm", &[], value, "round_robin, least_conn, least_time", "round_robin");
    }
}

#[test]
fn method_words() {
    for (text, until) in [("connect", Until::Connect), ("first_byte", Until::FirstByte), ("last_byte", Until::LastByte)]
    {
        for (suffix, inflight) in [("", false), (" inflight", true), ("\t inflight ", true)] {
            let value = format!("{text}{suffix}");
            let got = algorithm(&[("algorithm", "least_time"), ("method", &value)]);
            assert_eq!(got, (Algorithm::LeastTime(Method { until, inflight }), vec![]), "{value:?}");
        }
    }
    let allowed = "connect, first_byte, last_byte, each also with ' inflight'";
    for value in NOT_WORDS.iter().chain(&["inflight", "inflight connect", "connect inflight inflight", "header"]) {
        assert_default_is_used("method", &[("algorithm", "least_time")], value, allowed, "connect");
    }
}

#[test]
fn method_is_read_only_with_least_time() {
    for others in [&[("method", "first_byte")][..], &[("method", "x;y"), ("algorithm", "least_conn")]] {
        let (got, told) = algorithm(others);
        assert!(!matches!(got, Algorithm::LeastTime(_)));
        let expected = "annotation loadbalancer.lbex/method has no effect: it is read only with algorithm least_time";
        assert_eq!(told, [expected]);
    }
}

#[test]
fn least_time_needs_a_backend_that_has_it() {
    let capabilities = Capabilities { description: "NGINX 1.22.1".to_owned(), ..Capabilities::default() };
    let settings = PlanSettings { capabilities, ..PlanSettings::default() };
    let parsed = parse_with(&service(&[("algorithm", "least_time"), ("method", "last_byte")]), &settings);
    assert_eq!(parsed.intent.unwrap().algorithm, Algorithm::RoundRobin);
    let expected = "algorithm least_time is not supported by the backend (NGINX 1.22.1); used instead: round_robin";
    assert_eq!(texts(&parsed.rejections), [expected]);
    assert_eq!(parsed.rejections[0].effect(), Effect::Adjusted);
}

#[test]
fn a_backend_that_lacks_an_algorithm_spreads_in_turn_and_it_is_told() {
    let capabilities =
        Capabilities { description: "X 1".to_owned(), least_conn: false, client_ip: false, ..Capabilities::default() };
    let settings = PlanSettings { capabilities, ..PlanSettings::default() };
    let sticky = Service { client_ip_affinity: true, ..service(&[]) };
    for (service, algorithm) in [(service(&[("algorithm", "least_conn")]), "least_conn"), (sticky, "client_ip")] {
        let parsed = parse_with(&service, &settings);
        assert_eq!(parsed.intent.unwrap().algorithm, Algorithm::RoundRobin);
        let expected =
            format!("algorithm {algorithm} is not supported by the backend (X 1); used instead: round_robin");
        assert_eq!(texts(&parsed.rejections), [expected]);
    }
}

#[test]
fn a_backend_without_timeouts_takes_none_and_it_is_told() {
    let capabilities = Capabilities { timeouts: false, ..Capabilities::default() };
    let settings = PlanSettings { capabilities, ..PlanSettings::default() };
    let parsed = parse_with(&service(&[("connect-timeout", "1s"), ("idle-timeout", "5m")]), &settings);
    let told = ["connect-timeout", "idle-timeout"].map(|name| {
        format!("annotation loadbalancer.lbex/{name} has no effect: the backend has no timeouts of its own")
    });
    assert_eq!(texts(&parsed.rejections), told);
    assert_eq!(texts(&parse_with(&service(&[]), &settings).rejections), [""; 0]);
}

#[test]
fn session_affinity_wins_over_the_algorithm() {
    let of = |annotations: &[(&str, &str)], settings: &PlanSettings| {
        let parsed = parse_with(&Service { client_ip_affinity: true, ..service(annotations) }, settings);
        (parsed.intent.unwrap().algorithm, texts(&parsed.rejections))
    };
    assert_eq!(of(&[], &with_least_time()), (Algorithm::ClientIp, vec![]), "nothing to tell");
    for word in ["round_robin", "least_conn", "least_time"] {
        for settings in [with_least_time(), PlanSettings::default()] {
            let (algorithm, told) = of(&[("algorithm", word)], &settings);
            assert_eq!(algorithm, Algorithm::ClientIp);
            let expected =
                format!("spec.sessionAffinity ClientIP needs consistent hashing; the algorithm {word} is not used");
            assert_eq!(told, [expected]);
        }
    }
    let (algorithm, told) = of(&[("algorithm", "fastest")], &with_least_time());
    assert_eq!(algorithm, Algorithm::ClientIp);
    assert!(told.len() == 1 && told[0].ends_with("used instead: consistent hashing (spec.sessionAffinity ClientIP)"));
}

#[test]
fn upstream_type_words() {
    let of = |value| clean(&service(&[("upstream-type", value)])).upstream_type();
    assert_eq!(of("node"), Some(UpstreamType::Node));
    assert_eq!(of("pod"), Some(UpstreamType::Pod));
    assert_eq!(of("cluster-ip"), Some(UpstreamType::ClusterIp));
    for value in NOT_WORDS.iter().chain(&["clusterip", "cluster_ip", "host"]) {
        assert_default_is_used("upstream-type", &[], value, "node, pod, cluster-ip", "node");
    }
}

#[test]
fn node_set_words() {
    let of = |value| match clean(&service(&[("node-set", value)])).destination {
        Destination::Cluster { node_set, .. } => node_set,
        Destination::Dns { .. } => unreachable!(),
    };
    assert_eq!((of("host"), of("all")), (NodeSet::Host, NodeSet::All));
    for value in NOT_WORDS.iter().chain(&["hosts", "any", "*"]) {
        assert_default_is_used("node-set", &[], value, "host, all", "host");
    }
}

#[test]
fn node_address_type_words() {
    let of = |value| match clean(&service(&[("node-address-type", value)])).destination {
        Destination::Cluster { node_address, .. } => node_address,
        Destination::Dns { .. } => unreachable!(),
    };
    assert_eq!((of("internal"), of("external")), (NodeAddressType::Internal, NodeAddressType::External));
    for value in NOT_WORDS.iter().chain(&["InternalIP", "hostname"]) {
        assert_default_is_used("node-address-type", &[], value, "internal, external", "internal");
    }
}

#[test]
fn what_concerns_nodes_is_read_only_with_node() {
    for upstream in ["pod", "cluster-ip"] {
        for (name, value) in [("node-set", "all"), ("node-address-type", "external"), ("node-set", "{;")] {
            let parsed = parse_default(&service(&[("upstream-type", upstream), (name, value)]));
            let expected =
                format!("annotation loadbalancer.lbex/{name} has no effect: it is read only with upstream-type node");
            assert_eq!(texts(&parsed.rejections), [expected]);
            assert_eq!(parsed.rejections[0].effect(), Effect::Note);
            let (node_set, node_address) = (NodeSet::Host, NodeAddressType::Internal);
            let upstream = parsed.intent.as_ref().unwrap().upstream_type().unwrap();
            let expected = Destination::Cluster { upstream, node_set, node_address };
            assert_eq!(parsed.intent.unwrap().destination, expected);
        }
    }
}

#[test]
fn external_traffic_policy_local_means_host() {
    let local = |annotations: &[(&str, &str)]| Service { local_traffic_only: true, ..service(annotations) };
    clean(&local(&[]));
    clean(&local(&[("node-set", "host")]));
    let parsed = parse_default(&local(&[("node-set", "all")]));
    assert_eq!(parsed.intent, parse_default(&local(&[])).intent);
    let expected = "spec.externalTrafficPolicy Local always means node-set host; node-set all is not used";
    assert_eq!(texts(&parsed.rejections), [expected]);
}

const TIMEOUT: &str = "a duration such as 500ms, 3s, 5m or 1h, more than 0, at most 365d";

#[test]
fn timeouts() {
    let intent = clean(&service(&[("connect-timeout", "500ms"), ("idle-timeout", "1h30m")]));
    assert_eq!(intent.connect_timeout, Duration::from_millis(500));
    assert_eq!(intent.idle_timeout, Some(Duration::from_secs(5400)));
    assert_eq!(clean(&service(&[("idle-timeout", "365d")])).idle_timeout, Some(crate::duration::LONGEST));
    for value in ["", "0", "0s", "3", "-1s", "1.5s", "3 s", "3s;", "366d", "∞", "99999999999999999999h"] {
        assert_default_is_used("connect-timeout", &[], value, TIMEOUT, "3s (--connect-timeout)");
        let used = "the value of --tcp-idle-timeout and --udp-idle-timeout";
        assert_default_is_used("idle-timeout", &[], value, TIMEOUT, used);
    }
}

#[test]
fn the_flags_value_is_what_is_used_instead() {
    let settings = PlanSettings { connect_timeout: Duration::from_millis(1250), ..PlanSettings::default() };
    let parsed = parse_with(&service(&[("connect-timeout", "soon")]), &settings);
    assert_eq!(parsed.intent.unwrap().connect_timeout, Duration::from_millis(1250));
    assert!(parsed.rejections[0].to_string().ends_with("used instead: 1250ms (--connect-timeout)"));
}

#[test]
fn annotations_that_lbex_does_not_know_are_told() {
    for name in ["loadbalancer.lbex/algoritm", "loadbalancer.lbex/", "loadbalancer.lbex/Port"] {
        let parsed = parse_default(&service(&[(name, "x")]));
        assert!(parsed.intent.is_some());
        let expected = format!("annotation {name} is not one that LBEX knows; it has no effect");
        assert_eq!(texts(&parsed.rejections), [expected]);
    }
}

#[test]
fn thousands_of_them_do_not_make_thousands_of_texts() {
    let names: Vec<_> = (0..5000).map(|n| format!("loadbalancer.lbex/x{n}")).collect();
    let annotations: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    let parsed = parse_default(&service(&annotations));
    assert_eq!(parsed.rejections.len(), 21);
    let expected = "4980 more annotations are unknown, have no effect, or are not quoted";
    assert_eq!(parsed.rejections[20].to_string(), expected);
}

#[test]
fn unquoted_values_get_a_hint_and_are_read() {
    let mut service = service(&[("loadbalancer-port.lbex/http", "8080")]);
    service.unquoted = vec!["loadbalancer-port.lbex/http".into()];
    let parsed = parse_default(&service);
    assert_eq!(parsed.intent.unwrap().ports[0].listen, 8080);
    let expected = "annotation loadbalancer-port.lbex/http: the value is not quoted; LBEX reads it as text, an API server \
                    would refuse it";
    assert_eq!(texts(&parsed.rejections), [expected]);
    assert_eq!(parsed.rejections[0].effect(), Effect::Note);
}
