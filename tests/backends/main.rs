//! The conformance suite, run on each backend: a subject, and so a backend, is one small file here.

mod haproxy;
mod kernel;
mod nftables;
mod nginx;
#[cfg(feature = "backend-nginx-plus")]
mod plus;
#[cfg(feature = "backend-nginx-plus")]
mod troubled_api;

/// The LBEX under test.
fn binary() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_BIN_EXE_lbex"))
}
