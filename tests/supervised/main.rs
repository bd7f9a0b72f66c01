//! LBEX under a supervisor that speaks systemd's protocol: what it is told, and the sockets that it keeps while LBEX is away.
//!
//! A test binary of its own: descriptors are handed to children here, which the children of other tests must not get.

#[path = "../manifests/support.rs"]
#[allow(dead_code, unused_imports, reason = "made for more than this needs")]
mod support;

mod kept;
mod paused;
mod refused;
mod supervisor;
