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
