//! The gatherer, for simulations that are the followers themselves.

use std::sync::Arc;

use lbex_core::snapshot::Change;
use tokio::sync::{mpsc, watch};

use super::follow::{Message, Report};
use super::gather::{Gatherer, Scope};
use super::resource::{Object, Resource};
use super::timing::Timing;
use crate::source::{Ignore, ObjectKind, SourceEvent};

/// What a follower says.
#[derive(Debug)]
pub(crate) enum Said {
    /// The complete list, as changes of single objects, and the identity of the cluster.
    Listed(Vec<Change>, Option<Arc<str>>),
    /// Changes since.
    Changes(Vec<Change>),
    /// The watch works.
    Working,
    /// It does not.
    Failing(String),
}

/// A follower's way to the gatherer.
pub(crate) struct Mouth {
    scope: usize,
    messages: mpsc::Sender<Message>,
    complete: watch::Receiver<bool>,
}

impl Mouth {
    /// Says it; false: nobody listens any more.
    pub(crate) async fn say(&self, said: Said) -> bool {
        let report = match said {
            Said::Listed(objects, cluster) => {
                Report::Listed { objects: objects.into_iter().filter_map(object).collect(), cluster }
            }
            Said::Changes(changes) => Report::Changes(changes),
            Said::Working => Report::Working,
            Said::Failing(text) => Report::Failing(text),
        };
        self.messages.send(Message { scope: self.scope, report }).await.is_ok()
    }

    /// Waits until all followers of the kind have a list.
    pub(crate) async fn complete(&mut self) -> bool {
        self.complete.wait_for(|complete| *complete).await.is_ok()
    }
}

fn object(change: Change) -> Option<Object> {
    match change {
        Change::Service(service) => Some(Object::Service(service)),
        Change::Node(node) => Some(Object::Node(node)),
        Change::Endpoints(list) => Some(Object::Endpoints(list)),
        _ => None,
    }
}

/// Starts a gatherer for one follower of each kind (and namespace) of `scopes`.
pub(crate) fn gather(scopes: &[(ObjectKind, Option<Arc<str>>)], events: mpsc::Sender<SourceEvent>) -> Vec<Mouth> {
    let resource = |kind| match kind {
        ObjectKind::Service => Resource::Services,
        ObjectKind::Node => Resource::Nodes,
        ObjectKind::Endpoints => Resource::EndpointSlices,
    };
    let (messages, inbox) = mpsc::channel(super::REPORTS);
    let of_gatherer = scopes.iter().map(|(kind, namespace)| Scope::new(resource(*kind), namespace.clone()));
    let gatherer = Gatherer::new(of_gatherer.collect(), events, Arc::new(Ignore), Timing::default().tell_again);
    let mouths = scopes.iter().enumerate().filter_map(|(scope, (kind, _))| {
        Some(Mouth { scope, messages: messages.clone(), complete: gatherer.complete(resource(*kind))? })
    });
    let mouths = mouths.collect();
    tokio::spawn(gatherer.run(inbox));
    mouths
}
