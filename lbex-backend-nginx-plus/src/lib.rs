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
