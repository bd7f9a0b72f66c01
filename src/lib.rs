//! LBEX: makes a Linux host with NGINX the external load balancer of a Kubernetes cluster.
//!
//! [`engine`] is the one loop to read first. A binary with a backend of its own implements [`registry::LinkedBackend`] and calls
//! [`main`]: `docs/custom-binaries.md`.

pub mod admin;
pub mod cli;
pub mod engine;
pub mod host;
pub mod logging;
#[cfg(feature = "plugins")]
pub mod plugin;
pub mod prefix;
pub mod publish;
pub mod registry;
pub mod run;
pub mod settings;
pub mod source;
pub mod state;
pub mod supervisor;

use std::process::ExitCode;

use registry::Backends;

/// The program `lbex` with these backends: reads this process's arguments and environment, and does what they ask for. What is wrong
/// it says on standard error. To be called first of all, before there are other threads.
pub fn main(backends: &Backends) -> ExitCode {
    match cli::parse(std::env::args_os(), std::env::vars_os(), backends).and_then(run::run) {
        Ok(exit_code) => exit_code,
        Err(failure) => {
            eprintln!("lbex: {failure}");
            failure.exit_code()
        }
    }
}

/// What `docs/custom-binaries.md` shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/custom-binaries.md")]
struct Guide;
