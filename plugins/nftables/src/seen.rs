//! What the kernel has in the table: whose it is, which chains, and a fingerprint that any change to it changes.

use std::collections::BTreeSet;
use std::io;

use sha2::{Digest, Sha256};

use crate::netlink::{Netlink, Question, attributes, find, text, text_attribute};
use crate::render::{OWNER, sets};

const TABLES: u16 = 10 << 8;
const GET_CHAIN: u16 = TABLES | 4;
const GET_RULE: u16 = TABLES | 7;
const GET_ELEMENTS: u16 = TABLES | 0xd;
const GET_GENERATION: u16 = TABLES | 0x10;
/// The family `inet`.
const INET: u8 = 1;

/// How often what changes meanwhile is read again.
const ATTEMPTS: usize = 10;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What its owner's rule says.
    pub owner: Option<String>,
    /// Its chains.
    pub chains: BTreeSet<String>,
    /// Of everything in it.
    pub fingerprint: String,
}

/// The number of the ruleset of this network namespace: every transaction, of whomever, raises it by one.
pub fn generation(netlink: &mut Netlink) -> io::Result<u32> {
    let mut found = None;
    let question = Question { kind: GET_GENERATION, family: 0, attributes: Vec::new() };
    netlink.get(&question, |_, body| {
        found = find(body, 1).and_then(|id| Some(u32::from_be_bytes(id.try_into().ok()?)));
    })?;
    found.ok_or_else(|| io::Error::other("the kernel does not say which ruleset it has"))
}

/// Reads a table; `None`: there is none. Also the generation that it is of.
pub fn look(netlink: &mut Netlink, table: &str) -> io::Result<(u32, Option<Seen>)> {
    for _ in 0..ATTEMPTS {
        let before = generation(netlink)?;
        match whole(netlink, table) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Gone since its chains were read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(seen) if generation(netlink)? == before => return Ok((before, seen)),
            Ok(_) => {}
        }
    }
    Err(io::Error::other("the ruleset of this host changes all the time"))
}

fn whole(netlink: &mut Netlink, table: &str) -> io::Result<Option<Seen>> {
    let mut chains = BTreeSet::new();
    let mut hashes = Vec::new();
    netlink.dump(&of(GET_CHAIN, table, None), |_, body| {
        if find(body, 1).and_then(text) == Some(table) {
            chains.extend(find(body, 3).and_then(text).map(ToOwned::to_owned));
            hashes.push(hash("chain", body));
        }
    })?;
    if chains.is_empty() {
        return Ok(None);
    }
    let mut owner = None;
    netlink.dump(&of(GET_RULE, table, None), |_, body| {
        if find(body, 1).and_then(text) == Some(table) {
            if find(body, 2).and_then(text) == Some(OWNER) {
                owner = find(body, 7).and_then(comment);
            }
            hashes.push(hash("rule", body));
        }
    })?;
    for set in sets() {
        let read = netlink.dump(&of(GET_ELEMENTS, table, Some(&set)), |_, body| {
            let elements = find(body, 3).unwrap_or_default();
            hashes.extend(attributes(elements).map(|(_, element)| hash(&set, element)));
        });
        match read {
            // A table of somebody else, or of a later version.
            Err(error) if error.kind() == io::ErrorKind::NotFound => hashes.push(hash(&set, b"is not there")),
            other => other?,
        }
    }
    Ok(Some(Seen { owner, chains, fingerprint: sum(hashes) }))
}

fn of(kind: u16, table: &str, set: Option<&str>) -> Question {
    let mut attributes = Vec::new();
    text_attribute(&mut attributes, 1, table);
    if let Some(set) = set {
        text_attribute(&mut attributes, 2, set);
    }
    Question { kind, family: INET, attributes }
}

fn hash(what: &str, bytes: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(what).chain_update([0]).chain_update(bytes).finalize().into()
}

/// Of all of them, in whatever order they came: a hash table tells its elements in no order of its own.
fn sum(mut hashes: Vec<[u8; 32]>) -> String {
    hashes.sort_unstable();
    format!("{:x}", Sha256::digest(hashes.concat()))
}

/// A rule's comment: type, length and text, ended by a zero.
fn comment(bytes: &[u8]) -> Option<String> {
    let [0, length, rest @ ..] = bytes else { return None };
    text(rest.get(..usize::from(*length))?).map(ToOwned::to_owned)
}
