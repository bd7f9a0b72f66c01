//! What LBEX and NGINX take when nothing happens.

use std::time::{Duration, Instant};

use anyhow::Result;
use lbex_test_harness::lbex::Lbex;

use super::usage::{Processor, nginx_memory};

/// What was used in a time without changes and clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) took: Duration,
    pub(crate) used: Processor,
    /// Resident memory of LBEX, and what the processes of NGINX take, in bytes.
    pub(crate) lbex_memory: u64,
    pub(crate) nginx_memory: u64,
}

/// Lets that time pass.
pub(crate) async fn run(lbex: &Lbex, time: Duration) -> Result<Idle> {
    // What the last change has left to do: the last good state is saved a while after it.
    tokio::time::sleep(time / 6).await;
    let (begin, before) = (Instant::now(), Processor::of(lbex)?);
    tokio::time::sleep(time).await;
    let (took, used) = (begin.elapsed(), Processor::of(lbex)?.since(before));
    Ok(Idle { took, used, lbex_memory: lbex.resident_bytes()?, nginx_memory: nginx_memory(lbex)? })
}
