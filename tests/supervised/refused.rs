//! What a supervisor hands over, and LBEX does not want; and what it hands over for LBEX alone.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use anyhow::{Context, Result, ensure};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::SOON;
use serde_json::json;

use crate::supervisor::{Supervisor, User};
use crate::support::{Manifests, alone, at, pods, pods_slice, servers, tcp_reaches};

/// The links of a process's descriptors.
fn open_files(pid: u32) -> Result<Vec<String>> {
    let mut links = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        // Some are closed meanwhile.
        links.extend(std::fs::read_link(entry?.path()).map(|link| link.display().to_string()));
    }
    Ok(links)
}

/// Puts two sockets at one port of this address into the store.
fn put_pair(supervisor: &Supervisor, ip: Ipv4Addr) -> Result<()> {
    // The port of the first may be somebody's over TCP.
    let pair = (0..50).find_map(|_| {
        let udp = UdpSocket::bind((ip, 0)).ok()?;
        Some((TcpListener::bind(udp.local_addr().ok()?).ok()?, udp))
    });
    let (tcp, udp) = pair.context("no port is free")?;
    supervisor.put("lbex-push-tcp", tcp);
    supervisor.put("lbex-push-udp", udp);
    Ok(())
}

/// Starts LBEX with these descriptors; it says all of `lines`, works, and has the supervisor keep two sockets of its own.
async fn works_without(fill: impl FnOnce(&Supervisor) -> Result<()>, lines: &[&str]) -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let (manifests, supervisor) = (Manifests::new()?, Supervisor::new(User::Same)?);
    let web = pods("web", port);
    manifests.put("all.json", [&web as _, &pods_slice("web", &servers[..1]) as _])?;
    fill(&supervisor)?;
    let flag = format!("--manifests={}", manifests.path().display());
    let lbex = supervisor.start(|builder| builder.arg(&flag).nginx(Nginx::Embedded)).await?;
    lbex.wait_healthy().await?;
    for line in lines {
        lbex.wait_log(line, SOON).await?;
    }
    tcp_reaches(at(port), &["a"]).await?;
    manifests.put("all.json", [&web as _, &pods_slice("web", &servers) as _])?;
    tcp_reaches(at(port), &["a", "b"]).await?;
    for name in ["lbex-push-udp", "lbex-push-tcp"] {
        let kept = UdpSocket::from(supervisor.kept(name)?).local_addr()?;
        ensure!(kept.ip().is_loopback(), "{name}: {kept}");
    }
    let nginx = lbex.nginx_processes().into_iter().map(|process| process.pid);
    for pid in nginx.chain([lbex.pid()]) {
        let files = open_files(pid)?;
        ensure!(!files.iter().any(|file| file.ends_with("/some-file")), "{pid}: {files:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_strangers_are_closed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = File::create(folder.path().join("some-file"))?;
    let fill = |supervisor: &Supervisor| {
        supervisor.put("lbex-push-udp", file.try_clone()?);
        supervisor.put("lbex-push-tcp", TcpListener::bind("127.0.0.1:0")?);
        supervisor.put("lbex-push-tcp", TcpListener::bind("127.0.0.1:0")?);
        supervisor.put("somebody-elses", file);
        Ok(())
    };
    let lines = [
        "\"lbex-push-udp\", is closed: fd 3 is not a socket",
        "\"lbex-push-tcp\", is closed: there is one of that name already",
        "\"somebody-elses\", is closed: LBEX knows no such name",
        "left one of the two sockets only",
    ];
    alone(|| works_without(fill, &lines)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_at_other_addresses_are_closed() -> Result<()> {
    let fill = |supervisor: &Supervisor| put_pair(supervisor, Ipv4Addr::UNSPECIFIED);
    alone(|| works_without(fill, &["are closed: they are at 0.0.0.0:"])).await
}

/// A credential plugin gets neither the supervisor's variables nor the descriptors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_for_lbex_does_not_reach_credential_plugins() -> Result<()> {
    let supervisor = Supervisor::new(User::Same)?;
    let folder = tempfile::tempdir()?;
    let (seen, kubeconfig) = (folder.path().join("seen"), folder.path().join("kubeconfig"));
    put_pair(&supervisor, Ipv4Addr::LOCALHOST)?;
    supervisor.put("some-file", File::create(folder.path().join("some-file"))?);
    let script = format!("(env; ls -l /proc/self/fd) > {}; exit 1", seen.display());
    let plugin = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "args": ["-c", script],
        "interactiveMode": "Never",
    });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "here", "user": {"exec": plugin}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
    });
    std::fs::write(&kubeconfig, config.to_string())?;
    let flag = format!("--kubeconfig={}", kubeconfig.display());
    let lbex = supervisor.start(|builder| builder.arg(&flag).nginx(Nginx::Embedded).env("SEEN", "yes")).await?;
    lbex.wait_exit(SOON).await?;
    let seen = std::fs::read_to_string(&seen)?;
    ensure!(seen.contains("SEEN=yes"), "{seen}");
    for word in ["NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "socket:", "some-file"] {
        ensure!(!seen.contains(word), "{word}: {seen}");
    }
    Ok(())
}
