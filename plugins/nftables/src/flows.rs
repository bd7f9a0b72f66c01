//! Connections that the kernel keeps: which of them are ours, and the end of those that must not go on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};

use lbex_plugin_sdk::Protocol;

use crate::netlink::{Netlink, Question, attribute, find};
use crate::plan::{Allow, Facts, Family, Key, Ruleset};

const CONNTRACK: u16 = 1 << 8;
const GET: u16 = CONNTRACK | 1;
const DELETE: u16 = CONNTRACK | 2;

const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATE: u16 = 4;
const ID: u16 = 12;
const ZONE: u16 = 18;

/// How often a dump that was interrupted begins again.
const ATTEMPTS: usize = 5;

/// A connection of TCP, or what the kernel takes for one of UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Protocol.
    pub protocol: Protocol,
    /// The client.
    pub client: SocketAddr,
    /// Where it came to.
    pub to: SocketAddr,
    /// Who answers: the same, or the server that it was sent to.
    pub server: SocketAddr,
    /// TCP: both sides are still there.
    pub established: bool,
    name: Vec<u8>,
    family: u8,
}

impl Flow {
    fn key(&self) -> Key {
        Key { protocol: self.protocol, port: self.to.port(), family: Family::of(self.to.ip()) }
    }

    /// Whether it came to a listener, there now or before, and not through this host to somebody else's port of that number.
    fn is_of(&self, ruleset: &Ruleset, facts: &Facts) -> bool {
        let Some(part) = ruleset.get(&self.key()) else {
            return self.server != self.to || facts.is_local(self.to.ip());
        };
        if part.addresses.is_empty() { facts.is_local(self.to.ip()) } else { part.addresses.contains(&self.to.ip()) }
    }

    /// Whether the listeners would send it where it goes.
    fn is_right(&self, ruleset: &Ruleset) -> bool {
        let Some(part) = ruleset.get(&self.key()) else { return self.server == self.to };
        let let_in = match &part.allow {
            Allow::All => true,
            Allow::Some(nets) => nets.iter().any(|net| net.contains(&self.client.ip())),
        };
        let left_out = !let_in || (part.no_loopback && self.to.ip().is_loopback());
        if left_out || part.servers.is_empty() { self.server == self.to } else { part.servers.contains(&self.server) }
    }
}

/// All connections of TCP and UDP.
pub fn flows(netlink: &mut Netlink) -> io::Result<Vec<Flow>> {
    let question = Question { kind: GET, family: 0, attributes: Vec::new() };
    for _ in 0..ATTEMPTS {
        let mut found = Vec::new();
        match netlink.dump(&question, |family, body| found.extend(flow(family, body))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(found),
        }
    }
    Err(io::Error::other("the kernel's connections change all the time"))
}

fn flow(family: u8, body: &[u8]) -> Option<Flow> {
    let (original, reply) = (find(body, ORIGINAL)?, find(body, REPLY)?);
    let (protocol, client, to) = ends(original)?;
    let (_, server, _) = ends(reply)?;
    // Half of it is TCP's, and of that the first number is where it stands.
    let state = find(body, STATE).and_then(|state| find(find(state, 1)?, 1)?.first().copied());
    let mut name = Vec::new();
    attribute(&mut name, 0x8000 | ORIGINAL, original);
    for kind in [ID, ZONE] {
        if let Some(value) = find(body, kind) {
            attribute(&mut name, kind, value);
        }
    }
    Some(Flow { protocol, client, to, server, established: state == Some(3), name, family })
}

/// Protocol, source and destination.
fn ends(tuple: &[u8]) -> Option<(Protocol, SocketAddr, SocketAddr)> {
    let (addresses, ports) = (find(tuple, 1)?, find(tuple, 2)?);
    let protocol = match find(ports, 1)?.first()? {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => return None,
    };
    let v4 = |kind| Some(IpAddr::from(<[u8; 4]>::try_from(find(addresses, kind)?).ok()?));
    let v6 = |kind| Some(IpAddr::from(<[u8; 16]>::try_from(find(addresses, kind)?).ok()?));
    let port = |kind| Some(u16::from_be_bytes(find(ports, kind)?.try_into().ok()?));
    let source = SocketAddr::new(v4(1).or_else(|| v6(3))?, port(2)?);
    let destination = SocketAddr::new(v4(2).or_else(|| v6(4))?, port(3)?);
    Some((protocol, source, destination))
}

/// Makes the kernel forget UDP flows of these listeners that do not go where they should: a flow is sent where its first packet was, for as
/// long as the client goes on. How many.
pub fn forget_stale(
    netlink: &mut Netlink,
    keys: &BTreeSet<Key>,
    ruleset: &Ruleset,
    facts: &Facts,
) -> io::Result<usize> {
    if !keys.iter().any(|key| key.protocol == Protocol::Udp) {
        return Ok(0);
    }
    let stale = |flow: &Flow| {
        flow.protocol == Protocol::Udp
            && keys.contains(&flow.key())
            && flow.is_of(ruleset, facts)
            && !flow.is_right(ruleset)
    };
    let all = flows(netlink)?;
    forget(netlink, all.into_iter().filter(stale))
}

/// Makes the kernel forget these. How many.
pub fn forget(netlink: &mut Netlink, flows: impl Iterator<Item = Flow>) -> io::Result<usize> {
    let mut count = 0;
    for flow in flows {
        match netlink.tell(&Question { kind: DELETE, family: flow.family, attributes: flow.name }) {
            Ok(()) => count += 1,
            // It ended by itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// The connections that were sent to servers of these listeners.
pub fn carried(netlink: &mut Netlink, ruleset: &Ruleset, facts: &Facts) -> io::Result<Vec<Flow>> {
    let ours = |flow: &Flow| flow.server != flow.to && ruleset.contains_key(&flow.key()) && flow.is_of(ruleset, facts);
    Ok(flows(netlink)?.into_iter().filter(ours).collect())
}

/// How many of these are in use, by protocol: UDP's are, as long as the kernel knows them.
pub fn in_use(flows: &[Flow]) -> BTreeMap<Protocol, usize> {
    let mut count = BTreeMap::new();
    for flow in flows.iter().filter(|flow| flow.protocol == Protocol::Udp || flow.established) {
        *count.entry(flow.protocol).or_default() += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Part;

    fn nested(kind: u16, inner: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        attribute(&mut bytes, 0x8000 | kind, inner);
        bytes
    }

    fn tuple(protocol: u8, source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> Vec<u8> {
        let (mut addresses, mut ports) = (Vec::new(), Vec::new());
        attribute(&mut addresses, 1, &source.0);
        attribute(&mut addresses, 2, &destination.0);
        attribute(&mut ports, 1, &[protocol]);
        attribute(&mut ports, 2, &source.1.to_be_bytes());
        attribute(&mut ports, 3, &destination.1.to_be_bytes());
        [nested(1, &addresses), nested(2, &ports)].concat()
    }

    const CLIENT: ([u8; 4], u16) = ([198, 51, 100, 7], 40_000);
    const HERE: ([u8; 4], u16) = ([192, 0, 2, 1], 53);

    fn to(server: ([u8; 4], u16), protocol: u8) -> Flow {
        let mut body = nested(ORIGINAL, &tuple(protocol, CLIENT, HERE));
        body.extend(nested(REPLY, &tuple(protocol, server, CLIENT)));
        body.extend(nested(STATE, &nested(1, &nested(1, &[3]))));
        attribute(&mut body, ID, &[1, 2, 3, 4]);
        flow(2, &body).unwrap()
    }

    #[test]
    fn a_flow_is_read_with_what_the_kernel_needs_to_find_it() {
        let flow = to(([10, 0, 0, 1], 5353), 6);
        assert_eq!((flow.client, flow.to, flow.server), (CLIENT.into(), HERE.into(), ([10, 0, 0, 1], 5353).into()));
        assert!(flow.protocol == Protocol::Tcp && flow.established);
        assert!(find(&flow.name, ORIGINAL).is_some() && find(&flow.name, ID) == Some(&[1, 2, 3, 4]));
        let icmp = [nested(ORIGINAL, &tuple(1, CLIENT, HERE)), nested(REPLY, &tuple(1, HERE, CLIENT))].concat();
        assert_eq!(super::flow(2, &icmp), None);
    }

    #[test]
    fn a_flow_is_right_where_a_new_one_could_go_too() {
        let facts = Facts { addresses: vec![HERE.0.into()], ..Facts::default() };
        let key = Key { protocol: Protocol::Udp, port: 53, family: Family::V4 };
        let servers = vec![([10, 0, 0, 1], 5353).into()];
        let part = Part {
            service: "a/b".to_owned(),
            addresses: Vec::new(),
            allow: Allow::All,
            servers,
            sticky: false,
            no_loopback: false,
        };
        let (there, gone, nobody) = (to(([10, 0, 0, 1], 5353), 17), to(([10, 0, 0, 2], 5353), 17), to(HERE, 17));
        let right = |part: Option<Part>| {
            let ruleset: Ruleset = part.into_iter().map(|part| (key, part)).collect();
            assert!([&there, &gone, &nobody].iter().all(|flow| flow.is_of(&ruleset, &facts)));
            [&there, &gone, &nobody].map(|flow| flow.is_right(&ruleset))
        };
        assert_eq!(right(Some(part.clone())), [true, false, false]);
        let others = Allow::Some(vec!["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(right(Some(Part { allow: others, ..part.clone() })), [false, false, true]);
        assert_eq!(right(Some(Part { servers: Vec::new(), ..part.clone() })), [false, false, true]);
        assert_eq!(right(None), [false, false, true]);
        // Through this host to somebody else's port 53.
        let elsewhere = Part { addresses: vec![[192, 0, 2, 9].into()], ..part };
        assert!(!nobody.is_of(&[(key, elsewhere)].into(), &facts) && !nobody.is_of(&Ruleset::new(), &Facts::default()));
    }
}
