//! An executable that LBEX takes for NGINX Plus, for tests of a whole LBEX: `nginx-plus-standin`.
//!
//! It says in `-V` what it is. It reads the configuration of an NGINX Plus and serves it by the open-source NGINX that LBEX carries, from
//! the folder `standin/` of its prefix:
//!
//! | of NGINX Plus | here |
//! | --- | --- |
//! | `http { server { listen; location { api } } }` | the stand-in's API answers there; nothing else of `http` is looked at |
//! | `state FILE` | servers are read from the file and written to it as NGINX Plus does; the open-source one gets them as `server` lines, anew at each change |
//! | `status_zone`, `slow_start` | left out |
//! | the room of a zone | never full, in the API |
//! | `least_time METHOD [inflight]` | its words are checked; then it is `least_conn` |
//! | a stream `server` on a UNIX socket that does `return` | the stand-in says it itself, once the old workers take nobody any more |
//! | `SIGHUP` | the configuration is read anew, the open-source NGINX reloaded, upstreams with a `state` keep their servers |
//! | `SIGUSR2` | not there: an error line |
//!
//! The process that LBEX sees (title, pid file, signals) is the stand-in's; the open-source NGINX below it ends when that is killed,
//! connections included, which is harsher than the real one, whose workers live on. `-t` names the files and lines of the original.

mod command;
mod conf;
mod config;
mod master;
mod statefile;
mod translate;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

pub use command::{Invocation, main};

/// The path of the executable, which Cargo puts beside the tests' folder.
///
/// Fails where it has not been built: `cargo test --workspace` does that, a test of another package alone does not.
pub fn program() -> Result<PathBuf> {
    let test = std::env::current_exe().context("the test does not find itself")?;
    let folder = test.parent().and_then(std::path::Path::parent).context("the test lies in no folder of Cargo's")?;
    let program = folder.join("nginx-plus-standin");
    let advice = "build it with the same profile: cargo build --workspace --bin nginx-plus-standin";
    ensure!(program.is_file(), "{} is missing: {advice}", program.display());
    Ok(program)
}
