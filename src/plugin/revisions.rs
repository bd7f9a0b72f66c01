//! What a plugin has, and what it still has to be told. Pure: no clock, no plugin.
//!
//! The plugin has a revision, [`Known::base`], or nobody knows what it has. [`Known::touched`] are the Services that may differ from
//! it: whatever changed since, and whatever was to be changed live and was not taken. The next document brings these, as the desired
//! state then has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lbex_core::desired::{Delta, DesiredState, ServiceConfig};
use lbex_core::names::ServiceKey;
use lbex_plugin_abi::documents::{Delta as DeltaDocument, Desired as DesiredDocument};
use lbex_plugin_abi::{DocumentError, service_from_core, write};

/// See above.
#[derive(Debug)]
pub(super) struct Known {
    /// What the plugin has; `None`: it gets everything.
    base: Option<String>,
    /// The Services that may differ from that.
    touched: BTreeMap<ServiceKey, Touch>,
    /// Those of them that are to be changed live and were not sent yet: what they become.
    on_their_way: BTreeMap<ServiceKey, Arc<ServiceConfig>>,
    /// Begins every revision of this process, so that none is taken for one of another's.
    prefix: String,
    /// The number of the last revision.
    number: u64,
}

/// How a Service may differ from what the plugin has.
#[derive(Debug, Clone, Copy)]
struct Touch {
    /// The generation that touched it last.
    generation: u64,
    /// Whether only its servers differ, and the plugin has not refused to change them live.
    live: bool,
}

/// A document, and what it is about.
#[derive(Debug)]
pub(super) struct Document {
    /// The document.
    pub(super) bytes: Vec<u8>,
    /// What it leads to.
    pub(super) revision: String,
    /// Whether it is everything.
    pub(super) whole: bool,
    /// What it begins with.
    from: Option<String>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// All that was touched up to this generation.
    UpTo(u64),
    /// These Services, as of these generations.
    Live(BTreeMap<ServiceKey, u64>),
}

impl Known {
    /// Nothing is known. `prefix` is another one in each process.
    pub(super) fn new(prefix: String) -> Self {
        Self { base: None, touched: BTreeMap::new(), on_their_way: BTreeMap::new(), prefix, number: 0 }
    }

    /// Notes what changed. Answers the Services that can be changed live: only their servers differ from what the plugin has.
    pub(super) fn changed(&mut self, delta: &Delta, live_servers: bool) -> BTreeSet<ServiceKey> {
        let mut can = BTreeSet::new();
        for (key, change) in &delta.changes {
            let nothing_else = self.touched.get(key).is_none_or(|touch| touch.live);
            let live = live_servers && change.servers_only() && nothing_else;
            self.touched.insert(key.clone(), Touch { generation: delta.to, live });
            if let Some(after) = change.after()
                && live
            {
                self.on_their_way.insert(key.clone(), after.clone());
                can.insert(key.clone());
            } else {
                self.on_their_way.remove(key);
            }
        }
        can
    }

    /// The document that brings the plugin to `desired`, of which `delta` changed last.
    pub(super) fn for_apply(&mut self, desired: &DesiredState, delta: &Delta) -> Result<Document, DocumentError> {
        let generation = desired.generation;
        for key in delta.changes.keys() {
            self.touched.entry(key.clone()).or_insert(Touch { generation, live: false });
        }
        // What was on its way comes with this.
        let newer = |key: &ServiceKey| self.touched.get(key).is_some_and(|touch| touch.generation > generation);
        self.on_their_way.retain(|key, _| newer(key));
        // Until the plugin has answered, nobody knows what it has.
        let from = self.base.take();
        let revision = self.next();
        let service = |config: &Arc<ServiceConfig>| Arc::new(service_from_core(config));
        let bytes = if let Some(from) = &from {
            let service = |key: &ServiceKey| (key.to_string(), desired.services.get(key).map(service));
            let services = self.touched.keys().map(service).collect();
            let (from, revision) = (from.clone(), revision.clone());
            write(&DeltaDocument { from, revision, services, ..DeltaDocument::default() })?
        } else {
            let all = desired.services.iter().map(|(key, config)| (key.to_string(), service(config)));
            let (services, revision) = (all.collect(), revision.clone());
            write(&DesiredDocument { revision, services, ..DesiredDocument::default() })?
        };
        Ok(Document { bytes, revision, whole: from.is_none(), from, content: Content::UpTo(generation) })
    }

    /// The live document with all that is on its way; `None`: nothing is, or the plugin has to get everything anyway.
    pub(super) fn for_push(&mut self) -> Result<Option<Document>, DocumentError> {
        let sent = std::mem::take(&mut self.on_their_way);
        if sent.is_empty() || self.base.is_none() {
            return Ok(None);
        }
        let from = self.base.take();
        let revision = self.next();
        let services = sent.iter().map(|(key, config)| (key.to_string(), Some(service_from_core(config).into())));
        let document = DeltaDocument {
            from: from.clone().unwrap_or_default(),
            revision: revision.clone(),
            live: true,
            services: services.collect(),
            ..DeltaDocument::default()
        };
        let bytes = write(&document)?;
        let generation = |key: &ServiceKey| self.touched.get(key).map_or(0, |touch| touch.generation);
        let content = Content::Live(sent.keys().map(|key| (key.clone(), generation(key))).collect());
        Ok(Some(Document { bytes, revision, whole: false, from, content }))
    }

    /// The plugin has a document, but for the Services in `without` where it was a live one.
    pub(super) fn has(&mut self, document: Document, without: &BTreeSet<ServiceKey>) {
        self.base = Some(document.revision);
        match document.content {
            Content::UpTo(generation) => self.touched.retain(|_, touch| touch.generation > generation),
            Content::Live(sent) => {
                for (key, generation) in sent {
                    if without.contains(&key) {
                        self.not_live(&key);
                    } else if self.touched.get(&key).is_some_and(|touch| touch.generation <= generation) {
                        self.touched.remove(&key);
                    }
                }
            }
        }
    }

    /// The plugin has changed nothing: it has what it had before.
    pub(super) fn has_not(&mut self, document: Document) {
        self.base = document.from;
        if let Content::Live(sent) = document.content {
            sent.keys().for_each(|key| self.not_live(key));
        }
    }

    /// What waits for `key` waits for an apply.
    fn not_live(&mut self, key: &ServiceKey) {
        if let Some(touch) = self.touched.get_mut(key) {
            touch.live = false;
        }
        self.on_their_way.remove(key);
    }

    /// Nobody knows what the plugin has.
    pub(super) fn forget(&mut self) {
        self.base = None;
    }

    /// What the plugin has.
    pub(super) fn base(&self) -> Option<&str> {
        self.base.as_deref()
    }

    /// Of `services`, which changed in `generation`, those that the plugin does not have, and that nobody has changed since.
    pub(super) fn late(&self, services: &BTreeSet<ServiceKey>, generation: u64) -> BTreeSet<ServiceKey> {
        let late = |key: &&ServiceKey| self.touched.get(*key).is_some_and(|touch| touch.generation == generation);
        services.iter().filter(late).cloned().collect()
    }

    fn next(&mut self) -> String {
        self.number += 1;
        format!("{}-{}", self.prefix, self.number)
    }
}

#[cfg(test)]
mod tests;
