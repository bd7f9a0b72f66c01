//! The Kubernetes API as a source (contract section 2, 'Access to the cluster').
//!
//! [`KubeSource::connect`] loads credentials and talks to the API server once: it answers, knows us, and lets us list and watch
//! what is needed; a clear error otherwise. [`KubeSource::run`] then follows Services, Nodes and endpoints until nobody receives
//! its events, through whatever happens to connections, servers and credentials.
//!
//! ```text
//! access -> session -> one follower per kind and namespace -> gatherer -> SourceEvent
//! ```
//!
//! Followers are LBEX's own loop and not `kube::runtime::watcher`. That one loses a whole page for one object that is not
//! valid, has no time limit on lists, restarts an expired list at page one for ever, logs each failed attempt, and holds each
//! object in a second form. What a follower guarantees:
//!
//! - A list counts when its last page is there; pages of one that fails change nothing. A list may take as long as it likes as
//!   long as bytes come; one that stays silent is given up after a minute, the next after two, and so on up to ten. If a list
//!   expires between two pages, the next is asked for in one piece.
//! - A watch lasts 50 s and goes on at its last version (bookmarks move that along). A connection that died unnoticed is
//!   noticed within a minute: nothing came for longer than the watch was to last. 410 Gone leads to a new list.
//! - 401 and TLS failures have the credentials loaded anew. Everything is tried again, after 0.2 s at first and 20 s at the
//!   most. After a failure the follower makes sure that the cluster did not go back in time; after half a minute of them it lists anew,
//!   since a restored cluster may have come beyond the version that was seen last.
//! - With each list and each watch the identity of the cluster is read (`identity`), and told with what comes. A watch does not go
//!   on in another cluster: a list of that one begins.
//! - An object that is not valid is left out alone, with a warning, once. A list of which nothing can be read is a failed list.

mod access;
mod connect;
mod contact;
mod explain;
mod follow;
mod gather;
mod identity;
mod request;
mod resource;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;
mod timing;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::access::Session;
pub use self::access::{Access, AccessError, InCluster, ProxyVariables};
use self::contact::Contact;
use self::follow::{Follower, Reports};
use self::gather::{Gatherer, Scope};
use self::identity::Identity;
use self::resource::Resource;
use self::timing::Timing;
use super::{Persistence, SourceError, SourceEvent, SourceHandle, SourceObserver};
use crate::settings::{EndpointsApi, Settings, SourceSettings};

/// Reports that wait for the gatherer, at the most. A follower that finds no room reads no further.
const REPORTS: usize = 64;

/// What the source is told.
#[derive(Debug, Clone)]
pub struct KubeSettings {
    /// The way to the API server.
    pub access: Access,
    /// `--namespace`; none: all.
    pub namespaces: Vec<String>,
    /// `--endpoints-api`.
    pub endpoints_api: EndpointsApi,
}

impl KubeSettings {
    /// What the operator's settings say, and the environment where they leave it to that. `None`: `--manifests`.
    pub fn new(settings: &Settings) -> Option<Self> {
        let proxies = ProxyVariables::from_environment;
        let access = match &settings.source {
            SourceSettings::Manifests(_) => return None,
            SourceSettings::Proxy(url) => Access::Proxy(url.clone()),
            SourceSettings::Kubeconfig(path) => Access::Kubeconfig(path.clone(), proxies()),
            SourceSettings::InCluster => Access::InCluster(InCluster::from_environment(), proxies()),
        };
        Some(Self { access, namespaces: settings.namespaces.clone(), endpoints_api: settings.endpoints_api })
    }
}

/// An API server that answers, and lets LBEX see what it needs.
pub struct KubeSource {
    session: Arc<Session>,
    version: String,
    scopes: Vec<(Resource, Option<Arc<str>>)>,
    timing: Timing,
}

impl KubeSource {
    /// Loads the credentials and makes the first contact: one attempt, ten seconds for the first answer.
    pub async fn connect(settings: KubeSettings) -> Result<Self, SourceError> {
        Self::connect_with(settings, Timing::default()).await
    }

    async fn connect_with(settings: KubeSettings, timing: Timing) -> Result<Self, SourceError> {
        Contact::open(settings, timing).await?.make().await
    }

    /// Where the API server is, and how LBEX knows.
    pub fn shown(&self) -> String {
        self.session.shown()
    }

    /// The API server's version, as it tells it: `v1.36.3`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// `endpointslices` or `endpoints`: which API endpoints are read from.
    pub fn endpoints_api(&self) -> &'static str {
        let slices = self.scopes.iter().any(|(resource, _)| *resource == Resource::EndpointSlices);
        if slices { Resource::EndpointSlices.plural() } else { Resource::Endpoints.plural() }
    }

    /// Follows the cluster in tasks of its own, until `events` has no receiver or the handle is dropped.
    pub fn run(self, observer: &Arc<dyn SourceObserver>, events: mpsc::Sender<SourceEvent>) -> SourceHandle {
        let (messages, inbox) = mpsc::channel(REPORTS);
        let scopes = self.scopes.iter().map(|(resource, namespace)| Scope::new(*resource, namespace.clone()));
        let gatherer = Gatherer::new(scopes.collect(), events, observer.clone(), self.timing.tell_again);
        let identity = Arc::new(Identity::default());
        let mut tasks = JoinSet::new();
        for (scope, (resource, namespace)) in self.scopes.iter().enumerate() {
            let Some(complete) = gatherer.complete(*resource) else { continue };
            let (messages, observer) = (messages.clone(), observer.clone());
            let reports = Reports { scope, messages, complete, observer };
            let whom = (self.session.clone(), identity.clone());
            let follower = Follower::new(whom, (*resource, namespace.clone()), reports, self.timing);
            tasks.spawn(follower.run());
        }
        tasks.spawn(gatherer.run(inbox));
        SourceHandle::new(tasks)
    }
}

/// Connects and follows: [`KubeSource::connect`], then [`KubeSource::run`]. With [`Persistence::Forever`] the API server is tried
/// again and again; only credentials that cannot be loaded are an error then.
pub async fn start(
    settings: KubeSettings,
    persistence: Persistence,
    observer: &Arc<dyn SourceObserver>,
    events: mpsc::Sender<SourceEvent>,
) -> Result<SourceHandle, SourceError> {
    let contact = Contact::open(settings, Timing::default()).await?;
    let source = match persistence {
        Persistence::Once => contact.make().await?,
        Persistence::Forever => contact.keep_trying().await,
    };
    tracing::info!(
        "following the cluster at {}, version {}, endpoints from {}",
        source.shown(),
        source.version(),
        source.endpoints_api()
    );
    Ok(source.run(observer, events))
}
