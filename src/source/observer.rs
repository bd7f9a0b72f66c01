//! What sources report about their work as numbers.

use super::ObjectKind;
use crate::publish::Metrics;

/// Counts what a source does. Calls are cheap and come from any task.
pub trait SourceObserver: Send + Sync {
    /// `count` changes of objects of a kind arrived; a complete list counts each of its objects.
    fn events(&self, kind: ObjectKind, count: u64);
    /// A watch began anew after a failure, or with a new list.
    fn watch_restarted(&self, kind: ObjectKind);
    /// Whether every watch works.
    fn connected(&self, yes: bool);
    /// Every watch is in step with the cluster now.
    fn synced(&self);
}

impl SourceObserver for Metrics {
    fn events(&self, kind: ObjectKind, count: u64) {
        Metrics::events(self, kind, count);
    }

    fn watch_restarted(&self, kind: ObjectKind) {
        Metrics::watch_restarted(self, kind);
    }

    fn connected(&self, yes: bool) {
        self.set_source_connected(yes);
    }

    fn synced(&self) {
        Metrics::synced(self);
    }
}

/// Counts nothing, for `lbex render` and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ignore;

impl SourceObserver for Ignore {
    fn events(&self, _: ObjectKind, _: u64) {}
    fn watch_restarted(&self, _: ObjectKind) {}
    fn connected(&self, _: bool) {}
    fn synced(&self) {}
}
