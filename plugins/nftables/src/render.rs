//! Listeners as objects of nftables, in the JSON that `nft -j` reads. Pure.
//!
//! One table. Verdict maps take a packet to its listener's chain, which chooses a server; the same maps for packets that no listener's
//! chain took say how clients are refused. So a change of one listener touches its own chain and its own elements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lbex_plugin_sdk::Protocol;
use serde_json::{Value, json};

use crate::plan::{Allow, Family, Key, Part};
use crate::spread::slots;

/// The chain whose only rule says whose table it is.
pub const OWNER: &str = "owner";

/// Raise it when what is rendered changes: a table of another number is replaced.
pub const FORMAT: u32 = 1;

/// The hash's start: the same on every host and after every restart.
const SEED: u32 = 0x6c62_6578;

/// A table, and how it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// Whether servers elsewhere see the client's address.
    pub keep_client_address: bool,
}

/// An element of a map or a set.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    /// The map or set.
    pub set: String,
    /// What is looked up.
    pub key: Value,
    /// The chain that the packet goes to; `None` in a set.
    pub chain: Option<String>,
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// The chain of a listener.
pub fn chain_name(key: &Key) -> String {
    format!("{}-{}-{}", word(key.protocol), key.port, key.family.protocol())
}

fn ports(protocol: Protocol, family: Family) -> String {
    format!("{}-{}", word(protocol), family.protocol())
}

fn at(address: bool, family: Family) -> String {
    format!("{}-{}", if address { "at" } else { "all" }, family.protocol())
}

fn refused(map: &str) -> String {
    format!("refused-{map}")
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// The maps and sets that hold the elements.
pub fn sets() -> Vec<String> {
    let maps = FAMILIES.iter().flat_map(|family| [at(true, *family), at(false, *family)]);
    let maps = maps.flat_map(|map| [refused(&map), map]);
    let ports = FAMILIES.iter().flat_map(|family| PROTOCOLS.map(|protocol| ports(protocol, *family)));
    maps.chain(ports).collect()
}

/// The chains that are always there.
pub const BASE_CHAINS: [&str; 9] =
    ["input", OWNER, "output", "postrouting", "prerouting", "refuse", "refused", "services", "silence"];

// --- Words of nftables ---

fn payload(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

fn matches(left: &Value, op: &str, right: &Value) -> Value {
    json!({"match": {"op": op, "left": left, "right": right}})
}

fn is_protocol(protocol: Protocol) -> Value {
    matches(&meta("l4proto"), "==", &word(protocol).into())
}

fn is_family(family: Family) -> Value {
    let name = if family == Family::V4 { "ipv4" } else { "ipv6" };
    matches(&meta("nfproto"), "==", &name.into())
}

fn is_loopback(field: &str, family: Family) -> Value {
    let loopback = match family {
        Family::V4 => json!({"prefix": {"addr": "127.0.0.0", "len": 8}}),
        Family::V6 => "::1".into(),
    };
    matches(&payload(family.protocol(), field), "==", &loopback)
}

fn is_translated() -> Value {
    matches(&json!({"ct": {"key": "status"}}), "in", &"dnat".into())
}

fn jump(chain: &str) -> Value {
    json!({"jump": {"target": chain}})
}

fn done() -> Value {
    json!({"return": null})
}

impl Table {
    /// The commands that make the table with nothing in it, in place of what was there under its name.
    pub fn create(&self) -> Vec<Value> {
        let table = json!({"table": {"family": "inet", "name": self.name}});
        // Only what is there can be deleted.
        let mut commands = vec![json!({"add": table}), json!({"delete": table}), json!({"add": table})];
        commands.extend(self.create_sets());
        commands.extend(self.create_chains());
        commands.extend(self.base_rules());
        commands
    }

    /// The command that removes the table.
    pub fn delete(&self) -> Value {
        json!({"delete": {"table": {"family": "inet", "name": self.name}}})
    }

    /// Makes an object of the table from what it is besides.
    fn object(&self, what: &str, members: Value) -> Value {
        let mut object = members;
        object["family"] = "inet".into();
        object["table"] = self.name.as_str().into();
        let mut named = json!({});
        named[what] = object;
        named
    }

    fn create_sets(&self) -> Vec<Value> {
        let mut commands = Vec::new();
        for family in FAMILIES {
            let address = if family == Family::V4 { "ipv4_addr" } else { "ipv6_addr" };
            for (map, key) in [
                (at(true, family), json!([address, "inet_proto", "inet_service"])),
                (at(false, family), json!(["inet_proto", "inet_service"])),
            ] {
                for name in [refused(&map), map] {
                    let map = self.object("map", json!({"name": name, "type": key, "map": "verdict"}));
                    commands.push(json!({"add": map}));
                }
            }
            for protocol in PROTOCOLS {
                let set = json!({"name": ports(protocol, family), "type": "inet_service"});
                commands.push(json!({"add": self.object("set", set)}));
            }
        }
        commands
    }

    fn create_chains(&self) -> Vec<Value> {
        let hooks =
            [("prerouting", "nat", -100), ("output", "nat", -100), ("postrouting", "nat", 100), ("input", "filter", 0)];
        let plain = BASE_CHAINS.iter().filter(|name| hooks.iter().all(|(hook, ..)| hook != *name));
        let plain = plain.map(|name| json!({"name": name}));
        let hooked = hooks.map(
            |(hook, kind, prio)| json!({"name": hook, "type": kind, "hook": hook, "prio": prio, "policy": "accept"}),
        );
        plain.chain(hooked).map(|chain| json!({"add": self.object("chain", chain)})).collect()
    }

    fn rule(&self, chain: &str, expr: &[Value]) -> Value {
        json!({"add": self.object("rule", json!({"chain": chain, "expr": expr}))})
    }

    fn base_rules(&self) -> Vec<Value> {
        let owner = json!({"chain": OWNER, "expr": [done()], "comment": self.owner});
        let mut rules = vec![json!({"add": self.object("rule", owner)})];
        for hook in ["prerouting", "output"] {
            rules.push(self.rule(hook, &[jump("services")]));
        }
        rules.extend(self.look_up("services", |map| map));
        // What was sent on has another address now, and may happen to have a listener's port.
        let new = matches(&json!({"ct": {"key": "state"}}), "in", &"new".into());
        rules.push(self.rule("input", &[new, jump("refused")]));
        rules.push(self.rule("refused", &[is_translated(), done()]));
        rules.extend(self.look_up("refused", |map| refused(&map)));
        rules.push(self.rule("refuse", &[is_protocol(Protocol::Tcp), json!({"reject": {"type": "tcp reset"}})]));
        rules.push(self.rule("refuse", &[json!({"reject": {"type": "icmpx", "expr": "port-unreachable"}})]));
        rules.push(self.rule("silence", &[is_protocol(Protocol::Tcp), json!({"reject": {"type": "tcp reset"}})]));
        rules.push(self.rule("silence", &[json!({"drop": null})]));
        rules.extend(self.source_addresses());
        rules
    }

    /// Takes a packet to the chain that a map has for it: the maps of addresses first.
    fn look_up(&self, chain: &str, name: impl Fn(String) -> String) -> Vec<Value> {
        let port = payload("th", "dport");
        let mut rules = Vec::new();
        for family in FAMILIES {
            let key = json!({"concat": [payload(family.protocol(), "daddr"), meta("l4proto"), port]});
            let map = format!("@{}", name(at(true, family)));
            rules.push(self.rule(chain, &[json!({"vmap": {"key": key, "data": map}})]));
        }
        let local = matches(&json!({"fib": {"result": "type", "flags": "daddr"}}), "==", &"local".into());
        for family in FAMILIES {
            let key = json!({"concat": [meta("l4proto"), port]});
            let map = format!("@{}", name(at(false, family)));
            let look_up = json!({"vmap": {"key": key, "data": map}});
            rules.push(self.rule(chain, &[is_family(family), local.clone(), look_up]));
        }
        rules
    }

    /// Gives clients whose answers would not come back this host's address.
    fn source_addresses(&self) -> Vec<Value> {
        let lo = matches(&meta("oifname"), "==", &"lo".into());
        let mut rules = vec![self.rule("postrouting", &[lo, done()])];
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                let asked = json!({"ct": {"key": "proto-dst", "dir": "original"}});
                let ours = matches(&asked, "==", &format!("@{}", ports(protocol, family)).into());
                let mut rule = vec![is_family(family), is_translated(), is_protocol(protocol), ours];
                if self.keep_client_address {
                    rule.push(is_loopback("saddr", family));
                }
                rule.push(json!({"masquerade": {"flags": "fully-random"}}));
                rules.push(self.rule("postrouting", &rule));
            }
        }
        rules
    }

    // --- Listeners ---

    /// The command that makes a listener's chain.
    pub fn add_chain(&self, key: &Key) -> Value {
        json!({"add": self.object("chain", json!({"name": chain_name(key)}))})
    }

    /// The command that empties it.
    pub fn flush_chain(&self, key: &Key) -> Value {
        json!({"flush": self.object("chain", json!({"name": chain_name(key)}))})
    }

    /// The command that removes it.
    pub fn delete_chain(&self, key: &Key) -> Value {
        json!({"delete": self.object("chain", json!({"name": chain_name(key)}))})
    }

    /// The commands that fill it.
    pub fn add_rules(&self, key: &Key, part: &Part) -> Vec<Value> {
        let comment = comment(&part.service);
        let rule = |expr: Vec<Value>| {
            let mut rule = json!({"chain": chain_name(key), "expr": expr});
            if let Some(comment) = &comment {
                rule["comment"] = (*comment).into();
            }
            json!({"add": self.object("rule", rule)})
        };
        chain(*key, part).into_iter().map(rule).collect()
    }

    /// The commands that add or delete (`verb`) elements, one for each map or set.
    pub fn elements(&self, verb: &str, elements: &[Element]) -> Vec<Value> {
        let mut commands = Vec::new();
        for set in sets() {
            let of_set = elements.iter().filter(|element| element.set == set);
            let entries: Vec<Value> = of_set
                .map(|element| match &element.chain {
                    Some(chain) if verb == "add" => json!([element.key, {"goto": {"target": chain}}]),
                    _ => element.key.clone(),
                })
                .collect();
            if !entries.is_empty() {
                let mut command = json!({});
                command[verb] = self.object("element", json!({"name": set, "elem": entries}));
                commands.push(command);
            }
        }
        commands
    }
}

/// A comment is for people who look at the table. 128 bytes are the most that nftables takes.
fn comment(service: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-./_".contains(c);
    (service.len() < 128 && service.chars().all(plain)).then_some(service)
}

/// The rules of a listener's chain: who is left out, and where the others go.
fn chain(key: Key, part: &Part) -> Vec<Vec<Value>> {
    let family = key.family.protocol();
    let mut rules = Vec::new();
    if let Allow::Some(nets) = &part.allow {
        let nets: Vec<Value> =
            nets.iter().map(|net| json!({"prefix": {"addr": net.network(), "len": net.prefix_len()}})).collect();
        if nets.is_empty() {
            return vec![vec![done()]];
        }
        rules.push(vec![matches(&payload(family, "saddr"), "!=", &json!({"set": nets})), done()]);
    }
    if part.no_loopback {
        rules.push(vec![is_loopback("daddr", key.family), done()]);
    }
    let to = match &part.servers[..] {
        [] => return rules,
        [server] => json!({"family": family, "addr": server.ip(), "port": server.port()}),
        servers => {
            let (index, order) = if part.sticky {
                let order = slots(servers);
                let client = payload(family, "saddr");
                (json!({"jhash": {"mod": order.len(), "seed": SEED, "expr": client}}), order)
            } else {
                let order: Vec<usize> = (0..servers.len()).collect();
                (json!({"numgen": {"mode": "inc", "mod": order.len(), "offset": 0}}), order)
            };
            let server = |index: &usize| json!({"concat": [servers[*index].ip(), servers[*index].port()]});
            let entries: Vec<Value> =
                order.iter().enumerate().map(|(slot, index)| json!([slot, server(index)])).collect();
            json!({"family": family, "addr": {"map": {"key": index, "data": {"set": entries}}}})
        }
    };
    rules.push(vec![is_protocol(key.protocol), json!({"dnat": to})]);
    rules
}

/// A listener's elements.
pub fn elements(key: &Key, part: &Part) -> Vec<Element> {
    let (protocol, port) = (word(key.protocol), key.port);
    let mut keys = Vec::new();
    if part.addresses.is_empty() {
        keys.push((at(false, key.family), json!({"concat": [protocol, port]})));
    }
    for address in &part.addresses {
        keys.push((at(true, key.family), json!({"concat": [address, protocol, port]})));
    }
    let limited = part.allow != Allow::All && !part.servers.is_empty();
    let refuse = if limited { "silence" } else { "refuse" };
    let mut elements: Vec<Element> = keys
        .into_iter()
        .flat_map(|(map, at)| {
            let refused = Element { set: refused(&map), key: at.clone(), chain: Some(refuse.to_owned()) };
            [refused, Element { set: map, key: at, chain: Some(chain_name(key)) }]
        })
        .collect();
    elements.push(Element { set: ports(key.protocol, key.family), key: port.into(), chain: None });
    elements
}

/// The commands that would make a table with one of everything: for a trial.
pub fn sample(table: &Table) -> Vec<Value> {
    let table = Table { name: format!("{}-trial", table.name), ..table.clone() };
    let addresses: [IpAddr; 2] =
        [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
    let listeners = addresses.into_iter().flat_map(|address| [(1, false), (2, true)].map(|more| (address, more)));
    let part = |(address, (port, sticky))| {
        let part = Part {
            service: "lbex/trial".to_owned(),
            addresses: vec![address],
            allow: Allow::Some(vec![address.into()]),
            servers: [1, 2].map(|port| SocketAddr::new(address, port)).to_vec(),
            sticky,
            no_loopback: true,
        };
        (Key { protocol: Protocol::Tcp, port, family: Family::of(address) }, part)
    };
    crate::change::replace(&table, &listeners.map(part).collect())
}
