//! A registry for images: Debian's, on this machine, without TLS.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use lbex_test_harness::ports::free_port;
use lbex_test_harness::process::Process;
use lbex_test_harness::wait::{SOON, eventually};
use lbex_test_harness::{Scratch, http, programs};

/// A running registry, which keeps what it has in a test's folder. Dropping it ends it.
pub(crate) struct Registry {
    port: u16,
    _process: Process,
}

impl Registry {
    /// Starts one on any port.
    pub(crate) async fn start(scratch: &Scratch) -> Result<Self> {
        Self::start_at(free_port()?, scratch).await
    }

    /// Starts one on this port.
    pub(crate) async fn start_at(port: u16, scratch: &Scratch) -> Result<Self> {
        let settings = scratch.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            scratch.join("registry").display(),
        );
        fs::write(&settings, text)?;
        let mut command = Command::new(programs::find("docker-registry")?);
        command.arg("serve").arg(settings);
        let process = Process::start("registry", &command, &scratch.join("registry.log"))?;
        eventually("the registry answers", SOON, || async {
            let answer = http::get(([127, 0, 0, 1], port).into(), "/v2/").await?;
            ensure!(answer.status == 200, "{answer:?} {}", process.log_tail());
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        Ok(Self { port, _process: process })
    }

    /// Where it is, as the name of an image has it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
