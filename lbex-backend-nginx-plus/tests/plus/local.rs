//! NGINX Plus on this host, by the executable that stands in for it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_backend_nginx::binary::NginxChoice;
use lbex_backend_nginx::process::Starter;
use lbex_backend_nginx::render::MainFile;
use lbex_backend_nginx::{EndpointUpdates, NginxOptions};
use lbex_backend_nginx_plus::api::{AccessFiles, ApiUrl, Client, NewServer, Server};
use lbex_backend_nginx_plus::{LocalBackend, Pace};
use lbex_core::backend::{Action, ProxyBackend, ReloadReason};
use lbex_plus_standin::api::Code;
use lbex_plus_standin::nginx::program;
use lbex_plus_standin::{Control, Fault, Rule};
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::{Echo, tcp_ask};
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually};

use crate::support::{PACE, Wanted, push, upstream};

async fn open(prefix: &Path) -> Result<LocalBackend> {
    open_with(prefix, PACE).await
}

async fn open_with(prefix: &Path, pace: Pace) -> Result<LocalBackend> {
    let options = NginxOptions {
        choice: NginxChoice::Path(program()?),
        prefix: prefix.to_owned(),
        worker_shutdown_timeout: None,
        endpoint_updates: EndpointUpdates::Auto,
        starter: Starter::Own,
        socket_keeper: None,
    };
    LocalBackend::open(options, pace).await.context("no backend")
}

/// What answers at a listener.
async fn answers(port: u16, name: &str) -> Result<()> {
    eventually("the Service answers", SOON, || async {
        let answer = tcp_ask(([127, 0, 0, 1], port).into()).await?;
        ensure!(answer == name, "{answer}");
        Ok(())
    })
    .await
}

fn api(prefix: &Path) -> Client {
    Client::new(ApiUrl::unix(prefix.join("run/api.sock")), AccessFiles::default())
}

async fn servers(prefix: &Path, name: &str) -> Result<Vec<Server>> {
    Ok(api(prefix).servers(name).await?)
}

#[tokio::test]
async fn endpoints_change_without_a_reload_and_come_back_after_a_crash() -> Result<()> {
    let folder = Scratch::for_nginx("plus")?;
    let prefix = folder.path().join("prefix");
    let (a, b) = (Echo::new("a").start()?, Echo::new("b").start()?);
    let (first, second) = (format!("127.0.0.1:{}", a.port()), format!("127.0.0.1:{}", b.port()));
    let port = free_port()?;
    let web = upstream("web", port);
    let mut wanted = Wanted::default();
    wanted.set("web", port, &[&first]);

    let backend = open(&prefix).await?;
    ensure!(backend.capabilities().live_servers && backend.capabilities().least_time && backend.capabilities().drains);
    let report = wanted.apply_all(&backend).await?;
    ensure!(report.action == Action::Started && report.refused.is_empty(), "{report:?}");
    answers(port, "a").await?;
    let generation = api(&prefix).nginx().await?.generation;

    push(&backend, &wanted.set("web", port, &[&second])).await?;
    answers(port, "b").await?;
    push(&backend, &wanted.set("web", port, &[])).await?;
    push(&backend, &wanted.set("web", port, &[&first])).await?;
    answers(port, "a").await?;
    ensure!(api(&prefix).nginx().await?.generation == generation, "no reload");

    // A listener more is a reload, which carries the servers over.
    let other = free_port()?;
    let delta = wanted.set("other", other, &[&second]);
    let report = backend.apply(&wanted.0, &delta).await?;
    ensure!(report.action == Action::Reloaded && report.reloads == [ReloadReason::Listeners], "{report:?}");
    answers(other, "b").await?;
    answers(port, "a").await?;

    // Somebody else takes a server out.
    let theirs = servers(&prefix, &web).await?;
    api(&prefix).remove(&web, theirs[0].id).await?;
    eventually("it is put right", SOON, || async {
        let seen = backend.observe().await?;
        ensure!(seen.healthy && seen.in_step && seen.apis[0].drift == 1, "{seen:?}");
        Ok(())
    })
    .await?;
    answers(port, "a").await?;
    backend.stop(Duration::ZERO).await?;
    ensure!(!backend.observe().await?.healthy);
    let report = wanted.apply_all(&backend).await?;
    ensure!(report.action == Action::Started, "{report:?}");
    answers(port, "a").await?;
    answers(other, "b").await?;

    // What is kept of an upstream goes with it.
    let file = prefix.join("upstreams").join(format!("{web}.conf"));
    ensure!(file.exists());
    let delta = wanted.remove("web");
    backend.apply(&wanted.0, &delta).await?;
    ensure!(!file.exists());
    backend.stop(Duration::ZERO).await?;
    Ok(())
}

#[tokio::test]
async fn another_lbex_adopts_it_and_puts_right_what_changed_meanwhile() -> Result<()> {
    let folder = Scratch::for_nginx("plus")?;
    let prefix = folder.path().join("prefix");
    let (a, b) = (Echo::new("a").start()?, Echo::new("b").start()?);
    let (first, second) = (format!("127.0.0.1:{}", a.port()), format!("127.0.0.1:{}", b.port()));
    let port = free_port()?;
    let mut wanted = Wanted::default();
    wanted.set("web", port, &[&first]);
    wanted.apply_all(&open(&prefix).await?).await?;
    answers(port, "a").await?;
    api(&prefix).add(&upstream("web", port), &NewServer::at("192.0.2.1:9".parse()?)).await?;
    wanted.set("web", port, &[&second]);
    let backend = open(&prefix).await?;
    let report = wanted.apply_all(&backend).await?;
    ensure!(report.action == Action::Live && report.reloads.is_empty(), "{report:?}");
    answers(port, "b").await?;
    ensure!(servers(&prefix, &upstream("web", port)).await?.len() == 1);
    backend.stop(Duration::ZERO).await?;
    Ok(())
}

/// Nothing but what a test does changes anything: no look comes in between.
const QUIET: Pace = Pace { look: Duration::from_secs(60), ..PACE };

#[tokio::test]
async fn an_upstream_that_nginx_lacks_takes_a_reload() -> Result<()> {
    let folder = Scratch::for_nginx("plus")?;
    let prefix = folder.path().join("prefix");
    let (a, b) = (Echo::new("a").start()?, Echo::new("b").start()?);
    let port = free_port()?;
    let mut wanted = Wanted::default();
    wanted.set("web", port, &[&a.address().to_string()]);
    let backend = open_with(&prefix, QUIET).await?;
    wanted.apply_all(&backend).await?;
    let plus = Control::new(&prefix.join("run/api.sock"));
    // At the push, and once more.
    plus.inject(&Rule::new(Fault::Error(Code::UpstreamNotFound)).containing("/servers").times(2)).await?;
    let delta = wanted.set("web", port, &[&b.address().to_string()]);
    ensure!(backend.push(&delta).taken.await.len() == 1, "it is not taken");
    let report = backend.apply(&wanted.0, &delta).await?;
    ensure!(report.reloads == [ReloadReason::Repair] && report.refused.is_empty(), "{report:?}");
    answers(port, "b").await?;
    backend.stop(Duration::ZERO).await?;
    Ok(())
}

#[tokio::test]
async fn a_zone_that_is_full_takes_a_larger_one_and_what_is_served_goes_on() -> Result<()> {
    let folder = Scratch::for_nginx("plus")?;
    let prefix = folder.path().join("prefix");
    let (a, b) = (Echo::new("a").start()?, Echo::new("b").start()?);
    let port = free_port()?;
    let zone = || MainFile::zone_in(&std::fs::read_to_string(prefix.join("conf/nginx.conf")).unwrap_or_default());
    let mut wanted = Wanted::default();
    wanted.set("web", port, &[&a.address().to_string()]);
    let backend = open_with(&prefix, QUIET).await?;
    wanted.apply_all(&backend).await?;
    let before = zone().context("no zone")?;
    let plus = Control::new(&prefix.join("run/api.sock"));
    // At the push, and once more.
    plus.inject(&Rule::new(Fault::Error(Code::UpstreamOutOfMemory)).method("POST").times(2)).await?;
    let delta = wanted.set("web", port, &[&b.address().to_string()]);
    ensure!(backend.push(&delta).taken.await.len() == 1, "it is not taken");
    answers(port, "a").await?;
    let report = backend.apply(&wanted.0, &delta).await?;
    ensure!(report.action == Action::Reloaded && report.reloads == [ReloadReason::Zone], "{report:?}");
    ensure!(report.refused.is_empty() && zone() == Some(2 * before), "{before} {:?} {report:?}", zone());
    answers(port, "b").await?;
    backend.stop(Duration::ZERO).await?;
    Ok(())
}

/// Clients come all the time while the API does everything that it should not: each finds an endpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_what_goes_wrong_with_the_api() -> Result<()> {
    let folder = Scratch::for_nginx("plus")?;
    let prefix = folder.path().join("prefix");
    let echoes = [Echo::new("a").start()?, Echo::new("b").start()?];
    let port = free_port()?;
    let mut wanted = Wanted::default();
    wanted.set("web", port, &[&echoes[0].address().to_string()]);
    let backend = open(&prefix).await?;
    wanted.apply_all(&backend).await?;
    answers(port, "a").await?;
    let plus = Control::new(&prefix.join("run/api.sock"));
    let clients = tokio::spawn(async move {
        let mut asked = 0;
        loop {
            let answer = tcp_ask(([127, 0, 0, 1], port).into()).await;
            match answer {
                Ok(_) => asked += 1,
                Err(error) => return (asked, error),
            }
        }
    });
    let faults = [
        Fault::Slow(Duration::from_millis(200)),
        Fault::SlowAnswer(Duration::from_millis(200)),
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::Broken,
        Fault::Html,
    ];
    for (turn, fault) in (1..).zip(faults) {
        let echo = &echoes[turn % 2];
        for method in ["GET", "POST", "DELETE"] {
            plus.inject(&Rule::new(fault.clone()).method(method).containing("/servers").times(2)).await?;
        }
        drop(backend.push(&wanted.set("web", port, &[&echo.address().to_string()])));
        eventually("only the new one is left", SOON, || async {
            let left = servers(&prefix, &upstream("web", port)).await?;
            ensure!(left.len() == 1 && left[0].address() == Some(echo.address()), "{left:?}");
            Ok(())
        })
        .await?;
        plus.heal().await?;
    }
    ensure!(!clients.is_finished(), "{:?}", clients.await);
    clients.abort();
    backend.stop(Duration::ZERO).await?;
    Ok(())
}
