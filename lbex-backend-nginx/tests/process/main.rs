//! The processes of NGINX, on real NGINX: the embedded one and the system's.

mod lifecycle;
#[path = "../common/net.rs"]
mod net;
mod support;
mod upgrade;
