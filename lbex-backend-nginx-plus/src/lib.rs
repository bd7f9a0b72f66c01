//! LBEX's NGINX Plus backend: endpoint changes through the API of NGINX Plus, on this host or elsewhere.

pub mod api;
pub mod calls;
