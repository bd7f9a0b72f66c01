//! What these tests share.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use lbex_test_harness::backends::{Conversation, Echo, tcp_ask, udp_ask};
use lbex_test_harness::objects::{list, service, slice};
use lbex_test_harness::wait::{SOON, eventually};
use tokio::task::JoinHandle;

/// The static program.
pub(crate) fn program() -> Result<PathBuf> {
    let path = std::env::var_os("LBEX_STATIC").context("LBEX_STATIC is not set: run `make test-install`")?;
    Ok(path.into())
}

/// A path in the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The Debian of these tests, one that systemd boots, as an archive.
pub(crate) fn debian_archive() -> Result<PathBuf> {
    let cache = std::env::var("LBEX_CACHE").or_else(|_| std::env::var("HOME").map(|home| home + "/.cache/lbex"))?;
    let archive = Path::new(&cache).join("debian-bookworm.tar");
    ensure!(archive.is_file(), "{} is missing: tests/tools/install.sh packaging", archive.display());
    Ok(archive)
}

/// Puts the Debian of these tests into a folder.
pub(crate) fn debian(folder: &Path) -> Result<()> {
    run(Command::new("tar").arg("-xf").arg(debian_archive()?).arg("-C").arg(folder)).map(drop)
}

/// Writes a script.
pub(crate) fn executable(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// Runs a command; what it printed. Fails with that unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        bail!("{command:?}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
    }
    Ok(text(&output.stdout))
}

/// The manifests of a Service `web` that listens on `listener`, TCP and UDP, and goes to these servers, on one port.
pub(crate) fn manifests(listener: u16, servers: &[Echo]) -> String {
    let web = service("web").ask().lbex("upstream-type", "pod").tcp("tcp", listener, 0).udp("udp", listener, 0);
    let web = web.listen("tcp", listener).listen("udp", listener);
    let port = servers.first().map_or(1, Echo::port);
    let ports = slice("web-1", "web").tcp("tcp", port).udp("udp", port);
    let endpoints = servers.iter().fold(ports, |slice, server| slice.ready(server.address().ip(), "somewhere"));
    list([&web as _, &endpoints as _])
}

/// Waits until the server answers over both protocols.
pub(crate) async fn serves(address: SocketAddr) -> Result<()> {
    eventually(&format!("{address} is served"), SOON, || async {
        tcp_ask(address).await?;
        udp_ask(address, "who", Duration::from_secs(2)).await?;
        Ok::<_, anyhow::Error>(())
    })
    .await
}

/// Waits until nobody takes new connections.
pub(crate) async fn refuses(address: SocketAddr) -> Result<()> {
    eventually(&format!("{address} refuses"), SOON, || async {
        ensure!(tcp_ask(address).await.is_err(), "it still answers");
        Ok(())
    })
    .await
}

/// An address with this port.
pub(crate) fn at(ip: Ipv4Addr, port: u16) -> SocketAddr {
    (ip, port).into()
}

/// Clients that come one after the other, until they are told to end.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Traffic {
    /// Four at a time over TCP, and one over UDP.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |udp: bool| {
            let (stop, done) = (stop.clone(), done.clone());
            tokio::spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let begin = SystemTime::now();
                    let asked = if udp { udp_ask(address, "who", SOON).await } else { tcp_ask(address).await };
                    match asked {
                        Ok(_) => drop(done.fetch_add(1, Ordering::SeqCst)),
                        Err(error) => failures.push(failure(if udp { "UDP" } else { "TCP" }, begin, &error)),
                    }
                }
                failures
            })
        };
        let clients = [false, false, false, false, true].into_iter().map(client).collect();
        Self { stop, done, clients }
    }

    /// How many were answered, and what failed.
    pub(crate) async fn end(self) -> Result<(usize, Vec<String>)> {
        self.stop.store(true, Ordering::SeqCst);
        let mut failures = Vec::new();
        for client in self.clients {
            failures.extend(client.await?);
        }
        Ok((self.done.load(Ordering::SeqCst), failures))
    }
}

/// What failed, and when it began: as `journalctl --output=short-unix` has it, and as NGINX's error log, in UTC.
fn failure(protocol: &str, begin: SystemTime, error: &std::io::Error) -> String {
    let (since, took) = (begin.duration_since(UNIX_EPOCH).unwrap_or_default(), begin.elapsed().unwrap_or_default());
    let (seconds, micros) = (since.as_secs(), since.subsec_micros());
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!(
        "{protocol} at {seconds}.{micros:06} ({hours:02}:{minutes:02}:{:02}), after {took:.1?}: {error}",
        seconds % 60
    )
}

/// Stops a container that serves at `web` while a connection is open: it takes no other, serves that one to its end, and then stops.
pub(crate) async fn stops_when_its_connection_ends(web: SocketAddr, mut stop: Command) -> Result<()> {
    let mut connection = Conversation::open(web).await?;
    let stopping = tokio::task::spawn_blocking(move || run(&mut stop));
    refuses(web).await?;
    connection.say("not done yet").await?;
    ensure!(!stopping.is_finished(), "it does not wait for the connection");
    drop(connection);
    stopping.await?.map(drop)
}

/// A program in place of Cargo: what it would build in half an hour is what `build` leaves as `$program`.
pub(crate) fn stand_in_for_cargo(path: &Path, build: &str) -> Result<()> {
    let script = format!(
        "#!/bin/sh\nset -eu\nwhile [ $# -gt 0 ]; do\n    case $1 in --target) target=$2 ;; esac\n    shift\ndone\n\
         program=${{CARGO_TARGET_DIR:-target}}/$target/release/lbex\nmkdir -p \"${{program%/*}}\"\n{build}\n"
    );
    executable(path, &script)
}

/// A page of documentation whose commands (the lines of its `sh` blocks) a test runs.
pub(crate) struct Page {
    name: &'static str,
    commands: BTreeMap<String, Cell<bool>>,
}

impl Page {
    pub(crate) fn read(name: &'static str) -> Result<Self> {
        let text = fs::read_to_string(repository(name))?;
        let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
        let commands = blocks.flat_map(str::lines).map(|line| (line.to_owned(), Cell::new(false))).collect();
        Ok(Self { name, commands })
    }

    /// A command as it stands there.
    pub(crate) fn command<'a>(&self, command: &'a str) -> &'a str {
        let known = self.commands.get(command);
        known.unwrap_or_else(|| panic!("{} does not have `{command}`", self.name)).set(true);
        command
    }

    /// Fails where a command of the page, of those that `concern` picks, was not run.
    pub(crate) fn is_done(&self, concern: impl Fn(&str) -> bool) {
        let left: Vec<_> = self.commands.iter().filter(|(c, run)| concern(c) && !run.get()).map(|(c, _)| c).collect();
        assert!(left.is_empty(), "{}: no test runs {left:?}", self.name);
    }
}
