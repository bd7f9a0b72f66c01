//! Endpoint changes that reach NGINX without a reload. What a change does to traffic is in `traffic`; here is that nothing else
//! happens to it, and what happens where something goes wrong.

mod empty;
mod faults;
mod killed;
mod load;
mod order;
mod responder;
mod restarts;
mod sizes;
mod stock;
mod storm;
mod variants;

use anyhow::{Result, ensure};
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::wait::{SOON, eventually};

/// Makes a test of each function, on one NGINX. As root it runs inside a network namespace of its own: there the responder's port is
/// nobody else's while LBEX is away.
macro_rules! on_nginx {
    ($nginx:ident: $($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn alone() -> ::anyhow::Result<()> {
                crate::support::alone(|| super::$name(::lbex_test_harness::nginx::Nginx::$nginx)).await
            }
        }
    )+};
}
pub(crate) use on_nginx;

/// What an LBEX has done so far to change what NGINX serves.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Counts {
    /// Changes of endpoints without a reload.
    pushes: f64,
    /// Services that did not get theirs in time.
    late: f64,
    reloads: f64,
}

impl Counts {
    async fn of(lbex: &Lbex) -> Result<Self> {
        let count = async |name: &str, labels: &[(&str, &str)]| -> Result<f64> {
            Ok(lbex.metric(name, labels).await?.unwrap_or_default())
        };
        Ok(Self {
            pushes: count("lbex_push_duration_seconds_count", &[]).await?,
            late: count("lbex_late_pushes_total", &[]).await?,
            reloads: count("lbex_apply_duration_seconds_count", &[("action", "reloaded")]).await?,
        })
    }

    /// Waits until `pushes` more changes were pushed, and fails if any was not.
    async fn only_pushed(self, lbex: &Lbex, pushes: u32) -> Result<()> {
        self.then(lbex, pushes, 0).await
    }

    /// Waits until there were this many pushes at least and exactly this many reloads, and fails if a push was late.
    async fn then(self, lbex: &Lbex, pushes: u32, reloads: u32) -> Result<()> {
        let what = format!("{pushes} pushes, {reloads} reloads");
        eventually(&what, SOON, || async {
            let now = Self::of(lbex).await?;
            let reloaded = now.reloads - self.reloads;
            ensure!(now.pushes >= self.pushes + f64::from(pushes), "{self:?}, now {now:?}");
            ensure!((reloaded - f64::from(reloads)).abs() < 0.5, "{self:?}, now {now:?}");
            Ok(now)
        })
        .await
        .and_then(|now| {
            ensure!((now.late - self.late).abs() < 0.5, "late: {self:?}, now {now:?}");
            Ok(())
        })
    }
}
