//! What the benchmarks share.
#![allow(dead_code)] // each benchmark uses a part of it

pub(crate) mod cluster;
pub(crate) mod proxy;
pub(crate) mod stats;
pub(crate) mod table;

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Whether all is to be measured (`cargo bench`). If not (`cargo test --benches`), each benchmark runs once on a tiny cluster, to
/// show that it works.
pub(crate) fn whole() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// The LBEX binary of this build.
pub(crate) fn lbex() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lbex"))
}

/// The runtime that a benchmark's own clients and servers run on.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Raises the limit on open files as far as it goes, as LBEX does, and returns what it is: a plain NGINX started from here has
/// the same.
pub(crate) fn raise_file_limit() -> anyhow::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}
