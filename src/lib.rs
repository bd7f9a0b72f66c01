//! LBEX: makes a Linux host with NGINX the external load balancer of a Kubernetes cluster.
//!
//! [`engine`] is the one loop to read first. A binary with a backend of its own parses the command line with [`cli::parse`] and calls
//! [`run::controller`] with a function that opens it.

pub mod admin;
pub mod cli;
pub mod engine;
pub mod host;
pub mod logging;
#[cfg(feature = "plugins")]
pub mod plugin;
pub mod publish;
pub mod registry;
pub mod run;
pub mod settings;
pub mod source;
pub mod state;
pub mod supervisor;
