//! What the kernel as a data plane does between networks, beside others, and when somebody changes its ruleset.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_conformance::Subject;
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::{Conversation, Echo, tcp_ask, tcp_greeting, udp_ask};
use lbex_test_harness::lbex::Builder;
use lbex_test_harness::manifests::{
    ANSWER, World, at, pods, pods_slice, servers, tcp_reaches, tcp_refused, udp_reaches,
};
use lbex_test_harness::netns::Netns;
use lbex_test_harness::objects::{Object, slice};
use lbex_test_harness::wait::{SOON, eventually};
use nix::sys::signal::Signal;

use super::nftables::Nftables;

const PORT: u16 = 8080;

/// Clients in one network, servers in another, and this host between them.
struct Site {
    clients: Netns,
    pods: Netns,
    servers: Vec<Echo>,
}

impl Site {
    fn new() -> Result<Self> {
        let (clients, pods) = (Netns::new()?, Netns::new()?);
        let names: [(&str, IpAddr); 3] = [("a", pods.v4(1).into()), ("b", pods.v4(2).into()), ("c", pods.v6(1).into())];
        let start = |(name, ip): &(&str, IpAddr)| Echo::new(name).ip(*ip).port(9000).inside(&pods).start();
        let servers = names.iter().map(start).collect::<Result<_>>()?;
        Ok(Self { clients, pods, servers })
    }

    fn objects(&self) -> Vec<Box<dyn Object>> {
        let port = self.servers[0].port();
        let v4 = slice("web-1", "web").tcp("tcp", port).udp("udp", port);
        let v4 = self.servers[..2].iter().fold(v4, |slice, server| slice.ready(server.address().ip(), "somewhere"));
        let v6 = slice("web-2", "web").ipv6().tcp("tcp", port).udp("udp", port);
        let v6 = v6.ready(self.servers[2].address().ip(), "somewhere");
        vec![Box::new(pods("web", PORT).families(&["IPv4", "IPv6"])), Box::new(v4), Box::new(v6)]
    }

    async fn serve(&self, lbex: Builder) -> Result<World> {
        let objects = self.objects();
        World::serve(lbex.arg("--reload-interval=100ms"), objects.iter().map(AsRef::as_ref)).await
    }

    /// This host, as clients elsewhere see it.
    fn listeners(&self) -> [(SocketAddr, &'static [&'static str]); 2] {
        let (v4, v6) = (self.clients.host_v4().into(), self.clients.host_v6().into());
        [(SocketAddr::new(v4, PORT), &["a", "b"]), (SocketAddr::new(v6, PORT), &["c"])]
    }
}

/// A setting of the kernel in this network namespace.
fn set(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{name}");
    std::fs::write(&path, value).with_context(|| format!("failed to write {path}"))
}

fn forward(value: &str) -> Result<()> {
    set("ipv4/ip_forward", value)?;
    set("ipv6/conf/all/forwarding", value)
}

fn nft(arguments: &str) -> Result<String> {
    let output = Command::new("nft").args(arguments.split(' ')).output().context("failed to run nft")?;
    ensure!(output.status.success(), "nft {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a table says, in whatever order: that of a map's elements is the kernel's.
fn words(table: &str) -> Vec<String> {
    let mut words: Vec<_> = table.split_whitespace().map(|word| word.trim_end_matches(',').to_owned()).collect();
    words.sort();
    words
}

fn lbex(settings: &Scratch, text: &str) -> Result<Builder> {
    let file = settings.join("settings.json");
    std::fs::write(&file, text)?;
    Ok(Nftables.lbex()?.arg(format!("--backend-config={}", file.display())))
}

/// Clients elsewhere and this host itself reach servers elsewhere, by both protocols in both families. Servers see this host's address, or
/// the client's where that is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_networks() -> Result<()> {
    Netns::new()?.run(|| async {
        forward("1")?;
        let site = Site::new()?;
        let settings = Scratch::new("nftables")?;
        for keep in [false, true] {
            let world = site.serve(lbex(&settings, &format!("{{\"keep_client_address\": {keep}}}"))?).await?;
            for (server, names) in site.listeners() {
                tcp_reaches(server, names).await?;
                udp_reaches(server, names).await?;
                let seen = site.clients.run(|| async {
                    tcp_reaches(server, names).await?;
                    udp_reaches(server, names).await?;
                    anyhow::Ok(tcp_greeting(server).await?.peer.ip())
                })??;
                let client: [IpAddr; 2] = [site.clients.v4(1).into(), site.clients.v6(1).into()];
                let here: [IpAddr; 2] = [site.pods.host_v4().into(), site.pods.host_v6().into()];
                ensure!(here.contains(&seen) != keep, "keep: {keep}, the server saw {seen}");
                ensure!(!keep || seen.is_ipv6() || client.contains(&seen), "the server saw {seen}");
            }
            // By its loopback address a client would leave this host with an address that nobody can answer.
            tcp_refused(at(PORT)).await?;
            drop(world);
            nft("delete table inet lbex")?;
        }
        Ok(())
    })?
}

/// Without forwarding a Service is refused with the setting that is missing, and served as soon as it is set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_forward_is_told() -> Result<()> {
    Netns::new()?.run(|| async {
        forward("0")?;
        let site = Site::new()?;
        let world = site.serve(Nftables.lbex()?).await?;
        let line = world.lbex.wait_log("net.ipv4.ip_forward to 1", SOON).await?;
        ensure!(line.contains("service=default/web reason=ForwardingOff"), "{line}");
        tcp_refused(site.listeners()[0].0).await?;
        forward("1")?;
        for (server, names) in site.listeners() {
            site.clients.run(|| tcp_reaches(server, names))??;
        }
        world.lbex.wait_log("no longer: refused", SOON).await.map(drop)
    })?
}

/// Whatever somebody does to the table, it is put right, and connections go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_somebody_changes_is_put_right() -> Result<()> {
    Netns::new()?.run(|| async {
        let servers = servers(2)?;
        let web = pods("web", PORT);
        let world = World::serve(Nftables.lbex()?, [&web as _, &pods_slice("web", &servers) as _]).await?;
        let mut connection = Conversation::open(at(PORT)).await?;
        for done in [
            "flush ruleset",
            "delete table inet lbex",
            "flush chain inet lbex tcp-8080-ip",
            "flush map inet lbex all-ip",
            "add rule inet lbex services drop",
        ] {
            let before = words(&nft("list table inet lbex")?);
            nft(done)?;
            eventually(&format!("after {done} it is as before"), SOON, || async {
                ensure!(words(&nft("list table inet lbex")?) == before);
                Ok(())
            })
            .await?;
            tcp_reaches(at(PORT), &["a", "b"]).await?;
            connection.say(done).await?;
        }
        // What somebody does elsewhere is nobody's business.
        let applied = async || world.lbex.metric("lbex_apply_duration_seconds_count", &[("action", "reloaded")]).await;
        let replaced = Some(3.0);
        eventually("the table was replaced three times, and made anew twice", SOON, || async {
            let times = applied().await?;
            ensure!(times == replaced, "{times:?}");
            Ok(())
        })
        .await?;
        nft("add table ip other")?;
        world.put([&web as _, &pods_slice("web", &servers[1..]) as _])?;
        tcp_reaches(at(PORT), &["b"]).await?;
        udp_reaches(at(PORT), &["b"]).await?;
        world.wait_applied().await?;
        ensure!(applied().await? == replaced, "the table was replaced");
        Ok(())
    })?
}

/// Two LBEX on one host need two tables: with one, the second touches nothing and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_another_lbex() -> Result<()> {
    Netns::new()?.run(|| async {
        let servers = servers(1)?;
        let (web, other) = (pods("web", PORT), pods("other", PORT + 1));
        let slices = [pods_slice("web", &servers), pods_slice("other", &servers)];
        let _first = World::serve(Nftables.lbex()?, [&web as _, &slices[0] as _]).await?;
        let before = nft("list table inet lbex")?;
        let settings = Scratch::new("nftables")?;
        let manifests = lbex_test_harness::manifests::Manifests::new()?;
        manifests.put("objects.json", [&other as _, &slices[1] as _])?;
        let refused = Nftables.lbex()?.arg(manifests.flag()).start().await?;
        let line = refused.wait_log("the table inet lbex belongs to LBEX ", SOON).await?;
        ensure!(line.contains("give another name as table"), "{line}");
        ensure!(nft("list table inet lbex")? == before);
        drop(refused);
        let second = lbex(&settings, r#"{"table": "lbex-2"}"#)?.arg("--stop-proxy-on-exit=true");
        let second = World::serve(second, [&other as _, &slices[1] as _]).await?;
        for port in [PORT, PORT + 1] {
            tcp_reaches(at(port), &["a"]).await?;
        }
        // Its end is the end of its table.
        second.lbex.signal(Signal::SIGTERM)?;
        second.lbex.wait_exit(SOON).await?;
        tcp_refused(at(PORT + 1)).await?;
        ensure!(nft("list tables")? == "table inet lbex\n" && nft("list table inet lbex")? == before);
        ensure!(tcp_ask(at(PORT)).await? == "a" && udp_ask(at(PORT), "?", ANSWER).await? == "a");
        Ok(())
    })?
}
