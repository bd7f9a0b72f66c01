//! A world: a cluster, LBEX that follows it, its NGINX on a disk of its own, servers, and clients.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::backends::{tcp_ask, udp_ask};
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::netns::Netns;
use lbex_test_harness::nginx::{NginxProcess, processes_of};
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::programs;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::cluster::Cluster;
use crate::disk::Disk;
use crate::excuses::{On, Windows};
use crate::services::{Life, Served, put_nodes, services};
use crate::traffic::{Rate, Target, Traffic};

/// How long it may take until everybody is served again after a fault.
const AGAIN: Duration = Duration::from_secs(60);

/// How long ago a fault may be over when it is noticed that LBEX ended because of it.
const LATELY: Duration = Duration::from_secs(1);

/// Ports for Services that faults make.
const SPARE_PORTS: usize = 10;

/// Everything there is. All of it is inside one network namespace, where nothing else is.
pub(crate) struct World {
    pub(crate) netns: Arc<Netns>,
    pub(crate) cluster: Cluster,
    pub(crate) services: Vec<Served>,
    /// Nothing of the first Services listens there.
    pub(crate) spare_ports: Vec<u16>,
    pub(crate) windows: Windows,
    pub(crate) begin: Instant,
    pub(crate) lbex: RwLock<Lbex>,
    /// A fault keeps LBEX from running.
    away: AtomicBool,
    pub(crate) traffic: Traffic,
    // After LBEX, whose NGINX runs from it.
    pub(crate) disk: Disk,
}

/// Who follows whom.
pub(crate) enum Kind {
    /// LBEX is root's and follows a real API server.
    Real(Box<ApiServer>),
    /// LBEX is root's and follows a scripted one.
    Scripted,
    /// LBEX is an ordinary user's, whom permissions concern, and follows a scripted one.
    OfUser,
}

/// The user `nobody` of the usual systems; only the number counts.
const NOBODY: u32 = 65_534;

/// The LBEX under test.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lbex"))
}

/// How LBEX is started: by root, or by an ordinary user, for whom the binary is copied to where everybody may read it.
fn lbex(user: Option<u32>, folder: &Path) -> Result<Builder> {
    let Some(user) = user else { return Ok(Lbex::builder(binary())) };
    let copy = folder.join("lbex");
    programs::copy(binary(), &copy)?;
    let ids = [format!("--reuid={user}"), format!("--regid={user}")];
    let setpriv = programs::find("setpriv")?.display().to_string();
    let more = ["--clear-groups".to_owned(), "--bounding-set=-all".to_owned()];
    Ok(Lbex::builder(&copy).under([setpriv].into_iter().chain(ids).chain(more)))
}

/// Runs a test inside a network namespace of its own, with an API server of its own if `real`.
pub(crate) fn inside<T: Send, F>(test: impl FnOnce(Arc<Netns>) -> F + Send) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let netns = Arc::new(Netns::new()?);
    netns.run(|| test(netns.clone()))?
}

impl World {
    /// Starts everything, and waits until all Services but the moving ones are served.
    pub(crate) async fn start(netns: &Arc<Netns>, kind: Kind, rate: Rate) -> Result<Self> {
        let user = matches!(kind, Kind::OfUser).then_some(NOBODY);
        let cluster = match kind {
            Kind::Real(server) => Cluster::real(*server).await?,
            Kind::Scripted | Kind::OfUser => Cluster::scripted().await?,
        };
        let services = services(netns, &cluster)?;
        put_nodes(netns, &cluster, true).await?;
        for served in services.iter().filter(|served| served.is_steady()) {
            cluster.put(&served.service()).await?;
            cluster.put(&served.whole()).await?;
        }
        let disk = Disk::new(user)?;
        let lbex = lbex(user, disk.folder())?
            .args(cluster.flags())
            .args([
                "--reload-interval=100ms",
                "--udp-idle-timeout=2s",
                "--listen-address=127.0.0.1",
                "--nginx=embedded",
            ])
            .prefix(&disk.prefix())
            .start()
            .await?;
        lbex.wait_healthy().await?;
        serve(&services).await.with_context(|| lbex.log_tail())?;
        let target =
            |served: &Served| Target { service: served.name.clone(), at: served.at(), steady: served.is_steady() };
        let traffic = Traffic::start(services.iter().map(target).collect(), rate)?;
        Ok(Self {
            netns: netns.clone(),
            cluster,
            services,
            spare_ports: free_ports(SPARE_PORTS)?,
            windows: Windows::default(),
            begin: Instant::now(),
            lbex: RwLock::new(lbex),
            away: AtomicBool::new(false),
            traffic,
            disk,
        })
    }

    /// The Services of a kind.
    pub(crate) fn of(&self, life: Life) -> Vec<&Served> {
        self.services.iter().filter(|served| served.life == life).collect()
    }

    /// LBEX, running or not.
    pub(crate) async fn lbex(&self) -> RwLockReadGuard<'_, Lbex> {
        self.lbex.read().await
    }

    /// Lets `end` end LBEX, which stays away.
    pub(crate) async fn take_lbex_away(&self, end: impl AsyncFnOnce(&Lbex) -> Result<()>) -> Result<()> {
        self.away.store(true, Ordering::SeqCst);
        let lbex = self.lbex.read().await;
        // It may have ended: see `supervise`.
        if lbex.has_ended().is_none() { end(&lbex).await } else { Ok(()) }
    }

    /// Starts LBEX that was taken away.
    pub(crate) async fn bring_lbex_back(&self) -> Result<()> {
        self.lbex.write().await.start_again()?;
        self.away.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Starts LBEX again where it may have ended: it cannot begin on a disk that takes nothing, nor without an API server where its
    /// last good state was deleted. Fails, and does not return otherwise, when it ended without such a reason.
    pub(crate) async fn supervise(&self) -> Result<()> {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut lbex = self.lbex.write().await;
            let Some(status) = lbex.has_ended().filter(|_| !self.away.load(Ordering::SeqCst)) else { continue };
            let reason = match status.code() {
                Some(1) => On::Api,
                _ => On::Prefix,
            };
            if matches!(status.code(), Some(1 | 2)) && self.windows.was_there(reason, LATELY) {
                lbex.start_again()?;
            } else {
                bail!("LBEX ended by itself ({status}); its log ends with:\n{}", lbex.log_tail());
            }
        }
    }

    /// NGINX's processes.
    pub(crate) fn nginx(&self) -> Vec<NginxProcess> {
        processes_of(&self.disk.prefix())
    }

    /// Sends a signal to NGINX's processes that are meant. Some may just have ended.
    pub(crate) fn signal_nginx(&self, signal: Signal, meant: impl Fn(&NginxProcess) -> bool) -> Result<()> {
        for process in self.nginx().into_iter().filter(|process| meant(process)) {
            match kill(Pid::from_raw(process.pid.try_into()?), signal) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(error) => bail!("failed to send {signal} to {process:?}: {error}"),
            }
        }
        Ok(())
    }

    /// Waits until all steady Services are served, over TCP and UDP.
    pub(crate) async fn served_again(&self) -> Result<()> {
        serve(&self.services).await
    }
}

async fn serve(services: &[Served]) -> Result<()> {
    for served in services.iter().filter(|served| served.is_steady()) {
        let (name, at) = (&served.name, served.at());
        eventually(&format!("{name} is served over TCP"), AGAIN, || tcp_ask(at)).await?;
        eventually(&format!("{name} is served over UDP"), AGAIN, || udp_ask(at, "who", Duration::from_millis(500)))
            .await?;
    }
    Ok(())
}

/// What is awaited after everything is healed takes no longer than LBEX's longest pause before it tries again.
pub(crate) const HEALED: Duration = Duration::from_secs(SOON.as_secs() * 2);
