//! Service, Node, EndpointSlice and Endpoints as Kubernetes writes them, as far as LBEX reads them.
//!
//! The types are for both ways in: JSON from the API server and manifest files. What LBEX does not use is skipped while it is
//! read and never stored (managed fields, statuses, foreign annotations), so that a long list costs little memory. Fields are as
//! wide as the wire allows (a port is an `i64` here); [`ServiceObject::into_model`] and its siblings check them and make
//! [`lbex_core::model`] objects. One that is not valid becomes an [`ObjectError`] and concerns no other.

mod checks;
mod endpoints;
mod error;
mod meta;
mod node;
mod service;
#[cfg(test)]
mod tests;

pub use endpoints::{EndpointSliceObject, EndpointsObject};
pub use error::ObjectError;
pub use meta::{Annotations, DEFAULT_NAMESPACE, Labels, Meta};
pub use node::NodeObject;
pub use service::ServiceObject;
