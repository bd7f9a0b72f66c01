//! The API itself: pure, from a request and a state to an answer and the next state.

mod error;
mod route;
mod server;
mod state;
mod status;

pub use error::{ApiError, Code};
pub use route::{Answer, Request, answer};
pub use server::Server;
pub use state::{Peer, PeerState, State, Upstream, Zone};

/// The versions of the API that a stand-in has unless it is told others: those of NGINX Plus R30 and later.
pub const VERSIONS: [u32; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];
