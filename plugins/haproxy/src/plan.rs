//! What is to be served: the sections of each Service, and what is refused. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lbex_plugin_sdk::{Refusal, State};

use crate::isolate::Verdict;
use crate::process::{alerts, wrong_lines};
use crate::render::{File, Proxy, proxies};

/// The sections of each Service, by `namespace/name`.
pub(crate) type Plan = BTreeMap<String, Vec<Proxy>>;

/// Why Services, or parts of them, are not served as desired.
pub(crate) type Refusals = BTreeMap<String, Vec<Refusal>>;

pub(crate) fn planned(state: &State, refused: &mut Refusals) -> Plan {
    let mut plan = Plan::new();
    for (name, service) in &state.services {
        match proxies(name, service) {
            Ok(proxies) => {
                plan.insert(name.clone(), proxies);
            }
            Err(refusal) => {
                refused.insert(name.clone(), vec![refusal]);
            }
        }
    }
    plan
}

pub(crate) fn sections(plan: &Plan) -> impl Iterator<Item = (&str, &Proxy)> + Clone {
    plan.iter().flat_map(|(name, proxies)| proxies.iter().map(move |proxy| (name.as_str(), proxy)))
}

pub(crate) fn binds(plan: &Plan) -> BTreeSet<SocketAddr> {
    plan.values().flatten().flat_map(|proxy| proxy.binds.iter().copied()).collect()
}

pub(crate) fn same_layout(one: &[Proxy], other: &[Proxy]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.layout == other.layout)
}

pub(crate) fn text(proxies: &[Proxy]) -> String {
    proxies.iter().map(|proxy| proxy.layout.as_str()).collect()
}

pub(crate) fn verdict(file: &File, words: &str) -> Verdict {
    let mut blamed = BTreeMap::new();
    for (line, why) in wrong_lines(words) {
        if let Some(name) = file.owner(line) {
            blamed.entry(name.to_owned()).or_insert(why);
        }
    }
    if blamed.is_empty() { Verdict::Bad(alerts(words)) } else { Verdict::Blames(blamed) }
}
