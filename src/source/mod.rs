//! Where LBEX learns what the cluster is like: the Kubernetes API, or manifest files.

pub mod manifests;
pub mod objects;
