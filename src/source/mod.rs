//! Where LBEX learns what the cluster is like: the Kubernetes API, or manifest files.
//!
//! A source runs in tasks of its own and tells the engine what changes, over one bounded channel. It never decides what a
//! change means; the engine never learns where it came from.

pub mod kube;
pub mod manifests;
pub mod objects;
mod observer;
mod start;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lbex_core::snapshot::Change;
use tokio::task::JoinSet;

pub use self::observer::{Ignore, SourceObserver};
pub use self::start::{Persistence, QUEUE, start};
use self::waiting::Waiting;
pub use crate::publish::ObjectKind;

/// What a source tells the engine.
#[derive(Debug)]
pub enum SourceEvent {
    /// Changes, in order. A complete list arrives as one of the `All` changes, or of the `Namespace` ones where several namespaces
    /// are watched.
    Changes(Vec<Change>),
    /// The changes that follow are of the cluster with this identity (the UID of its namespace `kube-system`). `None`: not known.
    /// Sent when it changes.
    Cluster(Option<Arc<str>>),
    /// Every kind has had its first complete list: applying may begin. Sent once, after the changes that it is about.
    Synced,
    /// Something is wrong. Sent when it appears and again every minute while it lasts. To be logged by whoever receives it: the
    /// source does not.
    Trouble(Trouble),
    /// It is right again. To be logged, too.
    Recovered(Recovered),
}

/// What is wrong with the objects of one kind (in one namespace, where single ones are watched).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Which objects.
    pub kind: ObjectKind,
    /// Which of several watched namespaces; `None`: all that are watched.
    pub namespace: Option<Arc<str>>,
    /// What was tried, what failed, and what to do about it.
    pub text: String,
    /// For how long it has been so.
    pub lasting: Duration,
    /// Whether these objects were complete once: then what was last known stays in effect. If not, LBEX waits for them.
    pub known: bool,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot follow {}: {}", Objects(self.kind, self.namespace.as_deref()), self.text)?;
        if self.lasting >= Duration::from_secs(1) {
            write!(f, " (for {} s now)", self.lasting.as_secs())?;
        }
        f.write_str(if self.known {
            "; what was last known of them stays in effect, trying again"
        } else {
            "; waiting for them, trying again"
        })
    }
}

/// The end of a [`Trouble`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Which objects.
    pub kind: ObjectKind,
    /// Which of several watched namespaces.
    pub namespace: Option<Arc<str>>,
    /// For how long it was wrong.
    pub after: Duration,
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let objects = Objects(self.kind, self.namespace.as_deref());
        write!(f, "following {objects} again, after {:.1} s", self.after.as_secs_f64())
    }
}

/// Objects in words: `Services of the namespace web`.
struct Objects<'a>(ObjectKind, Option<&'a str>);

impl fmt::Display for Objects<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.plural())?;
        self.1.map_or(Ok(()), |namespace| write!(f, " of the namespace {namespace}"))
    }
}

/// Why a source cannot begin. Each ends LBEX with exit code 1 (contract section 2); the text says what was tried, what is
/// wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Credentials or the kubeconfig cannot be loaded. Trying again cannot help.
    #[error("{0}")]
    Credentials(String),
    /// The API server cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The API server answers, and refuses: the credentials, or what they are allowed to do.
    #[error("{0}")]
    Refused(String),
}

/// A running source. Dropping it ends it.
#[derive(Debug)]
pub struct SourceHandle {
    tasks: JoinSet<()>,
}

impl SourceHandle {
    /// A source that consists of these tasks.
    pub fn new(tasks: JoinSet<()>) -> Self {
        Self { tasks }
    }

    /// Returns when one of its tasks has ended, which they do only when nobody receives its events any more, or by a panic
    /// (then an error with its text).
    pub async fn ended(&mut self) -> Result<(), tokio::task::JoinError> {
        self.tasks.join_next().await.unwrap_or(Ok(()))
    }
}
