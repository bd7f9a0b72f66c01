//! The conformance suite, run on each backend: a subject, and so a backend, is one small file here.

mod haproxy;

/// The LBEX under test.
fn binary() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_BIN_EXE_lbex"))
}
