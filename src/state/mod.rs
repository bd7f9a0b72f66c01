//! The last good state: what LBEX last knew to be right, on disk, so that a host that reboots serves before, and whether or not,
//! the API server answers (contract sections 2 and 8).
//!
//! ```text
//! start:    StateFile::load -> fit (this instance's addresses, ports, proxy) -> engine, as the first delta
//! running:  engine -> LastGood: deltas handed over, generations confirmed -> StateFile::save, now and then
//! ```
//!
//! It is what the proxy should be and not how a proxy is configured, so that every backend has it.

mod file;
mod fit;
mod keeper;
mod known;
mod load;
mod saved;
mod scope;
mod store;
#[cfg(test)]
mod tests;

pub use file::{ReadError, StateFile};
pub use fit::{LeftOut, fit};
pub use keeper::LastGood;
pub use load::load;
pub use saved::{Remembered, SavedState};
pub use scope::Scope;
pub use store::{Before, Store};
