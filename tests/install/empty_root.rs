//! The static program in a root that holds nothing that it could need.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::{Conversation, Echo};
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::ports::free_port;

use crate::support::{at, manifests, program, run, serves};

/// Fails where this program needs a dynamic linker or a shared library.
fn is_static(file: &Path) -> Result<()> {
    let headers = run(Command::new("readelf").args(["--program-headers", "--dynamic", "--wide"]).arg(file))?;
    ensure!(!headers.contains("INTERP") && !headers.contains("NEEDED"), "{}: {headers}", file.display());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_where_there_is_dev_null_and_a_user_and_nothing_else() -> Result<()> {
    let scratch = Scratch::for_nginx("empty-root")?;
    let root = scratch.path().display().to_string();
    for folder in ["dev", "etc", "proc", "manifests"] {
        fs::create_dir(scratch.join(folder))?;
    }
    run(Command::new("mknod").args(["-m", "666", &format!("{root}/dev/null"), "c", "1", "3"]))?;
    fs::write(scratch.join("etc/passwd"), "nobody:x:65534:65534::/:/\n")?;
    fs::write(scratch.join("etc/group"), "nogroup:x:65534:\n")?;
    fs::copy(program()?, scratch.join("lbex"))?;
    let servers = [Echo::new("a").start()?];
    let listener = free_port()?;
    fs::write(scratch.join("manifests/web.json"), manifests(listener, &servers))?;

    // The kernel's /proc is no part of the root's contents, but without it no process can be found.
    let enter = format!("mount -t proc proc {root}/proc && exec chroot {root} \"$@\"");
    let wrapper = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", &enter, "sh"];
    let flags = ["--manifests=/manifests", "--nginx-prefix=/state", "--nginx=embedded"];
    let lbex = Lbex::builder("/lbex".as_ref()).under(wrapper).args(flags).start().await?;
    lbex.wait_healthy().await?;
    let address = at(Ipv4Addr::LOCALHOST, listener);
    serves(address).await?;
    let mut connection = Conversation::open(address).await?;
    connection.say("hello").await?;
    assert_eq!(connection.name(), "a");

    is_static(&program()?)?;
    let is_nginx = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nginx-"));
    let nginx = fs::read_dir(scratch.join("state/bin"))?.flatten().map(|entry| entry.path()).find(is_nginx);
    is_static(&nginx.context("the NGINX that it brought")?)?;
    let mut held: Vec<String> =
        fs::read_dir(&root)?.flatten().map(|e| e.file_name().to_string_lossy().into()).collect();
    held.sort();
    assert_eq!(held, ["dev", "etc", "lbex", "manifests", "proc", "state"]);
    Ok(())
}
