//! Servers that were taken out and still have connections.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::time::{Duration, Instant};

use crate::control::Control;
use crate::servers::{Server, connections};

/// How many are looked at at once.
const AT_ONCE: usize = 200;

/// Section and name.
type Key = (String, String);

/// Since when which servers drain.
#[derive(Debug, Default)]
pub(crate) struct Drains {
    since: BTreeMap<Key, Instant>,
    /// The last that was looked at.
    last: Option<Key>,
}

impl Drains {
    /// In these sections exactly these servers drain.
    pub(crate) fn set<'a>(&mut self, sections: impl Fn(&str) -> bool, leaving: impl Iterator<Item = &'a Server>) {
        let now = Instant::now();
        let mut known = std::mem::take(&mut self.since);
        let mut next: BTreeMap<Key, Instant> = leaving
            .map(|server| (server.proxy.clone(), server.name.clone()))
            .map(|key| {
                let since = known.remove(&key).unwrap_or(now);
                (key, since)
            })
            .collect();
        known.retain(|(proxy, _), _| !sections(proxy));
        next.append(&mut known);
        self.since = next;
    }

    pub(crate) fn len(&self) -> usize {
        self.since.len()
    }

    /// Takes out those without connections, and closes the connections of those that had `limit`.
    pub(crate) fn go_on(&mut self, control: &Control, limit: Option<Duration>, timeout: Duration) -> io::Result<()> {
        let begin = self.last.take().map_or(Bound::Unbounded, Bound::Excluded);
        let some: Vec<Key> = self.since.range((begin, Bound::Unbounded)).map(|(key, _)| key).take(AT_ONCE).cloned().collect();
        if some.len() == AT_ONCE {
            self.last = some.last().cloned();
        }
        let mut sections: Vec<String> = some.iter().map(|(proxy, _)| format!("show servers conn {proxy}")).collect();
        sections.dedup();
        let has = connections(&control.ask(&sections, timeout)?);
        let mut commands = Vec::new();
        for key in some {
            let full = format!("{}/{}", key.0, key.1);
            match has.get(&full) {
                None => {
                    self.since.remove(&key);
                }
                // Where a connection came back meanwhile it is refused, and tried again.
                Some(0) => commands.extend([format!("set server {full} state maint"), format!("del server {full}")]),
                Some(_) if limit.is_some_and(|limit| self.since[&key].elapsed() >= limit) => {
                    commands.push(format!("shutdown sessions server {full}"));
                }
                Some(_) => {}
            }
        }
        control.ask(&commands, timeout).map(drop)
    }
}
