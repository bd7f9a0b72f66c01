//! Manifest files as a source (`--manifests`, contract section 2).
//!
//! ```text
//! watch: when to look -> store: which files changed, what they held when they last parsed
//!     -> parse: bytes to trees -> contents: trees to checked objects -> load: files together -> source: events
//! ```
//!
//! What is decided here, beyond the contract:
//!
//! - **A file that does not parse, or cannot be read, counts as unchanged**; so does a folder (or the folder of a single file) that
//!   vanishes. A file that is deleted, or emptied, takes its objects with it at once. A file that is being written to in place is
//!   left alone until its writer closes it; editors' and ConfigMaps' renames need no waiting.
//! - **Text is text as written**: annotation values (and names) may stand without quotes and are then read exactly as they are
//!   written: `0x7b` is "0x7b" and no port, `on` is "on". For annotations this is remembered and told, as an API server refuses it.
//!   Numbers must be decimal and unquoted. Where a boolean belongs, `yes`, `on` and their kin count, as Kubernetes reads YAML 1.1.
//! - Of a key that stands twice in a mapping the last counts, as with `kubectl`, with a hint. Merge keys (`<<`) work.
//! - Limits, each with an error: 100 MB per file, 1,000,000 objects per file, 100 levels of nesting, aliases that stand for more
//!   than 64 MiB in one document, lists within lists to a depth of 3.
//! - `--namespace` applies as it does to a cluster: objects of other namespaces are not there.

mod contents;
mod files;
mod kinds;
mod load;
mod parse;
mod problem;
mod source;
mod store;
#[cfg(test)]
mod tests;
mod watch;

pub use load::{Loaded, load};
pub use problem::{FileProblem, ProblemKind};
pub use source::start;
pub use watch::{Follower, NothingReadable};
