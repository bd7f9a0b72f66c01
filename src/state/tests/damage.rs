//! What is read is what was written, or nothing.

use lbex_core::settings::PlanSettings;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;

/// A change that makes a state one that LBEX would not have written, and what it is.
type Forgery = (&'static str, Box<dyn Fn(&mut Value)>);

/// Writes a state that LBEX would not have written, with the right checksum.
fn forge(file: &StateFile, change: impl FnOnce(&mut Value)) {
    let mut state = serde_json::to_value(saved(state())).unwrap();
    change(&mut state);
    let text = state.to_string();
    let checksum = format!("{:x}", Sha256::digest(text.as_bytes()));
    std::fs::write(file.path(), format!("{{\"format\":1,\"sha256\":\"{checksum}\",\"state\":{text}}}")).unwrap();
}

#[test]
fn what_is_saved_is_read() {
    let (_prefix, file) = written();
    assert_eq!(file.read().unwrap(), Some(saved(state())));
    assert_eq!(file.save(&saved(DesiredState::default())).unwrap(), Before::Something);
    assert_eq!(file.read().unwrap(), Some(saved(DesiredState::default())));
    std::fs::remove_file(file.path()).unwrap();
    assert_eq!(file.save(&saved(DesiredState::default())).unwrap(), Before::Nothing);
    let folder = std::fs::read_dir(file.path().parent().unwrap()).unwrap();
    assert_eq!(folder.count(), 1, "nothing else is left");
}

#[test]
fn no_file_is_no_state() {
    let prefix = tempfile::tempdir().unwrap();
    assert_eq!(StateFile::below(prefix.path()).read().unwrap(), None);
}

#[test]
fn a_file_that_ends_early_is_damaged_wherever_it_ends() {
    let (_prefix, file) = written();
    let whole = std::fs::read(file.path()).unwrap();
    // The last byte is the end of the line.
    for length in 0..whole.len() - 1 {
        std::fs::write(file.path(), &whole[..length]).unwrap();
        assert!(matches!(file.read(), Err(ReadError::Damaged(_))), "{length} of {} bytes", whole.len());
    }
}

#[test]
fn a_bit_that_flips_is_noticed_wherever_it_is() {
    let (_prefix, file) = written();
    let whole = std::fs::read(file.path()).unwrap();
    for (place, bit) in (0..whole.len()).flat_map(|place| [0, 3, 7].map(|bit| (place, bit))) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << bit;
        std::fs::write(file.path(), &bytes).unwrap();
        let read = file.read();
        let harmless = read.as_ref().is_ok_and(|read| *read == Some(saved(state())));
        assert!(harmless || read.is_err(), "bit {bit} of byte {place}: {read:?}");
        assert!(!harmless || !(20..whole.len() - 2).contains(&place), "bit {bit} of byte {place} is not covered");
    }
}

#[test]
fn text_that_is_no_name_becomes_none_though_the_checksum_is_right() {
    let (_prefix, file) = written();
    let web = |state: &mut Value| state["desired"]["services"]["default/web"].take();
    let hostile = ["../../etc/x", "a;b", "a{b", "A", "", "a\nb", "no-slash"];
    let mut forgeries: Vec<Forgery> = Vec::new();
    for name in hostile {
        let put = move |state: &mut Value| {
            let mut config = web(state);
            config["service"] = json!(name);
            state["desired"]["services"] = json!({ name: config });
        };
        forgeries.push((name, Box::new(put)));
    }
    let listener = |field: &'static str, value: Value| -> Box<dyn Fn(&mut Value)> {
        Box::new(move |state| state["desired"]["services"]["default/web"]["listeners"][0][field] = value.clone())
    };
    forgeries.extend([
        ("port 0", listener("port", json!(0))),
        ("port 65536", listener("port", json!(65536))),
        ("no address", listener("addresses", json!([]))),
        ("text for an address", listener("addresses", json!(["0.0.0.0; include /etc/passwd"]))),
        ("a protocol", listener("protocol", json!("sctp"))),
        ("a network", listener("allow", json!(["all;"]))),
        ("no time", listener("idle_timeout", json!({"secs": 0, "nanos": 0}))),
        ("an endless time", listener("connect_timeout", json!({"secs": u64::MAX, "nanos": 0}))),
        ("a server without a port", listener("upstream", json!({"algorithm": "round_robin", "servers": {"addresses": ["10.0.0.1:0"]}}))),
        ("a server's name", listener("upstream", json!({"algorithm": "round_robin", "servers": {"dns": {"name": "a b;", "port": 1, "resolvers": ["10.0.0.1:53"]}}}))),
        ("no resolver", listener("upstream", json!({"algorithm": "round_robin", "servers": {"dns": {"name": "a.b", "port": 1, "resolvers": []}}}))),
        ("an algorithm", listener("upstream", json!({"algorithm": "hash $x", "servers": {"addresses": []}}))),
    ]);
    forgeries
        .push(("no listener", Box::new(|state| state["desired"]["services"]["default/web"]["listeners"] = json!([]))));
    forgeries.push((
        "another name",
        Box::new(|state| state["desired"]["services"]["default/web"]["service"] = json!("default/x")),
    ));
    let twice = |state: &mut Value| {
        let first = state["desired"]["services"]["default/web"]["listeners"][0].clone();
        state["desired"]["services"]["default/database"]["listeners"] = json!([first]);
    };
    forgeries.push(("a port twice", Box::new(twice)));
    for (what, change) in forgeries {
        forge(&file, change);
        let Err(ReadError::Damaged(text)) = file.read() else { panic!("{what} is taken") };
        assert!(!text.contains('\n'), "{text:?}");
    }
    // The means of the test: without a change it is taken, and so are fields that a later LBEX adds.
    forge(&file, |state| state["later"] = json!({"services": 10}));
    assert_eq!(file.read().unwrap(), Some(saved(state())));
}

#[test]
fn what_cannot_be_used_is_set_aside_and_only_the_newest_are_kept() {
    let (prefix, file) = written();
    let (metrics, planning) = (metrics(), PlanSettings::default());
    let load = || load(&file, &Scope::default(), &planning, &metrics);
    assert!(load().is_some());
    for n in 0..6 {
        std::fs::write(file.path(), format!("{{\"format\":{n}")).unwrap();
        assert!(load().is_none());
        assert!(!file.path().exists());
    }
    let names = std::fs::read_dir(prefix.path().join("state")).unwrap().map(|entry| entry.unwrap().path());
    let mut kept: Vec<String> = names.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["{\"format\":3", "{\"format\":4", "{\"format\":5"]);
    assert!((value(&metrics, "lbex_last_good_failures_total") - 6.0).abs() < 0.1);
    assert!(load().is_none(), "as if there were none");
}

#[test]
fn a_newer_format_is_told_from_damage() {
    let (_prefix, file) = written();
    std::fs::write(file.path(), "{\"format\": 2, \"blake3\": \"00\", \"data\": []}").unwrap();
    assert!(matches!(file.read(), Err(ReadError::Newer(2))));
}

#[test]
fn a_file_that_cannot_be_read_stays() {
    let prefix = tempfile::tempdir().unwrap();
    let file = StateFile::below(prefix.path());
    std::fs::create_dir_all(file.path()).unwrap();
    assert!(matches!(file.read(), Err(ReadError::Io { .. })));
    assert!(load(&file, &Scope::default(), &PlanSettings::default(), &metrics()).is_none());
    assert!(file.path().exists());
}

fn servers() -> impl Strategy<Value = Servers> {
    let address = (any::<IpAddr>(), 1..=u16::MAX).prop_map(SocketAddr::from);
    let name = "[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z]([a-z0-9-]{0,10}[a-z0-9])?){0,3}";
    let name = name.prop_map(|text| DnsName::new(&text).unwrap());
    let resolvers = prop::collection::vec(address.clone(), 1..3);
    prop_oneof![
        prop::collection::vec(address, 0..8).prop_map(|all| Servers::Addresses(all.into())),
        (name, 1..=u16::MAX, resolvers).prop_map(|(name, port, resolvers)| Servers::Dns {
            name,
            port,
            resolvers: resolvers.into()
        }),
    ]
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    let until = prop_oneof![Just(Until::Connect), Just(Until::FirstByte), Just(Until::LastByte)];
    let method = (until, any::<bool>()).prop_map(|(until, inflight)| Algorithm::LeastTime(Method { until, inflight }));
    prop_oneof![Just(Algorithm::RoundRobin), Just(Algorithm::LeastConn), Just(Algorithm::ClientIp), method]
}

fn any_listener() -> impl Strategy<Value = Listener> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let network = (any::<IpAddr>(), 0_u8..=32).prop_map(|(ip, length)| ipnet::IpNet::new(ip, length).unwrap());
    let time = || (1_u64..31_536_000_000).prop_map(Duration::from_millis);
    let (hosts, networks) = (prop::collection::vec(any::<IpAddr>(), 1..3), prop::collection::vec(network, 0..4));
    let upstream = (algorithm(), servers()).prop_map(|(algorithm, servers)| Upstream { algorithm, servers });
    (protocol, hosts, networks, time(), time(), upstream).prop_map(
        |(protocol, addresses, allow, connect_timeout, idle_timeout, upstream)| {
            let (addresses, allow) = (addresses.into(), allow.into());
            Listener { protocol, port: 0, addresses, allow, connect_timeout, idle_timeout, upstream }
        },
    )
}

fn any_state() -> impl Strategy<Value = DesiredState> {
    let label = "[a-z]([a-z0-9-]{0,20}[a-z0-9])?";
    let service = (prop::option::of(any::<i64>()), prop::collection::vec(any_listener(), 1..4));
    prop::collection::btree_map((label, label), service, 0..6).prop_map(|all| {
        let mut port = 0;
        let mut one =
            |((namespace, name), (created, mut listeners)): ((String, String), (Option<i64>, Vec<Listener>))| {
                for listener in &mut listeners {
                    port += 1;
                    listener.port = port;
                }
                let key = ServiceKey::new(&namespace, &name).unwrap();
                (key.clone(), Arc::new(ServiceConfig { service: key, created, listeners }))
            };
        DesiredState { generation: 0, services: all.into_iter().map(&mut one).collect() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_state_survives(state in any_state()) {
        let prefix = tempfile::tempdir().unwrap();
        let file = StateFile::below(prefix.path());
        file.save(&saved(state.clone())).unwrap();
        prop_assert_eq!(file.read().unwrap(), Some(saved(state)));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let prefix = tempfile::tempdir().unwrap();
        let file = StateFile::below(prefix.path());
        std::fs::create_dir(prefix.path().join("state")).unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        prop_assert!(file.read().is_err());
    }
}
