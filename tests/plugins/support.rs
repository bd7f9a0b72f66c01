//! Plugins in C, compiled for the tests, and LBEX with one of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex::plugin::{Deadlines, OpenError, PluginBackend, PluginOptions};
use lbex_core::desired::{Algorithm, Delta, DesiredState, Listener, Servers, ServiceChange, ServiceConfig, Upstream};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;
use lbex_test_harness::Scratch;

/// The LBEX under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lbex"))
}

/// A path in LBEX's tree.
pub(crate) fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compiles a plugin into `folder`, as strictly as its author would.
fn compiled(folder: &Path, name: &str, source: &Path, include: &Path, defines: &[&str]) -> Result<PathBuf> {
    let library = folder.join(format!("lib{name}.so"));
    let flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-shared", "-fPIC", "-pthread"];
    let mut cc = Command::new("cc");
    cc.args(flags).args(defines).arg("-I").arg(include).arg("-o").arg(&library).arg(source);
    let output = cc.output().context("failed to run cc")?;
    ensure!(output.status.success(), "cc {}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    Ok(library)
}

/// The example in C.
pub(crate) fn example_c(folder: &Path) -> Result<PathBuf> {
    compiled(folder, "file", &root("plugins/example-c/file.c"), &root("plugins/include"), &[])
}

/// The example in a folder that holds the header too: as it was when the ABI was that.
pub(crate) fn example_of(folder: &Path, fixture: &Path) -> Result<PathBuf> {
    compiled(folder, "file", &fixture.join("file.c"), fixture, &[])
}

/// The plugin that does wrong; what is wrong with the library itself is `defines`.
pub(crate) fn faulty(folder: &Path, defines: &[&str]) -> Result<PathBuf> {
    compiled(folder, "faulty", &root("plugins/faulty/faulty.c"), &root("plugins/include"), defines)
}

/// Runs LBEX with the library as its backend until it ends.
pub(crate) fn run_with(folder: &Path, backend: &Path, more: &[String]) -> Result<Output> {
    let output = Command::new(binary())
        .arg(format!("--backend={}", backend.display()))
        .arg(format!("--manifests={}", folder.display()))
        .arg(format!("--nginx-prefix={}", folder.join("prefix").display()))
        .args(["--health-check=false", "--metrics-address=off"])
        .args(more)
        .output();
    output.context("failed to run LBEX")
}

/// Times that a plugin keeps, also on a machine that has much else to do.
pub(crate) const PATIENT: Deadlines = Deadlines {
    open: Duration::from_secs(10),
    apply: Duration::from_secs(3),
    push: Duration::from_secs(2),
    observe: Duration::from_secs(2),
    stop: Duration::from_secs(2),
    grace: Duration::from_secs(5),
};

/// Short times, so that a plugin that hangs keeps no test waiting.
pub(crate) const SHORT: Deadlines = Deadlines {
    open: Duration::from_secs(10),
    apply: Duration::from_millis(300),
    push: Duration::from_millis(200),
    observe: Duration::from_millis(200),
    stop: Duration::from_millis(300),
    grace: Duration::from_millis(500),
};

/// A plugin that is open in this process.
pub(crate) struct Bench {
    pub(crate) backend: PluginBackend,
    pub(crate) desired: DesiredState,
    folder: Scratch,
}

impl Bench {
    /// Opens the faulty plugin with a fault.
    pub(crate) async fn faulty(fault: &str) -> Result<Self> {
        Self::open(faulty, fault).await?.map_err(Into::into)
    }

    /// Opens a plugin with this configuration. One that is to hang is given up soon.
    pub(crate) async fn open(
        library: impl FnOnce(&Path, &[&str]) -> Result<PathBuf>,
        config: &str,
    ) -> Result<Result<Self, OpenError>> {
        let folder = Scratch::new("plugin")?;
        let config_file = folder.join("config");
        std::fs::write(&config_file, format!("{config}\n"))?;
        let options = PluginOptions {
            library: library(folder.path(), &[])?,
            prefix: folder.join("prefix"),
            config: Some(config_file),
            shutdown_timeout: None,
            deadlines: if config.ends_with(" hang") { SHORT } else { PATIENT },
        };
        let opened = PluginBackend::open(options).await;
        Ok(opened.map(|backend| Self { backend, desired: DesiredState::default(), folder }))
    }

    /// From now on the faulty plugin does as it should.
    pub(crate) fn fix(&self) -> Result<()> {
        Ok(std::fs::write(self.plugin_folder().join("fault"), "")?)
    }

    /// And no longer.
    pub(crate) fn unfix(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.plugin_folder().join("fault"))?)
    }

    /// The folder that is the faulty plugin's own.
    pub(crate) fn plugin_folder(&self) -> PathBuf {
        self.folder.join("prefix/plugins/faulty")
    }

    /// Changes the desired state by one Service, which has a server number `server`.
    pub(crate) fn change(&mut self, name: &str, server: u8) -> Delta {
        let key = ServiceKey::new("default", name).unwrap_or_else(|error| panic!("{error}"));
        let after = Some(config(&key, server));
        let before = self.desired.services.get(&key).cloned();
        let changes = ServiceChange::between(before, after).map(|change| (key, change));
        let from = self.desired.generation;
        let delta = Delta { from, to: from + 1, changes: changes.into_iter().collect::<BTreeMap<_, _>>() };
        self.desired.advance(&delta);
        delta
    }
}

fn config(key: &ServiceKey, server: u8) -> Arc<ServiceConfig> {
    let listener = Listener {
        protocol: Protocol::Tcp,
        port: 80,
        addresses: vec!["127.0.0.1".parse().unwrap_or_else(|error| panic!("{error}"))].into(),
        allow: Vec::new().into(),
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(60),
        upstream: Upstream {
            algorithm: Algorithm::RoundRobin,
            servers: Servers::Addresses(vec![([10, 0, 0, server], 80).into()].into()),
        },
    };
    Arc::new(ServiceConfig { service: key.clone(), created: None, listeners: vec![listener] })
}
