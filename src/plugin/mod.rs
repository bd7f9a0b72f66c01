//! Backends that are shared libraries (contract section 7). `plugins/include/lbex_plugin.h` is the border; this is LBEX's side of it.
//!
//! `trust` says which files may be loaded, [`find`] finds them by name. `library` loads one and `table` calls what it opened:
//! these two, and reading a plugin's memory (`memory`), are the only `unsafe` code of LBEX. `thread` is the one OS thread that a
//! plugin is called on: bytes go in, bytes come out. `backend` is the [`ProxyBackend`](lbex_core::backend::ProxyBackend), and
//! `revisions` knows what the plugin has and what it still has to be told.

mod backend;
pub mod check;
mod deadlines;
mod fault;
pub mod find;
mod host;
mod library;
mod memory;
mod revisions;
mod table;
mod thread;
mod trust;

pub use crate::prefix::PrefixError;
pub use backend::{OpenError, PluginBackend, PluginOptions};
pub use deadlines::Deadlines;
pub use fault::Fault;
pub use library::{LoadError, PluginInfo};
pub use trust::Distrust;

/// The version of the plugin ABI that this LBEX has.
pub const ABI: (u16, u16) = (lbex_plugin_abi::tables::ABI_MAJOR, lbex_plugin_abi::tables::ABI_MINOR);
