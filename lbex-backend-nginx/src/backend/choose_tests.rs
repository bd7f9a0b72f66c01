use std::net::SocketAddr;

use super::*;

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("default", name).expect("a name")
}

/// A part that listens on these: `tcp 0.0.0.0:80`.
fn part(name: &str, claims: &[&str]) -> Arc<Part> {
    let claims: Vec<Claim> = claims.iter().map(|text| claim(text)).collect();
    let file = ServiceFileName::of(&key(name), &format!("{claims:?}"));
    Arc::new(Part { file, claims, upstreams: 1, servers: 1, groups: BTreeSet::new(), rest: 0 })
}

fn claim(text: &str) -> Claim {
    let (transport, address) = text.split_once(' ').expect("two words");
    let transport = if transport == "udp" { Transport::Udp } else { Transport::Tcp };
    Claim { transport, address: address.parse::<SocketAddr>().expect("an address") }
}

fn wanted(services: &[(&str, Option<i64>, &Arc<Part>)]) -> BTreeMap<ServiceKey, Wanted> {
    services.iter().map(|&(name, created, part)| (key(name), Wanted { part: part.clone(), created })).collect()
}

fn good(services: &[(&str, &Arc<Part>)]) -> BTreeMap<ServiceKey, Arc<Part>> {
    services.iter().map(|&(name, part)| (key(name), part.clone())).collect()
}

fn blocked(parts: &[&Arc<Part>]) -> Blocked {
    let why = Why { code: "PortInUse", message: "taken".to_owned(), retry: true };
    parts.iter().map(|part| (part.file.clone(), vec![why.clone()])).collect()
}

const ROOM: Room = Room { files: 100, workers: 2 };

fn instead(choice: &Choice, name: &str) -> Option<Instead> {
    choice.refused.get(&key(name)).map(|refusals| refusals[0].instead)
}

#[test]
fn a_blocked_service_is_served_as_it_last_was_and_the_others_as_wanted() {
    let (before, after, other) =
        (part("a", &["tcp 0.0.0.0:80"]), part("a", &["tcp 0.0.0.0:81"]), part("b", &["tcp 0.0.0.0:82"]));
    let choice = choose(
        &wanted(&[("a", None, &after), ("b", None, &other)]),
        &good(&[("a", &before)]),
        &blocked(&[&after]),
        ROOM,
    );
    assert_eq!(choice.parts, good(&[("a", &before), ("b", &other)]));
    assert_eq!(instead(&choice, "a"), Some(Instead::LastGood));
    assert_eq!(choice.refused.len(), 1);
}

#[test]
fn the_last_good_part_does_not_keep_a_port_from_the_service_that_has_it_now() {
    let (before, after, other) =
        (part("a", &["tcp 0.0.0.0:80"]), part("a", &["tcp 0.0.0.0:81"]), part("b", &["tcp 0.0.0.0:80"]));
    let choice = choose(
        &wanted(&[("a", None, &after), ("b", None, &other)]),
        &good(&[("a", &before)]),
        &blocked(&[&after]),
        ROOM,
    );
    assert_eq!(choice.parts, good(&[("b", &other)]));
    assert_eq!(instead(&choice, "a"), Some(Instead::LeftOut));
}

#[test]
fn a_last_good_part_that_is_blocked_itself_is_not_served() {
    let (before, after) = (part("a", &["tcp 0.0.0.0:80"]), part("a", &["tcp 0.0.0.0:81"]));
    let choice = choose(&wanted(&[("a", None, &after)]), &good(&[("a", &before)]), &blocked(&[&before, &after]), ROOM);
    assert!(choice.parts.is_empty());
    assert_eq!(instead(&choice, "a"), Some(Instead::LeftOut));
}

#[test]
fn the_youngest_go_without_where_there_is_no_room() {
    // UDP takes a socket for each of the two workers.
    let (a, b, c) = (part("a", &["udp 0.0.0.0:1"]), part("b", &["udp 0.0.0.0:2"]), part("c", &["tcp 0.0.0.0:3"]));
    let services = wanted(&[("a", Some(30), &a), ("b", Some(10), &b), ("c", None, &c)]);
    let with = |files| choose(&services, &BTreeMap::new(), &Blocked::new(), Room { files, workers: 2 });
    assert_eq!(with(5).parts.len(), 3);
    assert_eq!(with(4).parts, good(&[("a", &a), ("b", &b)]));
    assert_eq!(with(3).parts, good(&[("b", &b), ("c", &c)]), "c fits where a does not");
    let refusal = &with(4).refused[&key("c")][0];
    assert_eq!((refusal.code, refusal.instead), ("FileLimit", Instead::LeftOut));
    assert!(refusal.message.contains("4 files") && refusal.message.contains("needs 1"), "{}", refusal.message);
}

#[test]
fn an_address_that_covers_one_that_is_still_open_has_to_wait() {
    let (a, b) = (part("a", &["tcp 10.0.0.1:80"]), part("b", &["udp 0.0.0.0:80", "tcp [::]:80"]));
    let choice = Choice { parts: good(&[("a", &a), ("b", &b)]), refused: BTreeMap::new() };
    let with = |served: &[&str]| in_the_way_of_themselves(&choice, &served.iter().map(|text| claim(text)).collect());
    assert_eq!(with(&["tcp 0.0.0.0:80"]), BTreeSet::from([key("a")]));
    assert_eq!(with(&["tcp 10.0.0.1:80", "tcp [::]:80"]), BTreeSet::new());
    assert_eq!(with(&["tcp [::1]:80"]), BTreeSet::from([key("b")]));
    assert_eq!(with(&["tcp 10.0.0.2:80", "udp 10.0.0.1:81"]), BTreeSet::new());
}

#[test]
fn a_socket_is_found_by_its_address_tcp_first() {
    let (a, b) = (part("a", &["tcp 0.0.0.0:80"]), part("b", &["udp 0.0.0.0:81"]));
    let choice = Choice { parts: good(&[("a", &a), ("b", &b)]), refused: BTreeMap::new() };
    let owner = |text: &str| choice.owner(claim(text)).map(|(service, _, claim)| (service.clone(), claim.transport));
    assert_eq!(owner("tcp 0.0.0.0:80"), Some((key("a"), Transport::Tcp)));
    assert_eq!(owner("tcp 0.0.0.0:81"), Some((key("b"), Transport::Udp)));
    assert_eq!(owner("tcp 0.0.0.0:82"), None);
}
