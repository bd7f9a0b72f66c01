//! The first contact with the API server: does it answer, does it know us, may we see what is needed?

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use lbex_core::names::Quoted;
use serde::Deserialize;

use super::access::Session;
use super::explain;
use super::request::{Failure, get};
use super::resource::{Page, Resource};
use crate::settings::EndpointsApi;
use crate::source::SourceError;

/// How long the first answer may take.
const FIRST: Duration = Duration::from_secs(10);
/// How long each of the others may.
const NEXT: Duration = Duration::from_secs(30);

/// Asks for the API server's version.
pub(super) async fn contact(session: &Session) -> Result<String, SourceError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        git_version: String,
    }
    let lease = session.client().await;
    let page = async { get(&lease.client, "/version", FIRST, true).await?.page().await };
    let limited = tokio::time::timeout(FIRST, page).await;
    match limited.unwrap_or(Err(Failure::Silent(FIRST))) {
        Ok(bytes) => match serde_json::from_slice::<Version>(&bytes) {
            Ok(version) => Ok(version.git_version.chars().filter(char::is_ascii_graphic).take(80).collect()),
            Err(_) => Err(no_api_server(session, "its /version is no version of Kubernetes")),
        },
        // Hidden from those who may see nothing else of it: what is needed is asked for next.
        Err(Failure::Status { code: 403, .. }) => Ok("unknown".to_owned()),
        Err(Failure::Status { code: 404, .. }) => Err(no_api_server(session, "it has no /version")),
        Err(failure) => Err(failed(session, &failure)),
    }
}

fn no_api_server(session: &Session, why: &str) -> SourceError {
    let text =
        format!("what answers at {} is no Kubernetes API server: {why}; check the URL and its path", session.shown());
    SourceError::Unreachable(text)
}

fn failed(session: &Session, failure: &Failure) -> SourceError {
    let server = session.shown();
    match failure {
        Failure::Status { code: 401 | 403, .. } => {
            SourceError::Refused(format!("the API server at {server} refuses: {failure}"))
        }
        Failure::Silent(_) => SourceError::Unreachable(format!(
            "cannot reach the API server at {server}: {failure}; check the address, firewalls and that it is up"
        )),
        _ => SourceError::Unreachable(format!("cannot reach the API server at {server}: {failure}")),
    }
}

/// Which API to read endpoints from.
pub(super) async fn endpoints(session: &Session, wanted: EndpointsApi) -> Result<Resource, SourceError> {
    #[derive(Deserialize)]
    struct List {
        resources: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    match wanted {
        EndpointsApi::EndpointSlices => return Ok(Resource::EndpointSlices),
        EndpointsApi::Endpoints => return Ok(Resource::Endpoints),
        EndpointsApi::Auto => {}
    }
    let lease = session.client().await;
    let page = async { get(&lease.client, "/apis/discovery.k8s.io/v1", NEXT, true).await?.page().await };
    match page.await {
        Ok(bytes) => {
            let list: List = serde_json::from_slice(&bytes)
                .map_err(|_| no_api_server(session, "its /apis/discovery.k8s.io/v1 is no list of resources"))?;
            let has = list.resources.iter().any(|r| r.name == Resource::EndpointSlices.plural());
            Ok(if has { Resource::EndpointSlices } else { Resource::Endpoints })
        }
        Err(Failure::Status { code: 404, .. }) => Ok(Resource::Endpoints),
        // Not allowed to ask: every server since Kubernetes 1.21 has them.
        Err(Failure::Status { code: 403, .. }) => Ok(Resource::EndpointSlices),
        Err(failure) => Err(failed(session, &failure)),
    }
}

/// Tries to list and watch each kind. All that is missing is told at once. What is no refusal (a server that starts, or is
/// overloaded) is left to the followers, which try again.
pub(super) async fn permissions(session: &Session, scopes: &[(Resource, Option<Arc<str>>)]) -> Result<(), SourceError> {
    let all = scopes.iter().map(|(resource, namespace)| permission(session, *resource, namespace.as_deref()));
    let missing: Vec<String> = join_all(all).await.into_iter().flatten().collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(SourceError::Refused(format!("the API server at {} refuses: {}", session.shown(), missing.join("; "))))
}

/// What is missing for one kind.
async fn permission(session: &Session, resource: Resource, namespace: Option<&str>) -> Option<String> {
    let lease = session.client().await;
    let refused = |verb: &str, failure: &Failure| match failure {
        Failure::Status { code: 403, said, .. } => Some(explain::forbidden(verb, resource, namespace, said)),
        Failure::Status { code: 404, .. } if resource == Resource::EndpointSlices => Some(
            "it has no discovery.k8s.io/v1 EndpointSlices (Kubernetes before 1.21): use --endpoints-api auto"
                .to_owned(),
        ),
        Failure::Status { code: 401 | 404, .. } => Some(format!("cannot {verb} {}: {failure}", resource.plural())),
        _ => None,
    };
    let path = resource.path(namespace);
    let list = async { get(&lease.client, &format!("{path}limit=1"), NEXT, true).await?.page().await };
    let bytes = match list.await {
        Ok(bytes) => bytes,
        Err(failure) => return refused("list", &failure),
    };
    let page: Page = serde_json::from_slice(&bytes).ok()?;
    let version = page.metadata.resource_version.filter(|version| version.bytes().all(|b| b.is_ascii_digit()))?;
    // Its head is enough.
    let watch = format!("{path}watch=1&timeoutSeconds=1&resourceVersion={version}");
    let failure = get(&lease.client, &watch, NEXT, false).await.err()?;
    tracing::debug!("{} cannot be watched yet: {}", resource.plural(), Quoted(&failure.to_string()));
    refused("watch", &failure)
}
