//! LBEX as the first process (PID 1) of a container: here of a PID namespace of its own, as root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::backends::{Conversation, Echo};
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::manifests::{World, at, pods, pods_slice, servers, tcp_reaches, tcp_refused};
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually, stays};
use lbex_test_harness::{Scratch, programs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LBEX: &str = env!("CARGO_BIN_EXE_lbex");

/// LBEX as it is in a container: it sees its own processes only, and all of them end with it.
fn contained() -> Result<Builder> {
    let unshare = programs::find("unshare")?.display().to_string();
    let wrapper = [&unshare, "--pid", "--fork", "--kill-child", "--mount-proc"];
    Ok(Lbex::builder(Path::new(LBEX)).under(wrapper).arg("--reload-interval=100ms"))
}

/// A container with an LBEX that serves.
struct Container {
    world: World,
    listener: u16,
    _servers: Vec<Echo>,
}

impl Container {
    async fn start(lbex: Builder) -> Result<Self> {
        let (listener, servers) = (free_port()?, servers(1)?);
        let objects = [&pods("web", listener) as _, &pods_slice("web", &servers) as _];
        let this = Self { world: World::serve(lbex, objects).await?, listener, _servers: servers };
        tcp_reaches(at(this.listener), &["a"]).await?;
        Ok(this)
    }

    fn lbex(&self) -> &Lbex {
        &self.world.lbex
    }

    /// The first process, by the host's number.
    fn first(&self) -> Result<u32> {
        children(self.lbex().pid())?.into_iter().next().context("unshare has no child")
    }

    /// The controller: of the first process's children that which is an LBEX too. Waits until there is one other than `before`.
    async fn controller(&self, before: Option<u32>) -> Result<u32> {
        let first = self.first()?;
        eventually("there is a controller", SOON, || async {
            let found = children(first)?.into_iter().find(|pid| name(*pid) == "lbex" && Some(*pid) != before);
            found.with_context(|| self.lbex().log_tail())
        })
        .await
    }

    fn signal(pid: u32, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(pid.cast_signed()), signal)?)
    }

    async fn ends_well(&self) -> Result<()> {
        let status = self.lbex().wait_exit(SOON).await?;
        ensure!(status.success(), "{status}: {}", self.lbex().log_tail());
        assert_eq!(self.lbex().nginx_processes(), []);
        Ok(())
    }
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    text.split_whitespace().map(|pid| Ok(pid.parse()?)).collect()
}

fn name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_outlives_the_controller_and_is_drained_at_the_end() -> Result<()> {
    let container = Container::start(contained()?).await?;
    let nginx = container.lbex().serving_nginx_pids();
    let mut connection = Conversation::open(at(container.listener)).await?;

    // Whoever ends the controller, it comes again, and takes over the NGINX that runs.
    let mut controller = container.controller(None).await?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        Container::signal(controller, signal)?;
        controller = container.controller(Some(controller)).await?;
        container.lbex().wait_healthy().await?;
        connection.say("still here").await?;
        assert_eq!(container.lbex().serving_nginx_pids(), nginx);
    }

    // What is for the controller is handed on to it.
    let first = container.first()?;
    Container::signal(first, Signal::SIGHUP)?;
    container.lbex().wait_log("SIGHUP has no effect", SOON).await?;

    Container::signal(first, Signal::SIGTERM)?;
    tcp_refused(at(container.listener)).await?;
    connection.say("not done yet").await?;
    ensure!(container.lbex().has_ended().is_none(), "it does not wait for the connection");
    drop(connection);
    container.ends_well().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_without_a_parent_is_reaped() -> Result<()> {
    let container = Container::start(contained()?).await?;
    let first = container.first()?;
    let target = first.to_string();
    let mut enter = Command::new(programs::find("nsenter")?);
    // The shell ends at once.
    enter.args(["--target", &target, "--pid", "--mount", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo"]);
    let left = enter.output().context("nsenter")?;
    ensure!(left.status.success(), "{left:?}");
    let orphan = eventually("the first process has become its parent", SOON, || async {
        children(first)?.into_iter().find(|pid| name(*pid) == "sleep").context("it has no such child")
    })
    .await?;
    Container::signal(orphan, Signal::SIGKILL)?;
    eventually("it is reaped", SOON, || async {
        ensure!(!PathBuf::from(format!("/proc/{orphan}")).exists(), "there is a process {orphan} ({})", name(orphan));
        Ok(())
    })
    .await?;

    // So is an NGINX that was killed, and there is another one.
    let killed = container.lbex().nginx_processes();
    killed.iter().filter(|process| process.is_master()).try_for_each(|p| Container::signal(p.pid, Signal::SIGKILL))?;
    eventually("another NGINX serves and nothing is left of the first", SOON, || async {
        let now = container.lbex().serving_nginx_pids();
        ensure!(!now.is_empty() && killed.iter().all(|old| !now.contains(&old.pid)), "{now:?}");
        let left: Vec<_> = killed.iter().filter(|p| Path::new(&format!("/proc/{}", p.pid)).exists()).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    tcp_reaches(at(container.listener), &["a"]).await?;

    Container::signal(first, Signal::SIGINT)?;
    container.ends_well().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_cannot_begin_ends_the_container_unless_something_serves() -> Result<()> {
    let scratch = Scratch::new("first")?;
    let config = scratch.join("lbex.yaml");
    let flag = format!("--config={}", config.display());
    std::fs::write(&config, "tcp-idle-timeout: 1h\n")?;

    let without = contained()?.arg(&flag).arg("--kubeconfig=/none").start().await?;
    assert_eq!(without.wait_exit(SOON).await?.code(), Some(1), "{}", without.log_tail());
    drop(without);

    let container = Container::start(contained()?.arg(&flag)).await?;
    let nginx = container.lbex().serving_nginx_pids();
    let controller = container.controller(None).await?;
    std::fs::write(&config, "tcp-idle-timeout: never\n")?;
    Container::signal(controller, Signal::SIGKILL)?;
    let again = "LBEX's controller has ended with exit code 2; it is started again in";
    container.lbex().wait_log(&format!("{again} 400ms"), SOON).await?;
    stays("it is served", Duration::from_secs(1), || async { tcp_reaches(at(container.listener), &["a"]).await })
        .await?;
    assert_eq!(container.lbex().serving_nginx_pids(), nginx);

    // Told to end while there is no controller: the proxy is drained all the same, by the settings as they are.
    std::fs::write(&config, "tcp-idle-timeout: 1h\n")?;
    container.lbex().wait_healthy().await?;
    Container::signal(container.controller(None).await?, Signal::SIGKILL)?;
    Container::signal(container.first()?, Signal::SIGTERM)?;
    container.lbex().wait_log("NGINX stopped", SOON).await?;
    container.ends_well().await
}
