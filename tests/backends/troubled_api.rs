//! An NGINX Plus elsewhere whose API is in trouble: every change arrives in the end, and no client is lost meanwhile. The stand-in
//! carries the traffic.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_plus_standin::api::Code;
use lbex_plus_standin::traffic::{OpenSource, Route};
use lbex_plus_standin::{Fault, Rule, StandIn};
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::{Conversation, Echo};
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::manifests::{World, pods_slice, servers, tcp_reaches};
use lbex_test_harness::objects::{Service, service};
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A Service that clients use without pause, with the servers `a` to `d`; at first, and whenever the API loses its state, `a` alone.
struct Site {
    plus: StandIn,
    world: World,
    web: Service,
    servers: Vec<Echo>,
    listener: SocketAddr,
    upstream: String,
    enough: watch::Sender<bool>,
    clients: JoinHandle<Result<usize>>,
    _folder: Scratch,
}

impl Site {
    async fn start() -> Result<Self> {
        let (port, servers, folder) = (free_port()?, servers(4)?, Scratch::for_nginx("plus")?);
        let (upstream, listener) = (format!("{port}.tcp.default.web"), (Ipv4Addr::LOCALHOST, port).into());
        let route = Route { listen: listener, udp: false, upstream: upstream.clone() };
        let nginx = OpenSource::new(&folder.join("nginx"), vec![route]).await?;
        let plus = StandIn::builder().tcp(free_port()?).traffic(nginx);
        let plus = plus.upstream(&upstream, &[servers[0].address()]).upstream("other", &[servers[3].address()]);
        let plus = plus.start().await?;
        let api = format!("--nginx-plus-api=http://{}", plus.address());
        let lbex = Lbex::builder(super::binary()).args(["--backend=nginx-plus", &api]);
        let web = service("web").ask().lbex("upstream-type", "pod").tcp("tcp", port, 0).listen("tcp", port);
        let world = World::serve(lbex, [&web as _, &pods_slice("web", &servers[..1]) as _]).await?;
        let (enough, told) = watch::channel(false);
        let clients = tokio::spawn(async move {
            let mut count = 0;
            while !*told.borrow() {
                Conversation::open(listener).await?.say("here").await.context("a client was lost")?;
                count += 1;
            }
            Ok(count)
        });
        Ok(Self { plus, world, web, servers, listener, upstream, enough, clients, _folder: folder })
    }

    /// The Service is to have these servers.
    fn want(&self, names: &str) -> Result<()> {
        let wanted = self.servers.iter().filter(|server| names.contains(server.name()));
        self.world.put([&self.web as _, &pods_slice("web", wanted) as _])
    }

    /// Waits until clients reach these servers and no other.
    async fn reaches(&self, names: &str) -> Result<()> {
        let wanted: Vec<_> = self.servers.iter().filter(|server| names.contains(server.name())).collect();
        eventually("the API has the servers", SOON, || async {
            let up = self.plus.up(&self.upstream);
            ensure!(up == wanted.iter().map(|server| server.address()).collect::<Vec<_>>(), "{up:?}");
            Ok(())
        })
        .await?;
        let names: Vec<&str> = wanted.iter().map(|server| server.name()).collect();
        tcp_reaches(self.listener, &names).await
    }

    /// Ends the clients, of which nobody was lost.
    async fn end(self) -> Result<()> {
        self.enough.send(true)?;
        let served = self.clients.await??;
        ensure!(served > 100, "{served} clients");
        Ok(())
    }
}

/// Slow, broken, or lying: for each a change of endpoints, which arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_arrives_whatever_the_api_does() -> Result<()> {
    let site = Site::start().await?;
    let faults = [
        Rule::new(Fault::Slow(Duration::from_millis(700))).times(2),
        Rule::new(Fault::DropAfter).method("POST"),
        Rule::new(Fault::Html).times(2),
        Rule::new(Fault::Other("other".to_owned())).method("GET"),
        Rule::new(Fault::Error(Code::UpstreamServerNotFound)).method("DELETE"),
    ];
    for (rule, names) in faults.into_iter().zip(["bc", "a", "bd", "ac", "b"]) {
        let what = format!("{rule:?}");
        site.plus.forget_calls();
        site.plus.inject(rule);
        site.want(names)?;
        site.reaches(names).await.with_context(|| what.clone())?;
        ensure!(site.plus.calls().iter().any(|call| call.fault.is_some()), "no call has had the fault: {what}");
        ensure!(!site.clients.is_finished(), "a client was lost: {what}");
        site.plus.heal();
    }
    site.end().await
}

/// The API refuses connections while endpoints change, and comes back: as it was, then with its state lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_arrives_after_the_api_was_away_or_lost_its_state() -> Result<()> {
    let site = Site::start().await?;
    site.plus.refuse().await?;
    site.want("bc")?;
    site.world.lbex.wait_log("cannot connect", SOON).await?;
    site.plus.accept().await?;
    site.reaches("bc").await?;
    site.plus.restart(false).await?;
    site.reaches("bc").await?;
    site.end().await
}
