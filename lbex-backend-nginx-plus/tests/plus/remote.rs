//! NGINX Plus elsewhere.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbex_backend_nginx_plus::Pace;
use lbex_core::backend::{Action, Instead, ProxyBackend};
use lbex_plus_standin::{Fault, Rule, StandIn};
use lbex_test_harness::wait::{SOON, eventually};

use crate::support::{PACE, Wanted, address, addresses, has, key, listener, push, remote, upstream};

#[tokio::test]
async fn upstreams_that_exist_are_kept_in_step_and_nothing_else_is_touched() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (web, theirs) = (upstream("web", 80), "theirs");
    let (old, kept) = (address("10.0.0.9:80"), address("10.0.0.1:80"));
    let plus = StandIn::builder().tcp(0).upstream(&web, &[old, kept]).upstream(theirs, &[old]).start().await?;
    let backend = remote(folder.path(), PACE, &[&plus]).await?;
    let mut wanted = Wanted::default();
    wanted.set("web", 80, &["10.0.0.1:80", "10.0.0.2:80"]);
    wanted.set("gone", 81, &["10.0.0.1:81"]);
    let report = wanted.apply_all(&backend).await?;
    ensure!(report.action == Action::Live && report.reloads.is_empty());
    ensure!(report.refused.len() == 1);
    let refusal = &report.refused[&key("gone")][0];
    ensure!(refusal.code == "UpstreamNotFound" && refusal.instead == Instead::LeftOut, "{refusal:?}");
    ensure!(refusal.message.contains("81.tcp.default.gone") && refusal.message.contains("zone"), "{refusal}");
    has(&plus, &web, &["10.0.0.1:80", "10.0.0.2:80"]).await?;
    // The kept server's fail_timeout, the new one, the old one.
    let methods: Vec<String> =
        plus.writes().iter().map(|line| line.split(' ').next().unwrap_or("").to_owned()).collect();
    ensure!(methods == ["POST", "PATCH", "DELETE"], "{:?}", plus.writes());
    ensure!(plus.up(theirs) == [old]);

    // An upstream that comes is found, and the engine is told to look at its refusals anew.
    plus.change(|state| {
        let name = upstream("gone", 81);
        state.upstreams.insert(name.clone(), lbex_plus_standin::api::Upstream::with(&name, []));
    })
    .await?;
    has(&plus, &upstream("gone", 81), &["10.0.0.1:81"]).await?;
    eventually("it is out of step with what was reported", SOON, || async {
        ensure!(!backend.observe().await?.in_step);
        Ok(())
    })
    .await?;
    ensure!(wanted.apply_all(&backend).await?.refused.is_empty());
    ensure!(backend.observe().await?.in_step);
    Ok(())
}

#[tokio::test]
async fn an_endpoint_change_is_as_many_calls_as_servers_changed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let web = upstream("web", 80);
    let plus = StandIn::builder().tcp(0).upstream(&web, &[]).start().await?;
    let backend = remote(folder.path(), PACE, &[&plus]).await?;
    let mut wanted = Wanted::default();
    wanted.set("web", 80, &["10.0.0.1:80", "10.0.0.2:80"]);
    wanted.apply_all(&backend).await?;
    plus.forget_calls();
    push(&backend, &wanted.set("web", 80, &["10.0.0.2:80", "10.0.0.3:80"])).await?;
    let writes = plus.writes();
    ensure!(writes.len() == 2 && writes[0].starts_with("POST") && writes[1].starts_with("DELETE"), "{writes:?}");
    push(&backend, &wanted.set("web", 80, &[])).await?;
    ensure!(plus.up(&web).is_empty() && plus.writes().len() == 4);
    push(&backend, &wanted.set("web", 80, &["[fd00::1]:80"])).await?;
    ensure!(plus.up(&web) == [address("[fd00::1]:80")]);
    Ok(())
}

#[tokio::test]
async fn a_dead_instance_and_a_slow_one_delay_no_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let web = upstream("web", 80);
    let start = || StandIn::builder().tcp(0).upstream(&web, &[]).start();
    let (good, dead, slow) = (start().await?, start().await?, start().await?);
    let backend = remote(folder.path(), PACE, &[&good, &dead, &slow]).await?;
    let mut wanted = Wanted::default();
    wanted.set("web", 80, &["10.0.0.1:80"]);
    wanted.apply_all(&backend).await?;
    for plus in [&good, &dead, &slow] {
        has(plus, &web, &["10.0.0.1:80"]).await?;
    }
    dead.refuse().await?;
    slow.inject(Rule::new(Fault::Slow(Duration::from_secs(3))).always());
    for round in 2..6 {
        let server = format!("10.0.0.{round}:80");
        let begin = Instant::now();
        let pushed = backend.push(&wanted.set("web", 80, &[&server]));
        has(&good, &web, &[&server]).await?;
        ensure!(begin.elapsed() < Duration::from_millis(2500), "{:?}", begin.elapsed());
        ensure!(pushed.taken.await.is_empty(), "one has it");
    }
    let seen = eventually("the dead one is told", SOON, || async {
        let seen = backend.observe().await?;
        ensure!(seen.healthy && seen.apis.iter().filter(|api| !api.answers).count() >= 1, "{seen:?}");
        Ok(seen)
    })
    .await?;
    ensure!(seen.detail.contains(&dead.address().to_string()), "{}", seen.detail);
    dead.accept().await?;
    slow.heal();
    has(&dead, &web, &["10.0.0.5:80"]).await?;
    has(&slow, &web, &["10.0.0.5:80"]).await
}

#[tokio::test]
async fn nobody_answers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let web = upstream("web", 80);
    let plus = StandIn::builder().tcp(0).upstream(&web, &[]).start().await?;
    plus.refuse().await?;
    let backend = remote(folder.path(), PACE, &[&plus]).await?;
    let mut wanted = Wanted::default();
    wanted.set("web", 80, &["10.0.0.1:80"]);
    let error = wanted.apply_all(&backend).await.expect_err("nobody").to_string();
    ensure!(error.contains("cannot connect") && error.contains(&plus.address().to_string()), "{error}");
    ensure!(!backend.observe().await?.healthy);
    plus.accept().await?;
    has(&plus, &web, &["10.0.0.1:80"]).await
}

#[tokio::test]
async fn what_somebody_else_changes_and_what_a_restart_loses_is_put_right_and_counted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let web = upstream("web", 80);
    let plus = StandIn::builder().tcp(0).upstream(&web, &[]).start().await?;
    let backend = remote(folder.path(), PACE, &[&plus]).await?;
    let servers = ["10.0.0.1:80", "10.0.0.2:80"];
    let mut wanted = Wanted::default();
    wanted.set("web", 80, &servers);
    wanted.apply_all(&backend).await?;
    let drift = async |count: u64| {
        eventually("it is put right, and counted", SOON, || async {
            let api = &backend.observe().await?.apis[0];
            ensure!(api.drift == count && api.in_step == 1 && api.servers["up"] == 2, "{api:?}");
            Ok(())
        })
        .await?;
        has(&plus, &web, &servers).await
    };
    drift(0).await?;
    plus.change(|state| drop(state.upstreams.get_mut(&upstream("web", 80)).map(|web| web.servers.remove(0)))).await?;
    drift(1).await?;
    plus.change(|state| {
        if let Some(server) = state.upstreams.get_mut(&upstream("web", 80)).and_then(|web| web.servers.first_mut()) {
            server.down = true;
        }
    })
    .await?;
    drift(2).await?;
    plus.restart(false).await?;
    drift(3).await?;
    plus.restart(true).await?;
    drift(3).await
}

#[tokio::test]
async fn a_service_that_is_gone_leaves_no_servers_behind() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (web, other) = (upstream("web", 80), upstream("other", 81));
    let plus = StandIn::builder().tcp(0).upstream(&web, &[]).upstream(&other, &[]).start().await?;
    let mut wanted = Wanted::default();
    wanted.set("web", 80, &["10.0.0.1:80"]);
    wanted.set("other", 81, &["10.0.0.1:81"]);
    let last_good = wanted.0.clone();
    {
        let backend = remote(folder.path(), PACE, &[&plus]).await?;
        wanted.apply_all(&backend).await?;
        let delta = wanted.remove("web");
        backend.apply(&wanted.0, &delta).await?;
        has(&plus, &web, &[]).await?;
    }
    // Removed while no LBEX ran.
    wanted.remove("other");
    let backend = remote(folder.path(), PACE, &[&plus]).await?;
    backend.remember(&last_good);
    wanted.apply_all(&backend).await?;
    has(&plus, &other, &[]).await
}

#[tokio::test]
async fn a_service_that_restricts_its_clients_gets_no_servers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let web = upstream("web", 80);
    let plus = StandIn::builder().tcp(0).upstream(&web, &[address("10.0.0.1:80")]).start().await?;
    let backend = remote(folder.path(), PACE, &[&plus]).await?;
    let mut wanted = Wanted::default();
    let mut restricted = listener(80, &addresses(&["10.0.0.1:80"]));
    restricted.allow = ["10.0.0.0/8".parse()?].into();
    wanted.put("web", vec![restricted]);
    let report = wanted.apply_all(&backend).await?;
    ensure!(report.refused[&key("web")][0].code == "SourceRangesNotEnforced");
    has(&plus, &web, &[]).await
}

#[tokio::test]
async fn a_server_that_goes_is_drained_first() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let web = upstream("web", 80);
    let plus = StandIn::builder().tcp(0).upstream(&web, &[]).start().await?;
    let pace = Pace { drain: Some(Duration::from_secs(5)), ..PACE };
    let backend = remote(folder.path(), pace, &[&plus]).await?;
    let mut wanted = Wanted::default();
    wanted.set("web", 80, &["10.0.0.1:80", "10.0.0.2:80"]);
    wanted.apply_all(&backend).await?;
    // The first has a connection, and the second none.
    let busy = |state: &mut lbex_plus_standin::api::State, active| {
        let web = state.upstreams.get_mut(&upstream("web", 80)).expect("it is there");
        let id = web.servers.iter().find(|server| server.server == address("10.0.0.1:80")).expect("it is there").id;
        web.peers.entry(id).or_default().active = active;
    };
    plus.change(|state| busy(state, 1)).await?;
    plus.forget_calls();
    let begin = Instant::now();
    push(&backend, &wanted.set("web", 80, &["10.0.0.3:80"])).await?;
    let writes = plus.writes();
    ensure!(
        writes.len() == 3 && writes[0].starts_with("POST") && writes[1..].iter().all(|w| w.starts_with("PATCH")),
        "{writes:?}"
    );
    ensure!(plus.up(&web) == [address("10.0.0.3:80")]);
    has_so_many(&plus, &web, 2).await?;
    ensure!(begin.elapsed() < Duration::from_secs(5), "one without connections does not wait: {:?}", begin.elapsed());
    has_so_many(&plus, &web, 1).await?;
    ensure!(begin.elapsed() >= Duration::from_secs(5), "one with connections has its time: {:?}", begin.elapsed());
    ensure!(backend.observe().await?.apis[0].drift == 0, "a drain is no drift");

    // One that comes back meanwhile stays.
    plus.change(|state| {
        let web = state.upstreams.get_mut(&upstream("web", 80)).expect("it is there");
        let id = web.servers[0].id;
        web.peers.entry(id).or_default().active = 1;
    })
    .await?;
    push(&backend, &wanted.set("web", 80, &[])).await?;
    plus.forget_calls();
    push(&backend, &wanted.set("web", 80, &["10.0.0.3:80"])).await?;
    ensure!(plus.writes().len() == 1 && plus.writes()[0].starts_with("PATCH"), "{:?}", plus.writes());
    has(&plus, &web, &["10.0.0.3:80"]).await
}

async fn has_so_many(plus: &StandIn, upstream: &str, count: usize) -> Result<()> {
    eventually("so many servers are left", SOON, || async {
        let now = plus.state().upstreams[upstream].servers.len();
        ensure!(now == count, "{now}");
        Ok(())
    })
    .await
}
