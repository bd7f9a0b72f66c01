//! The documents that cross the border, as Rust types. Their JSON Schemas stand in `plugins/schemas`.
//!
//! A Service is named by the text `namespace/name`. A revision is a text that LBEX makes up: it is compared with others, and means
//! nothing else. Whoever reads ignores members that it does not know. Of words that stand for one of several things, LBEX sends only
//! those that the plugin's capabilities name.

mod answers;
mod begin;
mod state;

pub use answers::{Action, Instead, ListenerName, Observation, Refusal, ReloadReason, Report};
pub use begin::{Capabilities, ReservedPort, Settings};
pub use state::{Algorithm, Delta, Desired, Dns, Listener, Method, Protocol, Server, Service, Until};
