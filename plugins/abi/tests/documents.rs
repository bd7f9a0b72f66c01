//! Documents: what LBEX's types become, what is ignored, what is refused.

use std::time::Duration;

use lbex_core::backend::{self as core, ApplyReport};
use lbex_core::desired::{Algorithm, Listener, Method, Servers, ServiceConfig, Until, Upstream};
use lbex_core::model::Protocol;
use lbex_core::names::{DnsName, ServiceKey};
use lbex_plugin_abi::documents::{
    Action, Capabilities, Delta, Desired, Observation, Protocol as Wire, ReloadReason, Report, Settings,
};
use lbex_plugin_abi::{Document, ReportError, read, report_to_core, service_from_core, write};
use serde_json::{Value, json};

fn service(algorithm: Algorithm, servers: Servers) -> ServiceConfig {
    let listener = Listener {
        protocol: Protocol::Tcp,
        port: 443,
        addresses: vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()].into(),
        allow: vec!["10.0.0.0/8".parse().unwrap()].into(),
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(3600),
        upstream: Upstream { algorithm, servers },
    };
    ServiceConfig {
        service: ServiceKey::new("default", "web").unwrap(),
        created: Some(1_700_000_000),
        listeners: vec![listener],
    }
}

#[test]
fn a_service_is_written_in_words_that_any_language_reads() {
    let servers =
        Servers::Addresses(vec!["10.0.0.1:8080".parse().unwrap(), "[2001:db8::1]:8080".parse().unwrap()].into());
    let method = Method { until: Until::FirstByte, inflight: true };
    let written = serde_json::to_value(service_from_core(&service(Algorithm::LeastTime(method), servers))).unwrap();
    let wanted = json!({
        "created": 1_700_000_000,
        "listeners": [{
            "protocol": "tcp",
            "port": 443,
            "addresses": ["0.0.0.0", "::"],
            "allow": ["10.0.0.0/8"],
            "connect_timeout_ms": 3000,
            "idle_timeout_ms": 3_600_000,
            "algorithm": "least_time",
            "method": { "until": "first_byte", "inflight": true },
            "servers": [{ "address": "10.0.0.1", "port": 8080 }, { "address": "2001:db8::1", "port": 8080 }],
        }],
    });
    assert_eq!(written, wanted);
}

#[test]
fn a_service_with_a_dns_name_has_that_in_place_of_servers() {
    let name = DnsName::new("db.example.com").unwrap();
    let servers = Servers::Dns { name, port: 5432, resolvers: vec!["10.0.0.53:53".parse().unwrap()].into() };
    let written = serde_json::to_value(service_from_core(&service(Algorithm::RoundRobin, servers))).unwrap();
    let listener = &written["listeners"][0];
    assert_eq!(listener["servers"], json!([]));
    let wanted =
        json!({ "name": "db.example.com", "port": 5432, "resolvers": [{ "address": "10.0.0.53", "port": 53 }] });
    assert_eq!(listener["dns"], wanted);
    assert_eq!(listener["algorithm"], "round_robin");
}

/// One of each document, with every member that is not optional.
fn least() -> [(&'static str, Value); 6] {
    [
        (Desired::SCHEMA, json!({ "revision": "a", "services": {} })),
        (Delta::SCHEMA, json!({ "from": "a", "revision": "b", "services": { "default/gone": null } })),
        (Report::SCHEMA, json!({ "revision": "a", "action": "reloaded" })),
        (Observation::SCHEMA, json!({ "healthy": true, "detail": "runs" })),
        (Settings::SCHEMA, json!({ "lbex_version": "1", "state_dir": "/x" })),
        (Capabilities::SCHEMA, json!({ "description": "x" })),
    ]
}

fn again(schema: &str, value: &Value) -> Result<Value, String> {
    fn one<D: Document>(value: &Value) -> Result<Value, String> {
        let document: D = read(value.to_string().as_bytes()).map_err(|error| error.to_string())?;
        Ok(serde_json::from_slice(&write(&document).unwrap()).unwrap())
    }
    match schema {
        Desired::SCHEMA => one::<Desired>(value),
        Delta::SCHEMA => one::<Delta>(value),
        Report::SCHEMA => one::<Report>(value),
        Observation::SCHEMA => one::<Observation>(value),
        Settings::SCHEMA => one::<Settings>(value),
        Capabilities::SCHEMA => one::<Capabilities>(value),
        other => panic!("{other}"),
    }
}

#[test]
fn members_that_are_not_known_are_ignored_in_every_document() {
    for (schema, mut value) in least() {
        value["schema"] = schema.into();
        let known = again(schema, &value).unwrap();
        value["from_a_later_version"] = json!({ "a": [1, 2, 3] });
        assert_eq!(again(schema, &value).unwrap(), known, "{schema}");
    }
}

#[test]
fn another_schema_is_refused_and_both_are_named() {
    for (schema, mut value) in least() {
        assert!(again(schema, &value).unwrap_err().contains("missing field `schema`"), "{schema}");
        value["schema"] = "lbex.other/7".into();
        let error = again(schema, &value).unwrap_err();
        assert!(error.contains("\"lbex.other/7\"") && error.contains(schema), "{error}");
    }
}

#[test]
fn words_of_a_later_version_are_no_error() {
    let text =
        br#"{"schema":"lbex.capabilities/1","description":"x","protocols":["tcp","quic"],"algorithms":["magic"]}"#;
    let capabilities: Capabilities = read(text).unwrap();
    assert_eq!((capabilities.protocols, capabilities.algorithms), (vec![Wire::Tcp], vec![]));
    let text = br#"{"schema":"lbex.report/1","revision":"a","action":"teleported","reloads":["whim"]}"#;
    let report: Report = read(text).unwrap();
    assert_eq!((report.action, report.reloads), (Action::Other, vec![ReloadReason::Global]));
}

fn report(refused: &Value) -> Result<ApplyReport, ReportError> {
    let value = json!({ "schema": Report::SCHEMA, "revision": "r7", "action": "live", "refused": refused });
    report_to_core(read(value.to_string().as_bytes()).unwrap(), "r7", 7)
}

#[test]
fn a_refusal_becomes_one_line_that_names_the_listener() {
    let refusal = json!({ "code": "PortInUse", "message": "taken\nby another ", "listener": { "protocol": "udp", "port": 53 }, "retry": true });
    let report = report(&json!({ "default/dns": [refusal] })).unwrap();
    assert_eq!((report.generation, report.action), (7, core::Action::Live));
    let refusals = &report.refused[&ServiceKey::new("default", "dns").unwrap()];
    let wanted = core::Refusal {
        code: "PortInUse",
        message: "UDP port 53: taken by another".to_owned(),
        instead: core::Instead::LeftOut,
        retry: true,
    };
    assert_eq!(*refusals, [wanted]);
}

#[test]
fn a_report_that_cannot_be_believed_is_refused() {
    let other = Report { revision: "r6".to_owned(), ..Report::default() };
    let error = report_to_core(other, "r7", 7).unwrap_err().to_string();
    assert_eq!(error, r#"it is about revision "r6", and "r7" was asked for"#);
    let error = |refused: &Value| report(refused).unwrap_err().to_string();
    assert_eq!(error(&json!({ "web": [] })), r#"it refuses "web", which is not namespace/name"#);
    assert_eq!(error(&json!({ "default/web": [] })), "it refuses default/web without saying why");
    let code = error(&json!({ "default/web": [{ "code": "a b;", "message": "x" }] }));
    assert_eq!(code, r#"it refuses default/web with the code "a b;", which is not 1-64 letters and digits"#);
}

#[test]
fn a_plugin_that_makes_up_codes_does_not_fill_the_memory() {
    for number in 0..10_000 {
        let refused = json!({ "default/web": [{ "code": format!("Code{number}"), "message": "x" }] });
        let report = report(&refused).unwrap();
        let code = report.refused.values().flatten().next().unwrap().code;
        assert!(code == format!("Code{number}") || (code == "RefusedByPlugin" && number > 100), "{code}");
    }
    assert_eq!(report(&json!({ "default/web": [{ "code": "Code5", "message": "x" }] })).unwrap().refused.len(), 1);
}
