//! What is measured: LBEX, by how endpoint changes reach its NGINX. Only one runs at a time.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::wait::eventually;

use super::cluster::Cluster;
use super::measure;
use super::prober::Prober;
use crate::common::proxy::{PATIENCE, local};

/// How endpoint changes reach NGINX.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum System {
    /// The embedded NGINX, pushed.
    Embedded,
    /// An NGINX of the same version without LBEX's changes, pushed.
    Stock(PathBuf),
    /// The embedded NGINX, reloaded.
    Reloaded,
}

impl System {
    /// Those that this machine can run.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Embedded];
        match Nginx::stock_path() {
            Ok(path) => all.push(Self::Stock(path)),
            Err(error) => println!("not measured: an NGINX without LBEX's changes: {error:#}"),
        }
        all.push(Self::Reloaded);
        all
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded, pushed",
            Self::Stock(_) => "stock, pushed",
            Self::Reloaded => "embedded, reloaded",
        }
    }

    /// Starts LBEX on the cluster as it is, and waits until the Service that changes is served.
    pub(crate) async fn start(&self, cluster: &Cluster) -> Result<Lbex> {
        cluster.set_endpoints(&[0]).await?;
        let kubeconfig = cluster.server.kubeconfig_admin().to_str().context("a path that is not UTF-8")?;
        let builder = Lbex::builder(crate::common::lbex())
            .args(["--kubeconfig", kubeconfig, "--listen-address=127.0.0.1"])
            .arg(format!("--endpoint-updates={}", if *self == Self::Reloaded { "reload" } else { "push" }));
        let builder = match self {
            Self::Stock(path) => builder.arg(format!("--nginx={}", path.display())),
            _ => builder.nginx(Nginx::Embedded),
        };
        let lbex = builder.start().await?;
        lbex.wait_healthy().await?;
        let prober = Prober::start(local(cluster.listener))?;
        measure::seen(&prober, 0).await.with_context(|| lbex.log_tail())?;
        prober.finish()?;
        if *self != Self::Reloaded {
            // NGINX begins with addresses, and is then told to ask for them: what is measured comes after that.
            let asks = async || {
                ensure!(reloads(&lbex).await? > 0.0, "NGINX still has the addresses it began with");
                Ok(())
            };
            eventually("NGINX asks for its servers", PATIENCE, asks).await.with_context(|| lbex.log_tail())?;
        }
        Ok(lbex)
    }
}

/// How often NGINX was reloaded since LBEX's start.
pub(crate) async fn reloads(lbex: &Lbex) -> Result<f64> {
    lbex.metric("lbex_reloads_total", &[]).await?.context("LBEX counts no reloads")
}
