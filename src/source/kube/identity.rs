//! Which cluster answers: the UID of its namespace `kube-system`, which every cluster has, which nobody can delete, and which is
//! another in every other cluster and in one that was set up anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;

use super::access::Lease;
use super::explain;
use super::request::{Failure, get};

/// Where it is.
const PATH: &str = "/api/v1/namespaces/kube-system";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest UID that is taken for one; those of Kubernetes have 36 characters.
const LONGEST: usize = 64;

/// Asks for the identity of the cluster.
#[derive(Debug, Default)]
pub(super) struct Identity {
    /// Whether it was known once.
    known: AtomicBool,
    /// Whether it was told that LBEX goes on without.
    told: AtomicBool,
}

impl Identity {
    /// The identity of the cluster that answers now. `None`: LBEX may not see it, or there is none, which is told once. A server
    /// that knew it and knows it no more is starting, or broken: that is a failure.
    pub(super) async fn read(&self, lease: &Lease) -> Result<Option<Arc<str>>, Failure> {
        let page = async { get(&lease.client, PATH, PATIENCE, true).await?.page().await };
        match page.await {
            Ok(bytes) => {
                let Some(uid) = uid(&bytes) else {
                    return self.without("its namespace kube-system has no UID");
                };
                self.known.store(true, Ordering::Relaxed);
                Ok(Some(uid))
            }
            Err(Failure::Status { code: 403, said, .. }) => {
                let said = explain::said_by_server(&said);
                self.say(&format!(
                    "LBEX may not get the namespace kube-system (examples/kubernetes/rbac.yaml has the rule){said}"
                ));
                Ok(None)
            }
            Err(Failure::Status { code: 404, .. }) => self.without("it has no namespace kube-system"),
            Err(failure) => Err(failure),
        }
    }

    fn without(&self, why: &str) -> Result<Option<Arc<str>>, Failure> {
        if self.known.load(Ordering::Relaxed) {
            return Err(Failure::Unexpected(format!("the API server is not as it was: {why}")));
        }
        self.say(why);
        Ok(None)
    }

    fn say(&self, why: &str) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the identity of the cluster is not known, so that LBEX cannot tell it from another one: {why}"
            );
        }
    }
}

/// The UID of a namespace, if it is one.
fn uid(json: &[u8]) -> Option<Arc<str>> {
    #[derive(Deserialize)]
    struct Namespace {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        uid: String,
    }
    let Namespace { metadata: Metadata { uid } } = serde_json::from_slice(json).ok()?;
    let plain = uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (plain && (1..=LONGEST).contains(&uid.len())).then(|| uid.into())
}

#[cfg(test)]
mod tests {
    use super::uid;

    #[test]
    fn a_uid_is_short_and_plain() {
        let of = |text: &str| uid(serde_json::json!({"metadata": {"uid": text}}).to_string().as_bytes());
        assert_eq!(of("6b6c9c3e-1d2f-4a51-9d3e-0e3c5b7f8a90").as_deref(), Some("6b6c9c3e-1d2f-4a51-9d3e-0e3c5b7f8a90"));
        for text in ["", "a b", "a\nb", &"a".repeat(65)] {
            assert_eq!(of(text), None, "{text:?}");
        }
        assert_eq!(uid(b"{}"), None);
    }
}
