//! What of a saved state may be served now.

use lbex_core::backend::Capabilities;
use lbex_core::settings::{PlanSettings, PortRanges, Reserved};

use super::*;
use crate::registry::tests::some;
use crate::settings::{Environment, Host, Origin, RawSettings, RawValue, Settings, find, lower};

fn able() -> PlanSettings {
    let capabilities = Capabilities { least_time: true, ..Capabilities::default() };
    let listen = ["0.0.0.0", "::"].map(|address| address.parse().unwrap()).into();
    PlanSettings { allow_external_name: true, capabilities, listen, ..PlanSettings::default() }
}

#[test]
fn with_the_same_settings_all_of_it() {
    let (fitted, left_out) = fit(&state(), &able());
    assert_eq!((fitted.services, left_out), (state().services, Vec::new()));
}

#[test]
fn ports_that_are_lbexs_own_or_no_longer_allowed_are_left_out() {
    let own = Reserved { protocol: Protocol::Tcp, address: "0.0.0.0:443".parse().unwrap(), what: "health" };
    let allowed_ports = PortRanges::parse("1-1000").unwrap();
    let (fitted, left_out) = fit(&state(), &PlanSettings { reserved: vec![own], allowed_ports, ..able() });
    assert_eq!(fitted.services.keys().collect::<Vec<_>>(), [&key("web")]);
    assert_eq!(fitted.services[&key("web")].listeners, state().services[&key("web")].listeners[1..]);
    let left_out: Vec<&str> = left_out.iter().map(|left_out| left_out.listener.as_str()).collect();
    assert_eq!(left_out, ["default/database TCP 5432", "default/web TCP 443"]);
}

#[test]
fn listeners_bind_where_this_instance_listens() {
    let listen: Arc<[IpAddr]> = ["192.0.2.1".parse().unwrap()].into();
    let (fitted, _) = fit(&state(), &PlanSettings { listen: listen.clone(), ..able() });
    assert_eq!(fitted.listeners().count(), 3);
    assert!(fitted.listeners().all(|(_, listener)| listener.addresses == listen));
}

#[test]
fn what_this_proxy_cannot_do_or_may_not_is_not_asked_of_it() {
    let capabilities = Capabilities { least_time: false, ..Capabilities::default() };
    let (fitted, left_out) = fit(&state(), &PlanSettings { allow_external_name: false, capabilities, ..able() });
    assert_eq!(fitted.services[&key("web")].listeners[0].upstream.algorithm, Algorithm::RoundRobin);
    assert_eq!(left_out[0].listener, "default/database TCP 5432");
}

fn settings(flags: &[(&str, &str)]) -> Settings {
    let mut raw = RawSettings::default();
    for (name, value) in [("nginx-prefix", "/p")].iter().chain(flags) {
        raw.add(find(name).unwrap(), RawValue::new(*value, Origin::CommandLine));
    }
    let environment: Environment = std::iter::empty::<(&str, &str)>().collect();
    lower(&raw, &environment, Host { ipv6: true, root: true }, &some(), Vec::new()).unwrap()
}

#[test]
fn a_state_belongs_to_the_settings_that_say_whose_services_are_served() {
    let base = Scope::new(&settings(&[("kubeconfig", "/a")]));
    for (flags, name) in [
        (&[("kubeconfig", "/b")][..], "source"),
        (&[("proxy", "http://127.0.0.1:8001")], "source"),
        (&[("kubeconfig", "/a"), ("namespace", "x")], "namespace"),
        (&[("kubeconfig", "/a"), ("service-name", "x/y")], "service-name"),
        (&[("kubeconfig", "/a"), ("service-pool", "x")], "service-pool"),
        (&[("kubeconfig", "/a"), ("anti-affinity", "true")], "affinity"),
        (&[("kubeconfig", "/a"), ("load-balancer-class", "x.io/y")], "load-balancer-class"),
    ] {
        let other = Scope::new(&settings(flags));
        assert!(base.difference(&other).is_some_and(|text| text.starts_with(name)), "{flags:?}");
        assert!(other.difference(&base).is_some());
    }
    for flags in
        [&[("kubeconfig", "/a")][..], &[("kubeconfig", "/a"), ("listen-address", "127.0.0.1"), ("health-port", "1")]]
    {
        assert_eq!(base.difference(&Scope::new(&settings(flags))), None, "{flags:?}");
    }
}

#[test]
fn a_state_of_other_settings_is_not_used_and_stays() {
    let (_prefix, file) = written();
    let scope = Scope::new(&settings(&[("service-pool", "x")]));
    assert!(load(&file, &scope, &able(), &metrics()).is_none());
    assert!(file.read().unwrap().is_some());
}
