//! What is for aarch64, run by qemu-user.
//!
//! LBEX and its NGINX are run one after the other here, not one by the other. qemu-user runs a program that its program starts only where the
//! kernel knows what to do with it (`binfmt_misc`); and what LBEX recognizes NGINX's processes by, their name and the title that NGINX
//! writes over its arguments, is qemu's own in `/proc`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::{Conversation, Echo};
use lbex_test_harness::ports::free_port;
use lbex_test_harness::process::Process;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::Signal;

use super::{command_for, unpacked};
use crate::support::{at, manifests, run, serves};

const MACHINE: &str = "aarch64";

#[tokio::test(flavor = "multi_thread")]
async fn lbex_speaks_and_its_nginx_serves_what_it_renders() -> Result<()> {
    let scratch = Scratch::for_nginx("foreign")?;
    let program = unpacked(&scratch, "arm64")?.join("lbex");
    let header = run(Command::new("readelf").args(["--file-header"]).arg(&program))?;
    ensure!(header.contains("AArch64"), "{header}");
    let (servers, listener) = ([Echo::new("a").start()?], free_port()?);
    let file = scratch.join("web.json");
    fs::write(&file, manifests(listener, &servers))?;
    let prefix = scratch.join("prefix");
    let lbex = |arguments: &[&str]| {
        let mut command = command_for(MACHINE, &program);
        command.args(arguments).arg("--manifests").arg(&file).arg("--nginx-prefix").arg(&prefix);
        command.args(["--nginx=embedded", "--endpoint-updates=reload"]);
        command
    };
    let said = run(command_for(MACHINE, &program).arg("validate").arg(&file))?;
    ensure!(said.contains("web"), "{said}");
    let rendered = run(&mut lbex(&["render"]))?;

    let nginx = carried(&scratch, &mut lbex(&["--health-check=false", "--metrics-address=off"]), &prefix).await?;
    let header = run(Command::new("readelf").args(["--file-header"]).arg(&nginx))?;
    ensure!(header.contains("AArch64"), "{header}");
    write_files(&rendered, &prefix)?;
    let mut command = command_for(MACHINE, &nginx);
    command.arg("-p").arg(&prefix).args(["-c", "conf/nginx.conf", "-g", "master_process on;"]);
    let runs = Process::start("nginx", &command, &scratch.join("nginx.log"))?;
    let address = at(Ipv4Addr::LOCALHOST, listener);
    serves(address).await.with_context(|| runs.log_tail())?;

    // A reload, and the end, with a connection that goes on.
    let mut connection = Conversation::open(address).await?;
    runs.signal(Signal::SIGHUP)?;
    connection.say("still here").await?;
    serves(address).await?;
    runs.signal(Signal::SIGQUIT)?;
    connection.say("still here").await?;
    drop(connection);
    let status = runs.wait(SOON).await?;
    ensure!(status.success(), "{status}: {}", runs.log_tail());
    Ok(())
}

/// The NGINX that LBEX carries: LBEX puts it into its prefix before it starts it.
async fn carried(scratch: &Scratch, lbex: &mut Command, prefix: &Path) -> Result<PathBuf> {
    let runs = Process::start("lbex", lbex, &scratch.join("lbex.log"))?;
    let bin = prefix.join("bin");
    eventually("LBEX puts its NGINX into its prefix", SOON, || async {
        let files = fs::read_dir(&bin)?.flatten().map(|entry| entry.path());
        let is_nginx = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("nginx-") && !name.contains("new")
        };
        files.into_iter().find(is_nginx).context("it is not there yet")
    })
    .await
    .with_context(|| runs.log_tail())
}

/// Writes what `lbex render` printed to where it belongs; NGINX is to stay in the foreground.
fn write_files(rendered: &str, prefix: &Path) -> Result<()> {
    for file in rendered.split("# file: ").skip(1) {
        let (name, text) = file.split_once('\n').context("a name")?;
        let path = prefix.join(name);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, text.replace("daemon on;", "daemon off;"))?;
    }
    Ok(())
}
