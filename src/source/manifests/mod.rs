//! Manifest files as a source (`--manifests`, contract section 2).

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
