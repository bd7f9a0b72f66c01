//! A binary with a backend of its own: it is listed and chosen, and carries what manifest files say.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use lbex_test_harness::backends::Echo;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::manifests::{World, at, local, pods, pods_slice, tcp_closes, tcp_reaches, tcp_refused};
use lbex_test_harness::ports::free_ports;

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lbex-relay"))
}

fn run(arguments: &[&str]) -> Result<Output> {
    Command::new(binary()).args(arguments).output().context("the binary can be run")
}

#[test]
fn it_is_there_under_its_name_and_nothing_else_is() -> Result<()> {
    let listed = String::from_utf8(run(&["backends"])?.stdout)?;
    ensure!(listed == "relay    built in; the relay\n         tcp, round_robin\n", "{listed}");
    let help = String::from_utf8(run(&["--help"])?.stdout)?;
    ensure!(help.contains("relay (a TCP proxy inside LBEX) [default: relay]"), "{help}");
    for other in ["nginx-plus", "--plugin-dir", "--start-nginx", "render"] {
        ensure!(!help.contains(other), "{other} is in the help of a binary without it:\n{help}");
    }
    for (arguments, word) in [
        (&["--backend", "nginx"][..], "without the backend nginx"),
        (&["--backend", "./x.so"], "loads no plugins"),
        (&["--nginx", "system"], "--nginx: \"system\" from the command line is of no use"),
        (&["render", "--manifests", "/"], "lbex render is of no use"),
    ] {
        let refused = run(arguments)?;
        let said = String::from_utf8_lossy(&refused.stderr);
        ensure!(refused.status.code() == Some(2) && said.contains(word), "{arguments:?}: {}: {said}", refused.status);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_carries_traffic_and_follows_changes() -> Result<()> {
    let [port, taken] = free_ports(2)?[..] else { unreachable!("two were asked for") };
    let servers = Echo::on_one_port([("a", local(70, 1)), ("b", local(70, 2))])?;
    let other = std::net::TcpListener::bind(at(taken))?;
    let lbex =
        Lbex::builder(binary()).args(["--backend=relay", "--listen-address=127.0.0.1", "--reload-interval=10ms"]);
    let (web, blocked) = (pods("web", port), pods("blocked", taken));
    let world = World::serve(lbex, [&web as _, &blocked as _, &pods_slice("web", &servers) as _]).await?;
    tcp_reaches(at(port), &["a", "b"]).await?;
    ensure!(world.lbex.log().contains("failed to listen on 127.0.0.1"), "{}", world.lbex.log());

    world.put([&web as _, &pods_slice("web", &servers[1..]) as _])?;
    tcp_reaches(at(port), &["b"]).await?;
    world.put([&web as _])?;
    tcp_closes(at(port)).await?;
    world.put([])?;
    tcp_refused(at(port)).await?;
    drop(other);

    let second = run(&[
        "--manifests=/",
        &format!("--nginx-prefix={}", world.lbex.prefix().display()),
        "--health-check=false",
        "--metrics-address=off",
    ])?;
    let said = String::from_utf8_lossy(&second.stderr);
    ensure!(second.status.code() == Some(2) && said.contains("is in use by process"), "{}: {said}", second.status);
    Ok(())
}
