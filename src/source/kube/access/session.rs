//! The client that is in use, renewed when its credentials end or are refused.

use std::time::{Duration, Instant};

use ::kube::Client;
use http::Uri;
use tokio::sync::Mutex;

use super::{Access, AccessError, Opened};

/// Keeps one client for everything that talks to the API server.
pub(in crate::source::kube) struct Session {
    access: Access,
    server: Uri,
    /// The least time between two renewals.
    interval: Duration,
    state: Mutex<State>,
}

struct State {
    opened: Opened,
    generation: u64,
    renewed: Instant,
    failed: Option<AccessError>,
}

/// A client, and which renewal it comes from.
pub(in crate::source::kube) struct Lease {
    pub(in crate::source::kube) client: Client,
    generation: u64,
}

impl Session {
    /// Loads the credentials for the first time. Later they are loaded anew at the most once in `interval`.
    pub(in crate::source::kube) async fn open(access: Access, interval: Duration) -> Result<Self, AccessError> {
        let opened = access.open().await?;
        if opened.unverified {
            tracing::warn!(
                "the certificate of the API server {} is not verified (insecure-skip-tls-verify of {access}): anybody on the \
                 way there could pose as it",
                opened.server
            );
        }
        let server = opened.server.clone();
        let state = State { opened, generation: 0, renewed: Instant::now(), failed: None };
        Ok(Self { access, server, interval, state: Mutex::new(state) })
    }

    /// How the API server is reached, in words.
    pub(in crate::source::kube) fn shown(&self) -> String {
        match self.access {
            Access::Proxy(_) => self.access.to_string(),
            _ => format!("{} (as {} says)", self.server, self.access),
        }
    }

    /// The client of now. Credentials that are about to end are loaded anew first; if that fails, those at hand are used as long
    /// as the API server takes them (files of tokens may be gone for a moment, or for good).
    pub(in crate::source::kube) async fn client(&self) -> Lease {
        let mut state = self.state.lock().await;
        if state.opened.renew.is_some_and(|renewal| renewal.is_due()) && state.renewed.elapsed() >= self.interval {
            self.renew(&mut state).await;
        }
        Lease { client: state.opened.client.clone(), generation: state.generation }
    }

    /// Tells that the API server refused the lease's credentials, or that TLS failed with them: they are loaded anew, once for
    /// all that tell so. An error says why that failed.
    pub(in crate::source::kube) async fn refused(&self, lease: &Lease) -> Result<(), AccessError> {
        let mut state = self.state.lock().await;
        if state.generation == lease.generation && state.renewed.elapsed() >= self.interval {
            self.renew(&mut state).await;
        }
        state.failed.clone().map_or(Ok(()), Err)
    }

    async fn renew(&self, state: &mut State) {
        state.renewed = Instant::now();
        match self.access.open().await {
            Ok(opened) if opened.server != self.server => {
                // Another cluster, perhaps: nothing may be removed because of that.
                let problem =
                    format!("it names the server {} now, not {} as when LBEX started", opened.server, self.server);
                let remedy = "start LBEX again to move to that";
                state.failed = Some(AccessError::new(self.access.to_string(), problem, remedy));
            }
            Ok(opened) => {
                tracing::debug!("loaded the credentials of {} again", self.access);
                state.opened = opened;
                state.generation += 1;
                state.failed = None;
            }
            Err(error) => {
                if state.failed.as_ref() != Some(&error) {
                    tracing::warn!("cannot renew the credentials, using those at hand: {error}");
                }
                state.failed = Some(error);
            }
        }
    }
}
