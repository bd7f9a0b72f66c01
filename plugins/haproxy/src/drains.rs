//! Servers that were taken out and still have connections.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::time::{Duration, Instant};

use crate::control::Control;
use crate::servers::{Server, read};

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

    /// Deletes those without connections, and closes the connections of those that had `limit`.
    pub(crate) fn go_on(&mut self, control: &Control, limit: Option<Duration>, timeout: Duration) -> io::Result<()> {
        let begin = self.last.take().map_or(Bound::Unbounded, Bound::Excluded);
        let some: Vec<Key> =
            self.since.range((begin, Bound::Unbounded)).map(|(key, _)| key).take(AT_ONCE).cloned().collect();
        if some.len() == AT_ONCE {
            self.last = some.last().cloned();
        }
        let mut sections: Vec<String> = some.iter().map(|(proxy, _)| format!("show servers state {proxy}")).collect();
        sections.dedup();
        let servers = read(&control.ask(&sections, timeout)?).unwrap_or_default();
        let there: BTreeSet<Key> = servers.into_iter().map(|server| (server.proxy, server.name)).collect();
        let mut commands = Vec::new();
        for key in some {
            if !there.contains(&key) {
                self.since.remove(&key);
                continue;
            }
            let full = format!("{}/{}", key.0, key.1);
            if limit.is_some_and(|limit| self.since[&key].elapsed() >= limit) {
                commands.push(format!("shutdown sessions server {full}"));
            }
            // HAProxy refuses to delete one that has connections. It is in maintenance then, which takes it no connection.
            commands.extend([format!("set server {full} state maint"), format!("del server {full}")]);
        }
        control.ask(&commands, timeout).map(drop)
    }
}
