//! Writing objects to an API server.

use anyhow::{Context, Result};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::Object;

/// The kinds that tests name, with their API versions.
const KINDS: [(&str, &str); 14] = [
    ("Service", "v1"),
    ("Node", "v1"),
    ("Endpoints", "v1"),
    ("EndpointSlice", "discovery.k8s.io/v1"),
    ("Pod", "v1"),
    ("Namespace", "v1"),
    ("ConfigMap", "v1"),
    ("ServiceAccount", "v1"),
    ("Deployment", "apps/v1"),
    ("Event", "events.k8s.io/v1"),
    ("Lease", "coordination.k8s.io/v1"),
    ("ClusterRole", "rbac.authorization.k8s.io/v1"),
    ("ClusterRoleBinding", "rbac.authorization.k8s.io/v1"),
    ("RoleBinding", "rbac.authorization.k8s.io/v1"),
];

/// The kinds that are not in a namespace.
const CLUSTER_WIDE: [&str; 4] = ["Node", "Namespace", "ClusterRole", "ClusterRoleBinding"];

/// Writes objects to an API server, in one namespace unless an object names another.
///
/// Each method fails with the API server's message, and with the kind and name of the object.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    namespace: String,
}

impl Objects {
    /// With a client of the test's own (see [`ApiServer::client`](crate::apiserver::ApiServer::client)) and a namespace.
    pub fn new(client: Client, namespace: impl Into<String>) -> Self {
        Self { client, namespace: namespace.into() }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Makes an object, of a Node its status too; returns what the API server made of it.
    pub async fn create(&self, object: &dyn Object) -> Result<Value> {
        let (api, name, object) = self.parse(object)?;
        let made =
            api.create(&PostParams::default(), &object).await.with_context(|| format!("failed to create {name}"))?;
        Ok(serde_json::to_value(made)?)
    }

    /// Makes several objects, one after the other.
    pub async fn create_all<'a>(&self, objects: impl IntoIterator<Item = &'a dyn Object>) -> Result<()> {
        for object in objects {
            self.create(object).await?;
        }
        Ok(())
    }

    /// Makes an object, or replaces the one that is there, of a Node its status too. Where a controller changes it between
    /// reading and replacing, it is read again.
    pub async fn put(&self, object: &dyn Object) -> Result<()> {
        let (api, name, new) = self.parse(object)?;
        for tries_left in (0..20).rev() {
            let Some(old) = api.get_opt(&new.name_any()).await.with_context(|| format!("failed to get {name}"))? else {
                return self.create(object).await.map(drop);
            };
            let new = in_place_of(&old, new.clone());
            match api.replace(&new.name_any(), &PostParams::default(), &new).await {
                Err(kube::Error::Api(refusal)) if refusal.code == 409 && tries_left > 0 => {}
                done => {
                    done.with_context(|| format!("failed to replace {name}"))?;
                    break;
                }
            }
        }
        match new.data.get("status") {
            None => Ok(()),
            Some(status) => {
                self.patch_status(&new.types.unwrap_or_default().kind, &new.metadata.name.unwrap_or_default(), status)
                    .await
            }
        }
    }

    /// Changes part of an object by a JSON merge patch: null removes, lists are replaced.
    pub async fn patch(&self, kind: &str, name: &str, changes: &Value) -> Result<()> {
        let api = self.api(kind)?;
        let done = api.patch(name, &PatchParams::default(), &Patch::Merge(changes)).await;
        done.map(drop).with_context(|| format!("failed to patch {kind} {name}"))
    }

    /// Changes part of the status of an object by a JSON merge patch.
    pub async fn patch_status(&self, kind: &str, name: &str, status: &Value) -> Result<()> {
        let api = self.api(kind)?;
        let patch = json!({"status": status});
        let done = api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        done.map(drop).with_context(|| format!("failed to patch the status of {kind} {name}"))
    }

    /// Sets an annotation, or removes it (`None`).
    pub async fn annotate(&self, kind: &str, name: &str, annotation: &str, value: Option<&str>) -> Result<()> {
        self.patch(kind, name, &json!({"metadata": {"annotations": {annotation: value}}})).await
    }

    /// Deletes an object.
    pub async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        let done = self.api(kind)?.delete(name, &DeleteParams::default()).await;
        done.map(drop).with_context(|| format!("failed to delete {kind} {name}"))
    }

    /// Gets an object.
    pub async fn get(&self, kind: &str, name: &str) -> Result<Value> {
        let object = self.api(kind)?.get(name).await.with_context(|| format!("failed to get {kind} {name}"))?;
        Ok(serde_json::to_value(object)?)
    }

    /// Lists the objects of a kind in the namespace (of Nodes and the like: all).
    pub async fn list(&self, kind: &str) -> Result<Vec<Value>> {
        let list =
            self.api(kind)?.list(&ListParams::default()).await.with_context(|| format!("failed to list {kind}"))?;
        list.items.into_iter().map(|item| Ok(serde_json::to_value(item)?)).collect()
    }

    fn parse(&self, object: &dyn Object) -> Result<(Api<DynamicObject>, String, DynamicObject)> {
        let object: DynamicObject =
            serde_json::from_value(object.json()).context("an object of the test is not valid")?;
        let types = object.types.clone().context("an object of the test has no kind")?;
        let name = format!("{} {}", types.kind, object.name_any());
        let api = self.api_of(&types.api_version, &types.kind, object.metadata.namespace.as_deref());
        Ok((api, name, object))
    }

    fn api(&self, kind: &str) -> Result<Api<DynamicObject>> {
        let (_, version) =
            KINDS.iter().find(|(name, _)| *name == kind).with_context(|| format!("unknown kind {kind}"))?;
        Ok(self.api_of(version, kind, None))
    }

    fn api_of(&self, version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let resource = match kind {
            "Endpoints" => ApiResource::from_gvk_with_plural(&gvk, "endpoints"),
            _ => ApiResource::from_gvk(&gvk),
        };
        if CLUSTER_WIDE.contains(&kind) {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace.unwrap_or(&self.namespace), &resource)
        }
    }
}

/// `new` with what an API server wants to see of `old`: its version, and ClusterIPs, which never change.
fn in_place_of(old: &DynamicObject, mut new: DynamicObject) -> DynamicObject {
    new.metadata.resource_version.clone_from(&old.metadata.resource_version);
    if new.types.as_ref().is_some_and(|types| types.kind == "Service") {
        for field in ["clusterIP", "clusterIPs"] {
            if new.data["spec"].get(field).is_none() && old.data["spec"].get(field).is_some() {
                new.data["spec"][field] = old.data["spec"][field].clone();
            }
        }
    }
    new
}
