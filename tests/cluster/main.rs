//! LBEX on a real API server, with real packets through a real NGINX.
//!
//! One API server serves the whole test binary; each test has a namespace of its own, Nodes with names of their own, and LBEX
//! running with `--namespace`, so that tests run side by side. Tests about all Nodes, or that stop the API server, have
//! one of their own.

mod common;

mod access;
mod annotations;
mod changes;
mod external_name;
mod faults;
mod nodes;
mod ports;
mod readme;
mod restored;
mod resume;
mod rollout;
mod selection;
mod upstreams;
