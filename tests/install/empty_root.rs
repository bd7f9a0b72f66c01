//! The static program in a root that holds nothing that it could need.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::{Conversation, Echo};
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::Signal;

use crate::support::{at, manifests, program, refuses, run, serves};

/// Fails where this program needs a dynamic linker or a shared library.
fn is_static(file: &Path) -> Result<()> {
    let headers = run(Command::new("readelf").args(["--program-headers", "--dynamic", "--wide"]).arg(file))?;
    ensure!(!headers.contains("INTERP") && !headers.contains("NEEDED"), "{}: {headers}", file.display());
    Ok(())
}

/// What a root directory has to hold, and a program in it.
fn root_with(scratch: &Scratch) -> Result<String> {
    let root = scratch.path().display().to_string();
    for folder in ["dev", "etc", "manifests"] {
        fs::create_dir(scratch.join(folder))?;
    }
    run(Command::new("mknod").args(["-m", "666", &format!("{root}/dev/null"), "c", "1", "3"]))?;
    fs::write(scratch.join("etc/passwd"), "nobody:x:65534:65534::/:/\n")?;
    fs::write(scratch.join("etc/group"), "nogroup:x:65534:\n")?;
    fs::copy(program()?, scratch.join("lbex"))?;
    Ok(root)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(folder)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_reloads_and_stops_where_there_is_dev_null_and_a_user_and_nothing_else() -> Result<()> {
    let scratch = Scratch::for_nginx("empty-root")?;
    let root = root_with(&scratch)?;
    let servers = [Echo::new("a").start()?];
    let ports = free_ports(2)?;
    let [first, second] = [ports[0], ports[1]];
    fs::write(scratch.join("manifests/web.json"), manifests(first, &servers))?;

    // Nothing is mounted in it, /proc neither.
    let wrapper = ["/usr/sbin/chroot", &root];
    let flags = ["--manifests=/manifests", "--nginx-prefix=/state", "--nginx=embedded", "--stop-proxy-on-exit=true"];
    let lbex = Lbex::builder("/lbex".as_ref()).under(wrapper).args(flags).start().await?;
    lbex.wait_healthy().await?;
    let address = at(Ipv4Addr::LOCALHOST, first);
    serves(address).await?;
    let mut connection = Conversation::open(address).await?;
    connection.say("hello").await?;
    assert_eq!(connection.name(), "a");
    let told = lbex.log().matches("/proc is not mounted here").count();
    assert_eq!(told, 1, "{}", lbex.log());

    // Another listener takes a reload. The connection stays, and a worker that finishes with it is seen.
    fs::write(scratch.join("manifests/web.json"), manifests(second, &servers))?;
    serves(at(Ipv4Addr::LOCALHOST, second)).await?;
    refuses(address).await?;
    connection.say("still here").await?;
    eventually("LBEX sees the worker that finishes", SOON, || async {
        let draining = lbex.metric("lbex_draining_connections", &[]).await?;
        ensure!(draining.is_some_and(|connections| connections > 0.0), "{draining:?}");
        Ok(())
    })
    .await?;

    is_static(&program()?)?;
    let is_nginx = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nginx-"));
    let nginx = fs::read_dir(scratch.join("state/bin"))?.flatten().map(|entry| entry.path()).find(is_nginx);
    is_static(&nginx.context("the NGINX that it brought")?)?;

    drop(connection);
    // A drain takes up to 20 s: UDP sessions have no end that can be seen.
    lbex.signal(Signal::SIGTERM)?;
    let status = lbex.wait_exit(2 * SOON).await?;
    ensure!(status.success(), "{status}: {}", lbex.log_tail());
    refuses(at(Ipv4Addr::LOCALHOST, second)).await?;
    assert_eq!(names(scratch.path())?, ["dev", "etc", "lbex", "manifests", "state"]);
    assert_eq!(names(&scratch.join("dev"))?, ["null"]);
    Ok(())
}

#[test]
fn it_says_what_it_needs_where_it_may_not_have_a_proc_of_its_own() -> Result<()> {
    let scratch = Scratch::new("no-proc")?;
    let root = root_with(&scratch)?;
    run(Command::new("chmod").args(["755", &root]))?;
    let arguments = ["--userspec=65534:65534", &root, "/lbex", "--manifests=/manifests", "--nginx-prefix=/state"];
    let output = Command::new("chroot").args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("mount /proc, or run LBEX as root with CAP_SYS_ADMIN"), "{said}");
    assert!(!scratch.join("state").exists());
    Ok(())
}
