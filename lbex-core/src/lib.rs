//! The words of LBEX's domain, free of I/O, clocks, tokio, kube and NGINX.
//!
//! The state of a cluster flows one way, through pure functions, into one description of what the proxy should be:
//! [`snapshot::Snapshot`] -> [`selector`] -> [`intent`] -> [`resolver`] -> port claims -> [`desired::DesiredState`] and
//! [`desired::Delta`], with a [`rejection::Rejection`] for each problem. [`planner::Planner`] does that one change at a time;
//! [`oracle`] does it from scratch, and both must agree. A [`backend::ProxyBackend`] makes it so and reports.

pub mod addresses;
pub mod annotations;
pub mod backend;
pub mod desired;
pub mod duration;
pub mod hold;
pub mod intent;
pub mod model;
pub mod names;
pub mod oracle;
pub mod planner;
mod ports;
pub mod rejection;
pub mod resolver;
pub mod selector;
mod service;
pub mod settings;
pub mod snapshot;
