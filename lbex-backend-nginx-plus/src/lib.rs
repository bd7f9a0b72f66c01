//! LBEX's NGINX Plus backend: endpoint changes through the API of NGINX Plus, on this host or elsewhere.
//!
//! ```text
//! desired servers ─> fleet ─> instance, one task each ─> converge ─> calls (pure) ─> api
//! ```

pub mod api;
pub mod calls;
mod converge;
mod fleet;
mod instance;
mod local;
mod remote;

pub use instance::Pace;
pub use local::LocalBackend;
pub use remote::{RemoteBackend, RemoteError, RemoteOptions};

use lbex_core::backend::Capabilities;

/// What NGINX Plus can do, without one at hand (`lbex validate`). `elsewhere`: it is driven through its API only.
pub fn capabilities(elsewhere: bool) -> Capabilities {
    Capabilities {
        description: "NGINX Plus".to_owned(),
        // Elsewhere connections are spread as the upstream there says.
        least_time: true,
        dns_servers: !elsewhere,
        live_servers: true,
        drains: true,
        ..Capabilities::default()
    }
}
