//! The API of NGINX Plus: what it says, and a client for the calls that LBEX needs.

mod types;

pub use types::{
    ErrorBody, ErrorDetail, FAIL_TIMEOUT, MAX_FAILS, NewServer, NginxInfo, Patch, Peer, PeerState, Server, Upstream,
    Upstreams,
};
