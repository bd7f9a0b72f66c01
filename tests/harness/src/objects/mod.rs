//! Short ways to build Kubernetes objects and to write them, to an API server or as manifests.
//!
//! The builders ([`service`], [`node`], [`slice()`], [`endpoints`]) make JSON, and so does `json!`: whatever is an
//! [`Object`] can be written. [`Objects`] writes to an API server, [`list`] makes a manifest.

// Calls read better with `json!(...)` and addresses as they are than with references to them.
#![allow(clippy::needless_pass_by_value)]

mod endpoints;
mod node;
mod service;
mod store;

use serde_json::{Value, json};

pub use endpoints::{Endpoint, EndpointSlice, Endpoints, endpoint, endpoints, slice};
pub use node::{Node, node};
pub use service::{Service, service};
pub use store::Objects;

/// The `spec.loadBalancerClass` by which a Service asks for LBEX, unless LBEX is told another.
pub const LOAD_BALANCER_CLASS: &str = "lbex.io/lbex";

/// Something that can be written to an API server or to a manifest: with `apiVersion`, `kind` and a name.
pub trait Object: Sync {
    /// The object as JSON.
    fn json(&self) -> Value;
}

impl Object for Value {
    fn json(&self) -> Value {
        self.clone()
    }
}

/// A manifest with several objects: JSON text (which is YAML too) of a `kind: List`.
pub fn list<'a>(objects: impl IntoIterator<Item = &'a dyn Object>) -> String {
    let items: Vec<_> = objects.into_iter().map(Object::json).collect();
    format!("{:#}\n", json!({"apiVersion": "v1", "kind": "List", "items": items}))
}

/// Puts `changes` over `target`: objects are merged, everything else is replaced, null removes.
fn merge(target: &mut Value, changes: &Value) {
    let Value::Object(changes) = changes else {
        *target = changes.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            target.as_object_mut().and_then(|target| target.remove(key));
        } else {
            merge(&mut target[key], change);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{endpoint, list, merge, node, service, slice};

    #[test]
    fn merge_merges_objects_replaces_the_rest_and_removes_nulls() {
        let mut target = json!({"a": {"b": 1, "c": 2}, "d": [1, 2]});
        merge(&mut target, &json!({"a": {"b": 3, "c": null}, "d": [4], "e": {"f": 5}}));
        assert_eq!(target, json!({"a": {"b": 3}, "d": [4], "e": {"f": 5}}));
    }

    #[test]
    fn a_list_holds_what_the_builders_made() {
        let text = list([
            &service("web").ask().tcp("http", 80, 30080).listen("http", 8080) as _,
            &node("n").internal("127.0.0.2") as _,
        ]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["items"][0]["metadata"]["annotations"]["loadbalancer-port.lbex/http"], "8080");
        assert_eq!(value["items"][0]["spec"]["ports"][0]["nodePort"], 30080);
        assert_eq!(value["items"][1]["status"]["addresses"], json!([{"type": "InternalIP", "address": "127.0.0.2"}]));
    }

    #[test]
    fn the_builders_make_what_the_typed_api_knows() {
        let made = slice("web-1", "web").tcp("http", 8080).endpoint(endpoint("198.18.0.2").node("n").terminating());
        let made: k8s_openapi::api::discovery::v1::EndpointSlice =
            serde_json::from_value(super::Object::json(&made)).unwrap();
        let endpoints = made.endpoints.unwrap();
        let conditions = endpoints[0].conditions.clone().unwrap();
        assert_eq!(
            (conditions.ready, conditions.serving, conditions.terminating),
            (Some(false), Some(true), Some(true))
        );
        assert_eq!(endpoints[0].node_name.as_deref(), Some("n"));
    }
}
