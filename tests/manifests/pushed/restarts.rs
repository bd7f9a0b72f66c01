//! Another NGINX, or another way for endpoints, over a restart of LBEX under load.

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::nginx::{Nginx, NginxProcess};
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually};

use super::load::{Held, Load};
use super::{Counts, on_nginx};
use crate::capacity::raise_file_limit;
use crate::support::{Manifests, at, lbex_on, pods, pods_slice, servers, tcp_reaches, udp_reaches};

/// Connections that stay over an upgrade.
const HELD: usize = 1_000;

async fn start(manifests: &Manifests, home: &Scratch, nginx: Nginx, flags: &[&str]) -> Result<Lbex> {
    let lbex = lbex_on(manifests, nginx)
        .args(flags)
        .args(["--reload-interval=100ms", "--udp-idle-timeout=1s"])
        .prefix(&home.join("prefix"))
        .start()
        .await?;
    lbex.wait_healthy().await?;
    // The first apply may well come after that: the NGINX that runs is healthy already.
    lbex.wait_applied().await?;
    Ok(lbex)
}

/// From an NGINX without LBEX's changes to the embedded one and back, while clients come and others stay: an upgrade in place each
/// time, no client fails, and changes are pushed before and after.
async fn another_nginx(_: Nginx) -> Result<()> {
    raise_file_limit()?;
    let (manifests, home) = (Manifests::new()?, Scratch::for_nginx("prefix")?);
    let (ports, servers) = (free_ports(2)?, servers(3)?);
    let put = |moving: usize| {
        let slice = |name| pods_slice(name, [&servers[0], &servers[moving]]);
        let (web, other) = (pods("web", ports[0]), pods("other", ports[1]));
        manifests.put("all.json", [&web as _, &slice("web") as _, &other as _, &slice("other") as _])
    };
    put(1)?;
    let places = [at(ports[0]), at(ports[1])];
    let mut lbex = start(&manifests, &home, Nginx::Stock, &[]).await?;
    tcp_reaches(places[0], &["a", "b"]).await?;
    let mut load = Load::tcp(&places);
    for (moving, nginx) in [(2, Nginx::Embedded), (1, Nginx::Stock)] {
        let mut held = Held::default();
        held.hold_tcp(places[0], "a", HELD).await?;
        load.goes_on(20).await?;
        lbex.terminate().await?;
        lbex = start(&manifests, &home, nginx, &[]).await?;
        eventually("NGINX is upgraded in place", SOON, || async {
            let upgrades = lbex.metric("lbex_apply_duration_seconds_count", &[("action", "upgraded")]).await?;
            ensure!(upgrades == Some(1.0), "{nginx:?}: {upgrades:?} upgrades; {}", lbex.log_tail());
            Ok(())
        })
        .await?;
        load.goes_on(20).await?;
        let before = Counts::of(&lbex).await?;
        put(moving)?;
        for place in places {
            tcp_reaches(place, &["a", servers[moving].name()]).await?;
            udp_reaches(place, &["a", servers[moving].name()]).await?;
        }
        before.only_pushed(&lbex, 1).await?;
        held.check().await.with_context(|| format!("after the upgrade to {nginx:?}"))?;
        // There is no further upgrade before the NGINX of the last one has ended.
        drop(held);
        eventually("one master is left", SOON, || async {
            let masters = lbex.nginx_processes().into_iter().filter(NginxProcess::is_master).count();
            ensure!(masters == 1, "{masters} masters");
            Ok(())
        })
        .await?;
    }
    let served = load.finish().await?;
    eprintln!("{served} clients came meanwhile");
    Ok(())
}

/// `--endpoint-updates` from push to reload and back: no client fails, and changes arrive in either way.
async fn another_way(nginx: Nginx) -> Result<()> {
    let (manifests, home) = (Manifests::new()?, Scratch::for_nginx("prefix")?);
    let (ports, servers) = (free_ports(2)?, servers(3)?);
    let put = |moving: usize| {
        let slice = |name| pods_slice(name, [&servers[0], &servers[moving]]);
        let (web, other) = (pods("web", ports[0]), pods("other", ports[1]));
        manifests.put("all.json", [&web as _, &slice("web") as _, &other as _, &slice("other") as _])
    };
    put(1)?;
    let places = [at(ports[0]), at(ports[1])];
    let mut lbex = start(&manifests, &home, nginx, &[]).await?;
    tcp_reaches(places[0], &["a", "b"]).await?;
    let mut held = Held::default();
    held.hold_tcp(places[0], "a", 5).await?;
    let mut load = Load::both(&places);
    for (round, way) in ["reload", "push", "reload", "push"].into_iter().enumerate() {
        load.goes_on(20).await?;
        lbex.terminate().await?;
        lbex = start(&manifests, &home, nginx, &[&format!("--endpoint-updates={way}")]).await?;
        load.goes_on(20).await?;
        let (before, moving) = (Counts::of(&lbex).await?, 1 + (round + 1) % 2);
        put(moving)?;
        for place in places {
            tcp_reaches(place, &["a", servers[moving].name()]).await?;
            udp_reaches(place, &["a", servers[moving].name()]).await?;
        }
        let (pushes, reloads) = if way == "push" { (1, 0) } else { (0, 1) };
        before.then(&lbex, pushes, reloads).await.context(way)?;
        held.check().await?;
    }
    load.finish().await.map(drop)
}

on_nginx!(Embedded: another_nginx, another_way);
