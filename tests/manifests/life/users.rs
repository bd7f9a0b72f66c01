//! Who LBEX and its NGINX run as.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use anyhow::{Context, Result};
use lbex_test_harness::Scratch;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::nginx::{Nginx, NginxProcess};
use lbex_test_harness::objects::service;
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::programs;
use lbex_test_harness::wait::{SOON, eventually};
use nix::unistd::geteuid;

use crate::support::{Manifests, World, at, binary, pods, pods_slice, servers, serving_pids, tcp_reaches, udp_reaches};

/// The user `nobody` of the usual systems; only the number counts.
const NOBODY: u32 = 65_534;

fn user_of(process: &NginxProcess) -> Result<u32> {
    Ok(std::fs::metadata(format!("/proc/{}", process.pid)).context("a process ended")?.uid())
}

/// Who runs each NGINX process of an LBEX.
async fn users(lbex: &Lbex) -> Result<Vec<(NginxProcess, u32)>> {
    // One that only checks may end meanwhile.
    eventually("every NGINX process has a user", SOON, || async {
        let with_user = |process: NginxProcess| user_of(&process).map(|user| (process, user));
        lbex.nginx_processes().into_iter().map(with_user).collect::<Result<Vec<_>>>()
    })
    .await
}

/// An LBEX of an ordinary user on a host where ports below 1024 are root's.
struct Ordinary {
    lbex: Lbex,
    _home: Scratch,
}

impl Ordinary {
    /// Without root, the user is whoever runs the tests.
    async fn start(manifests: &Manifests, nginx: Nginx) -> Result<Self> {
        let home = Scratch::for_nginx("user")?;
        let prefix = home.join("prefix");
        std::fs::create_dir(&prefix)?;
        let mut builder = Lbex::builder(binary());
        if geteuid().is_root() {
            chown(&prefix, Some(NOBODY), Some(NOBODY))?;
            // Where the build is need not be readable by others.
            let copy: PathBuf = home.join("lbex");
            programs::copy(binary(), &copy)?;
            let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
            let setpriv = "/usr/bin/setpriv".to_owned();
            let more = ["--clear-groups".to_owned(), "--bounding-set=-all".to_owned()];
            builder = Lbex::builder(&copy).under([setpriv].into_iter().chain(ids).chain(more));
        }
        let flag = format!("--manifests={}", manifests.path().display());
        Ok(Self { lbex: builder.arg(flag).nginx(nginx).prefix(&prefix).start().await?, _home: home })
    }
}

/// Ports above 1023 are served; port 80 is refused, and the Service is told what it takes.
async fn ordinary_user(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let manifests = Manifests::new()?;
    let low = service("low").ask().lbex("upstream-type", "pod").tcp("tcp", 80, 0).listen("tcp", 80);
    manifests.put(
        "all.json",
        [&pods("web", port) as _, &pods_slice("web", &servers) as _, &low as _, &pods_slice("low", &servers) as _],
    )?;
    let mut ordinary = Ordinary::start(&manifests, nginx).await?;
    ordinary.lbex.wait_healthy().await?;
    ordinary.lbex.wait_ready().await?;
    tcp_reaches(at(port), &["a", "b"]).await?;
    udp_reaches(at(port), &["a", "b"]).await?;
    let own = std::fs::metadata(format!("/proc/{}", ordinary.lbex.pid()))?.uid();
    assert_ne!(own, 0);
    for (process, user) in users(&ordinary.lbex).await? {
        assert_eq!(user, own, "{process:?}");
    }
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")?;
    if start.trim().parse::<u16>()? > 80 {
        let line = ordinary.lbex.wait_log("reason=PermissionDenied", SOON).await?;
        for word in ["default/low", "80", "root", "CAP_NET_BIND_SERVICE"] {
            assert!(line.contains(word), "no {word:?} in: {line}");
        }
        let refusals = ordinary.lbex.metric("lbex_refusals", &[("code", "PermissionDenied")]).await?;
        assert!(refusals >= Some(1.0), "{refusals:?}");
        assert_eq!(ordinary.lbex.metric("lbex_services_served", &[]).await?, Some(1.0));
    }
    // Adopted as by root.
    let before = serving_pids(&ordinary.lbex);
    assert!(ordinary.lbex.terminate().await?.status.success());
    ordinary.lbex.start_again()?;
    ordinary.lbex.wait_healthy().await?;
    tcp_reaches(at(port), &["a", "b"]).await?;
    assert_eq!(serving_pids(&ordinary.lbex), before);
    Ok(())
}

/// As root the master keeps its rights, for ports below 1024; the workers, which read what clients send, have none.
async fn root_drops_workers(nginx: Nginx) -> Result<()> {
    if !geteuid().is_root() {
        return Ok(()); // ordinary_user has shown the rest
    }
    let (port, servers) = (free_port()?, servers(1)?);
    let world = World::start(nginx, [&pods("web", port) as _, &pods_slice("web", &servers) as _]).await?;
    tcp_reaches(at(port), &["a"]).await?;
    eventually("every worker is another user's", SOON, || async {
        let processes = world.lbex.nginx_processes();
        anyhow::ensure!(processes.len() >= 2, "{processes:?}");
        for process in &processes {
            let user = user_of(process)?;
            anyhow::ensure!((user == 0) == process.is_master(), "user {user} runs {process:?}");
        }
        Ok(())
    })
    .await
}

on_each_nginx!(ordinary_user, root_drops_workers);
