//! Where LBEX learns what the cluster is like: the Kubernetes API, or manifest files. A source sends [`SourceEvent`]s and knows
//! nothing of what becomes of them.

pub mod manifests;
pub mod objects;

use lbex_core::snapshot::Change;

pub use crate::publish::ObjectKind;

/// How many events may wait for the engine; a source that is faster waits.
pub const QUEUE: usize = 64;

/// What a source tells the engine.
#[derive(Debug)]
pub enum SourceEvent {
    /// Changes, in order. A complete list comes as `AllServices`, `AllNodes` or `AllEndpoints`.
    Changes(Vec<Change>),
    /// Every kind of object has had its first complete list: applying may begin. Sent once.
    Synced,
    /// Everything is in step with the source at this moment. Sent now and then while that is so.
    InStep,
    /// Objects of this kind cannot be read just now, and why. What is known of them is kept.
    Trouble {
        /// Which kind.
        kind: ObjectKind,
        /// Why, in words.
        text: String,
    },
    /// Objects of this kind can be read again.
    Recovered {
        /// Which kind.
        kind: ObjectKind,
    },
    /// A watch began anew (a dropped connection, 410 Gone, an API server that restarted).
    WatchRestarted {
        /// Of which kind.
        kind: ObjectKind,
    },
}

/// Why a source cannot begin: exit code 1 (contract section 2).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);
