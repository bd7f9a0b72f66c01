//! From the listeners that are there to those that should be, in one transaction. Pure.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::plan::{Key, Ruleset};
use crate::render::{Element, Table, elements};

/// The whole table, in place of what is there.
pub fn replace(table: &Table, wanted: &Ruleset) -> Vec<Value> {
    let mut commands = table.create();
    commands.extend(change(table, &Ruleset::new(), wanted, wanted.keys().copied()));
    commands
}

/// What makes these listeners of `now` those of `wanted`: only what differs.
pub fn change(table: &Table, now: &Ruleset, wanted: &Ruleset, keys: impl Iterator<Item = Key>) -> Vec<Value> {
    let differ: BTreeSet<Key> = keys.filter(|key| now.get(key) != wanted.get(key)).collect();
    let (mut chains, mut rules, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    let (mut less, mut more) = (Vec::new(), Vec::new());
    for key in &differ {
        let was = now.get(key).map(|part| elements(key, part)).unwrap_or_default();
        let is = wanted.get(key).map(|part| elements(key, part)).unwrap_or_default();
        less.extend(was.iter().filter(|element| !is.contains(element)).cloned());
        more.extend(is.into_iter().filter(|element| !was.contains(element)));
        let Some(part) = wanted.get(key) else {
            gone.extend([table.flush_chain(key), table.delete_chain(key)]);
            continue;
        };
        chains.push(if now.contains_key(key) { table.flush_chain(key) } else { table.add_chain(key) });
        rules.extend(table.add_rules(key, part));
    }
    // An element names a chain, so chains come before and go after.
    [chains, rules, element_changes(table, &less, &more), gone].concat()
}

fn element_changes(table: &Table, less: &[Element], more: &[Element]) -> Vec<Value> {
    [table.elements("delete", less), table.elements("add", more)].concat()
}

/// The commands that leave the table as it is but for its listeners' elements: nobody new is let in.
pub fn close(table: &Table, now: &Ruleset) -> Vec<Value> {
    let all: Vec<Element> = now.iter().flat_map(|(key, part)| elements(key, part)).collect();
    // What is needed for connections that exist stays: translation, and with it the ports that it is for.
    let new: Vec<Element> = all.into_iter().filter(|element| element.chain.is_some()).collect();
    table.elements("delete", &new)
}

/// The document for `nft -j`.
pub fn document(commands: &[Value]) -> String {
    json!({"nftables": commands}).to_string()
}
