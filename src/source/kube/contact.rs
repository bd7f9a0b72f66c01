//! The first contact, made once or until it succeeds.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::access::Session;
use super::resource::Resource;
use super::timing::{Backoff, Timing};
use super::{KubeSettings, KubeSource, connect};
use crate::settings::EndpointsApi;
use crate::source::{SourceError, Waiting};

/// The longest wait between two attempts: an API server that is back is to be noticed soon.
const MOST_WAIT: Duration = Duration::from_secs(5);
/// After so many attempts that failed the credentials are loaded anew, whatever the reason was.
const RENEW_EVERY: u32 = 10;

/// Credentials that were loaded, and what is to be followed with them.
pub(super) struct Contact {
    session: Arc<Session>,
    namespaces: Vec<Option<Arc<str>>>,
    endpoints_api: EndpointsApi,
    timing: Timing,
}

impl Contact {
    /// Loads the credentials.
    pub(super) async fn open(settings: KubeSettings, timing: Timing) -> Result<Self, SourceError> {
        let session = Session::open(settings.access, timing.renewal).await;
        let session = session.map_err(|e| SourceError::Credentials(e.to_string()))?;
        let mut namespaces: Vec<Option<Arc<str>>> =
            settings.namespaces.iter().map(|n| Some(n.as_str().into())).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        if namespaces.is_empty() {
            namespaces.push(None);
        }
        Ok(Self { session: Arc::new(session), namespaces, endpoints_api: settings.endpoints_api, timing })
    }

    /// One attempt.
    pub(super) async fn make(&self) -> Result<KubeSource, SourceError> {
        let session = &self.session;
        let version = connect::contact(session).await?;
        let endpoints = connect::endpoints(session, self.endpoints_api).await?;
        let mut scopes = vec![(Resource::Nodes, None)];
        for namespace in &self.namespaces {
            scopes.extend([(Resource::Services, namespace.clone()), (endpoints, namespace.clone())]);
        }
        connect::permissions(session, &scopes).await?;
        Ok(KubeSource { session: session.clone(), version, scopes, timing: self.timing })
    }

    /// Attempts until one succeeds. What fails is logged, at first and then every minute.
    pub(super) async fn keep_trying(&self) -> KubeSource {
        let mut backoff = Backoff::new(Timing { most_wait: MOST_WAIT.min(self.timing.most_wait), ..self.timing });
        let mut waiting = Waiting::new(self.timing.tell_again);
        loop {
            let lease = self.session.client().await;
            let error = match self.make().await {
                Ok(source) => {
                    waiting.over();
                    return source;
                }
                Err(error) => error,
            };
            waiting.tell(&error, Instant::now());
            let wait = backoff.failed(None);
            let renew = matches!(error, SourceError::Refused(_)) || backoff.failures().is_multiple_of(RENEW_EVERY);
            if renew && let Err(error) = self.session.refused(&lease).await {
                tracing::debug!("loading the credentials again failed: {error}");
            }
            tokio::time::sleep(wait).await;
        }
    }
}
