//! What the log says of a plan as a whole.

use std::collections::BTreeMap;

use crate::plan::{Family, Ruleset};

/// Listeners whose clients of one address family are refused, since the servers have addresses of the other only. `None`: there are none.
pub(crate) fn of_one_family(ruleset: &Ruleset) -> Option<String> {
    let mut listeners = BTreeMap::new();
    for (key, part) in ruleset {
        let families: &mut Vec<(Family, bool)> = listeners.entry((key.protocol, key.port)).or_default();
        families.push((key.family, !part.servers.is_empty()));
    }
    let halves = listeners.iter().filter(|(_, families)| {
        families.len() == 2 && families.iter().filter(|(_, has_servers)| *has_servers).count() == 1
    });
    let halves: Vec<_> = halves.map(|(listener, _)| *listener).collect();
    let first = halves.first()?;
    let service = ruleset.iter().find(|(key, _)| (key.protocol, key.port) == *first).map(|(_, part)| &part.service)?;
    let others = match halves.len() {
        1 => "one listener".to_owned(),
        all => format!("{all} listeners, one of {service} for instance,"),
    };
    let of = if halves.len() == 1 { format!(" of {service}") } else { String::new() };
    Some(format!(
        "{others}{of} has servers of one address family only, and clients of the other are refused: nftables does not translate between IPv4 and IPv6"
    ))
}
