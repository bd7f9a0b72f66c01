//! `--backend nginx-plus`, by stand-ins: the executable that LBEX takes for NGINX Plus, and the API of one elsewhere.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_conformance::{Subject, Ways, conformance};
use lbex_plus_standin::nginx::program;
use lbex_plus_standin::{Control, Credentials, Fault, Rule, StandIn};
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::{Conversation, Echo};
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::manifests::{World, at, pods, pods_slice, servers, tcp_reaches};
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually};

struct Plus;

impl Subject for Plus {
    fn lbex(&self) -> Result<Builder> {
        let nginx = format!("--nginx={}", program()?.display());
        Ok(Lbex::builder(super::binary()).args(["--backend=nginx-plus", &nginx]))
    }

    fn ways(&self) -> Ways {
        // What finishes its connections is the stand-in's own NGINX, which LBEX does not see.
        Ways { listeners_by_reload: true, endpoints_by_reload: false, old_workers_drain: false }
    }

    fn serving(&self, lbex: &Lbex) -> Vec<u32> {
        lbex.nginx_pid().into_iter().collect()
    }
}

conformance!(standin, Plus);

/// NGINX goes on listening on a socket whose path is gone, and nobody can tell it anything there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_somebody_removes_come_back() -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let web = pods("web", port);
    let world = World::serve(Plus.lbex()?, [&web as _, &pods_slice("web", &servers[..1]) as _]).await?;
    let (run, master) = (world.lbex.prefix().join("run"), world.lbex.nginx_pid()?);
    let mut connection = Conversation::open(at(port)).await?;
    for (removed, now) in [(&["api.sock"][..], 1), (&["api.sock", "generation.sock"], 0)] {
        for name in removed {
            std::fs::remove_file(run.join(name))?;
        }
        eventually("they are there again", SOON, || async {
            ensure!(removed.iter().all(|name| run.join(name).exists()), "{:?}", run.read_dir()?.collect::<Vec<_>>());
            Ok(())
        })
        .await?;
        world.put([&web as _, &pods_slice("web", &servers[now..=now]) as _])?;
        tcp_reaches(at(port), &[servers[now].name()]).await?;
        connection.say("still here").await?;
    }
    world.wait_applied().await?;
    let left: Vec<_> = run.read_dir()?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(!left.iter().any(|name| name.to_string_lossy().starts_with("sp")), "{left:?}");
    ensure!(world.lbex.nginx_pid()? == master, "another NGINX serves");
    Ok(())
}

/// Between two calls both endpoints serve, and the next LBEX makes the rest of the calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lbex_is_killed_between_two_calls_of_one_change() -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let (first, second) = (servers[0].name(), servers[1].name());
    let web = pods("web", port);
    let begin = pods_slice("web", &servers[..1]);
    let mut world = World::serve(Plus.lbex()?, [&web as _, &begin as _]).await?;
    tcp_reaches(at(port), &[first]).await?;
    let plus = Control::new(&world.lbex.prefix().join("run/api.sock"));
    plus.inject(&Rule::new(Fault::Slow(Duration::from_secs(60))).method("DELETE").always()).await?;
    world.put([&web as _, &pods_slice("web", &servers[1..]) as _])?;
    eventually("the new endpoint is there, the old one is about to go", SOON, || async {
        ensure!(plus.calls().await?.iter().any(|call| call.line.starts_with("DELETE")));
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    world.lbex.kill().await?;
    tcp_reaches(at(port), &[first, second]).await?;
    plus.heal().await?;
    world.lbex.start_again()?;
    world.lbex.wait_healthy().await?;
    tcp_reaches(at(port), &[second]).await
}

#[tokio::test]
async fn an_nginx_that_is_not_plus_is_refused_with_advice() -> Result<()> {
    let folder = Scratch::for_nginx("plus")?;
    let output = std::process::Command::new(super::binary())
        .args(["--backend=nginx-plus", "--nginx=embedded", "--manifests=/nowhere", "--health-check=false"])
        .args(["--metrics-address=off", &format!("--nginx-prefix={}", folder.join("prefix").display())])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(2) && text.contains("needs NGINX Plus") && text.contains("--nginx-plus-api"),
        "{text}"
    );
    ensure!(!folder.join("prefix").exists());
    Ok(())
}

/// Endpoints of manifests reach an NGINX Plus elsewhere, and its state reaches the metrics; no NGINX is started.
#[tokio::test]
async fn nginx_plus_elsewhere() -> Result<()> {
    let (port, server, folder) = (free_port()?, Echo::new("a").start()?, Scratch::new("plus")?);
    let upstream = format!("{port}.tcp.default.web");
    let token = folder.join("token");
    std::fs::write(&token, "secret\n")?;
    let credentials = Credentials::Bearer("secret".to_owned());
    let plus = StandIn::builder().tcp(0).credentials(credentials).upstream(&upstream, &[]).start().await?;
    let api = format!("http://{}/api", plus.address());
    let lbex = Lbex::builder(super::binary()).args([
        "--backend=nginx-plus",
        &format!("--nginx-plus-api={api}"),
        &format!("--nginx-plus-token-file={}", token.display()),
    ]);
    let (web, slice) = (pods("web", port), pods_slice("web", [&server]));
    let world = World::serve(lbex, [&web as _, &slice as _]).await?;
    eventually("the endpoint is there", SOON, || async {
        let up = plus.up(&upstream);
        ensure!(up == [server.address()], "{up:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    // The UDP listener of the Service has no upstream there.
    world.lbex.wait_log(&format!("has no upstream {port}.udp.default.web"), SOON).await?;
    eventually("the metrics tell", SOON, || async {
        let value = async |name: &str, labels: &[(&str, &str)]| {
            world.lbex.metric(name, labels).await?.with_context(|| format!("no {name}"))
        };
        ensure!((value("lbex_api_up", &[("url", &api)]).await? - 1.0).abs() < 0.1);
        for state in ["in_step", "missing"] {
            ensure!((value("lbex_api_upstreams", &[("state", state)]).await? - 1.0).abs() < 0.1, "{state}");
        }
        ensure!((value("lbex_api_servers", &[("state", "up")]).await? - 1.0).abs() < 0.1);
        Ok(())
    })
    .await?;
    world.put([&web as _])?;
    eventually("the endpoint is gone", SOON, || async {
        ensure!(plus.up(&upstream).is_empty());
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    ensure!(world.lbex.nginx_processes().is_empty());
    Ok(())
}
