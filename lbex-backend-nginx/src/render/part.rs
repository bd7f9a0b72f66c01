//! What a Service's file holds, read back from its text: so LBEX knows it of files that it wrote in an earlier life too.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::str::FromStr;

use lbex_core::names::ServiceKey;
use sha2::{Digest, Sha256};

use crate::binary::hex;
use crate::probe::Transport;
use crate::push::{ServerGroup, ServerName};

/// The name of a Service's file below `services/`: `NAMESPACE.NAME.HASH.conf`. The hash is that of the contents, so a name
/// never stands for two texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceFileName(String);

impl ServiceFileName {
    /// The name of the file of this Service with this text.
    pub fn of(service: &ServiceKey, text: &str) -> Self {
        Self(format!("{}.{}.{}.conf", service.namespace, service.name, short_hash(text)))
    }

    /// Reads a name; `None` if it is not such a name.
    pub fn parse(name: &str) -> Option<(ServiceKey, Self)> {
        let mut parts = name.split('.');
        let mut next = || parts.next();
        let (namespace, service, hash, end) = (next()?, next()?, next()?, next()?);
        let hexadecimal = hash.len() == 12 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        if parts.next().is_some() || !hexadecimal || end != "conf" {
            return None;
        }
        let key = ServiceKey::new(namespace, service).ok()?;
        Some((key, Self(name.to_owned())))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` is what the name stands for.
    pub fn fits(&self, text: &str) -> bool {
        self.0.rsplit('.').nth(1) == Some(&short_hash(text))
    }
}

impl std::fmt::Display for ServiceFileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn short_hash(text: &str) -> String {
    hash(text, 6)
}

/// The first `bytes` of a text's SHA-256, in hexadecimal.
pub(super) fn hash(text: &str, bytes: usize) -> String {
    hex(&Sha256::digest(text.as_bytes())[..bytes])
}

/// A socket that NGINX listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// TCP or UDP.
    pub transport: Transport,
    /// Address and port.
    pub address: SocketAddr,
}

impl Claim {
    /// Whether one host could not have both: the same port, and the same address or one that covers the other.
    pub fn collides(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.address.ip(), other.address.ip());
        self.transport == other.transport
            && self.address.port() == other.address.port()
            && mine.is_ipv4() == theirs.is_ipv4()
            && (mine == theirs || mine.is_unspecified() || theirs.is_unspecified())
    }
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.transport, self.address)
    }
}

/// One Service's part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its file.
    pub file: ServiceFileName,
    /// What it listens on.
    pub claims: Vec<Claim>,
    /// How many upstreams it has.
    pub upstreams: u32,
    /// How many servers they have as addresses, in all.
    pub servers: u32,
    /// The groups of servers that they have as names.
    pub groups: BTreeSet<ServerGroup>,
    /// What stands for the rest of the text, within this process.
    pub rest: u64,
}

impl Part {
    /// Reads what a text of [`render_service`](super::render_service) holds.
    pub fn read(file: ServiceFileName, text: &str) -> Self {
        let mut part = Self { file, claims: Vec::new(), upstreams: 0, servers: 0, groups: BTreeSet::new(), rest: 0 };
        let mut rest = DefaultHasher::new();
        for line in text.lines() {
            let mut words = line.trim_end_matches(';').split_ascii_whitespace();
            match (words.next(), words.next()) {
                (Some("upstream"), _) => {
                    part.upstreams += 1;
                    line.hash(&mut rest);
                }
                (Some("server"), Some(word)) if word != "{" => {
                    let name = word.rsplit_once(':').and_then(|(name, _)| ServerName::from_str(name).ok());
                    match name.filter(|_| words.next() == Some("resolve")) {
                        Some(name) => drop(part.groups.insert(name.group)),
                        None => part.servers += 1,
                    }
                }
                (Some("listen"), Some(address)) => {
                    let transport = if words.next() == Some("udp") { Transport::Udp } else { Transport::Tcp };
                    part.claims.extend(SocketAddr::from_str(address).map(|address| Claim { transport, address }));
                }
                _ => line.hash(&mut rest),
            }
        }
        part.claims.shrink_to_fit();
        part.rest = rest.finish();
        part
    }
}
