//! The border between LBEX and its plugins: the tables of functions that `lbex_plugin.h` describes ([`tables`]), and the JSON
//! documents that go through them ([`documents`]).
//!
//! Both sides are built with this crate, but never assume that the other was built with the same version of it: tables carry their
//! size and grow at the tail, documents carry a schema id and may have members that the reader does not know.

#[cfg(feature = "core")]
mod convert;
pub mod documents;
mod schema_id;
#[cfg(feature = "schemas")]
pub mod schemas;
pub mod tables;

#[cfg(feature = "core")]
pub use convert::{ReportError, report_to_core, service_from_core};
pub use schema_id::{Document, DocumentError, SchemaId, read, write};
