//! Servers as a running HAProxy has them, and the commands that make them what they should be. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use sha2::{Digest, Sha256};

use crate::render::{Proxy, written};

/// What a server is called in its section: `10.0.0.1:80`, `fd00::1:80`. The last colon is before the port.
pub fn server_name(server: SocketAddr) -> String {
    format!("{}:{}", server.ip(), server.port())
}

/// A server's number, which is its place on the ring of a consistent hash: made of its address, so that it is the same after a
/// reload and on every host. Where another server has it already: the next that is free.
pub fn id(server: SocketAddr, taken: &BTreeSet<u32>) -> u32 {
    let hash = Sha256::digest(server_name(server));
    // HAProxy multiplies it by 4096, and takes 32 bits of that.
    let mut id = (u32::from_be_bytes([0, hash[0], hash[1], hash[2]]) & 0x000f_ffff).max(1);
    while taken.contains(&id) {
        id = id % 0x000f_ffff + 1;
    }
    id
}

/// A server of a running HAProxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its section.
    pub proxy: String,
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its address; `None`: none that can be read.
    pub address: Option<SocketAddr>,
    /// Whether it gets new connections as far as commands decide.
    pub ready: bool,
    /// Its weight.
    pub weight: u16,
}

/// Reads the answers to `show servers state`, one or several. `None`: it is none.
pub fn read(text: &str) -> Option<Vec<Server>> {
    let rows = text.lines().filter(|line| !line.is_empty() && *line != "1" && !line.starts_with('#'));
    rows.map(|row| {
        let fields: Vec<&str> = row.split(' ').collect();
        let field = |index: usize| fields.get(index).copied();
        let ip = field(4)?.parse::<IpAddr>().ok();
        let port: u16 = field(18)?.parse().ok()?;
        Some(Server {
            proxy: field(1)?.to_owned(),
            id: field(2)?.parse().ok()?,
            name: field(3)?.to_owned(),
            address: ip.map(|ip| SocketAddr::new(ip, port)),
            ready: field(6)? == "0",
            weight: field(7)?.parse().ok()?,
        })
    })
    .collect()
}

/// By section.
pub fn by_proxy(servers: Vec<Server>) -> BTreeMap<String, Vec<Server>> {
    let mut all: BTreeMap<String, Vec<Server>> = BTreeMap::new();
    for server in servers {
        all.entry(server.proxy.clone()).or_default().push(server);
    }
    all
}

/// The commands that bring a section's servers to what is desired: those that come first, then those that go. None: nothing is to be
/// done. Servers that go stay without new connections until they have none left.
pub fn commands(desired: &Proxy, running: &[Server]) -> Vec<String> {
    let mut taken: BTreeSet<u32> = running.iter().map(|server| server.id).collect();
    let mut commands = Vec::new();
    for address in &desired.servers {
        let name = server_name(*address);
        let full = format!("{}/{name}", desired.name);
        let Some(server) = running.iter().find(|server| server.name == name) else {
            let id = id(*address, &taken);
            taken.insert(id);
            commands.push(format!("add server {full} {} id {id} weight {}", written(*address), desired.weight));
            commands.push(format!("set server {full} state ready"));
            continue;
        };
        if server.address != Some(*address) {
            commands.push(format!("set server {full} addr {} port {}", address.ip(), address.port()));
        }
        if server.weight != desired.weight {
            commands.push(format!("set server {full} weight {}", desired.weight));
        }
        if !server.ready {
            commands.push(format!("set server {full} state ready"));
        }
    }
    let gone = leaving(desired, running).filter(|server| server.ready);
    commands.extend(gone.map(|server| format!("set server {}/{} state drain", server.proxy, server.name)));
    commands
}

/// The servers that run and are not desired.
pub fn leaving<'a>(desired: &Proxy, running: &'a [Server]) -> impl Iterator<Item = &'a Server> {
    let names: BTreeSet<String> = desired.servers.iter().map(|server| server_name(*server)).collect();
    running.iter().filter(move |server| !names.contains(&server.name))
}
