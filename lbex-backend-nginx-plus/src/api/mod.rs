//! The API of NGINX Plus: what it says, and a client for the calls that LBEX needs.

mod access;
mod address;
mod client;
mod error;
mod transport;
mod types;

pub use access::{AccessError, AccessFiles, Credentials};
pub use address::ApiUrl;
pub use client::{Client, VERSIONS};
pub use error::{ApiError, Problem, Scope};
pub use types::{
    ErrorBody, ErrorDetail, FAIL_TIMEOUT, MAX_FAILS, NewServer, NginxInfo, Patch, Peer, PeerState, Server, Upstream,
    Upstreams,
};
