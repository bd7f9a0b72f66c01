//! LBEX's open-source NGINX backend.

// So that unit tests can use what the integration tests share.
#[cfg(test)]
extern crate self as lbex_backend_nginx;

pub mod backend;
pub mod binary;
pub mod check;
pub mod confirm;
pub mod embedded;
pub mod files;
pub mod limits;
pub mod prefix;
pub mod probe;
pub mod process;
pub mod push;
pub mod render;

pub use backend::{
    EndpointUpdates, NginxBackend, NginxOptions, OpenError, Render, RenderOptions, find_plus, render_only, render_plus,
};
pub use push::{LeftSockets, SocketKeeper};

use binary::{Candidate, Origin};
use lbex_core::backend::Capabilities;

/// What the backend can do with an NGINX that was found; it need not be installed yet (`lbex render`, `lbex validate`).
pub fn capabilities(candidate: &Candidate) -> Capabilities {
    let origin = match candidate {
        Candidate::System(binary) if binary.origin == Origin::System => binary.path.display().to_string(),
        Candidate::System(_) | Candidate::Embedded { .. } => "embedded".to_owned(),
    };
    Capabilities {
        description: format!("NGINX {} ({origin})", candidate.version()),
        least_time: candidate.capabilities().least_time,
        ..Capabilities::default()
    }
}
