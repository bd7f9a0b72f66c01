//! Many endpoints, many clients.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use lbex_test_harness::backends::{tcp_ask, tcp_ask_from};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{EndpointSlice, Object, slice};
use lbex_test_harness::ports::{free_port, free_ports};
use lbex_test_harness::wait::{SOON, eventually};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Counts, on_nginx};
use crate::support::{World, at, pods};

/// Clients that ask at one time.
const AT_ONCE: usize = 50;

/// An endpoint at each address of this host, with one TCP port: it calls itself by the address that a client has connected to.
struct Crowd {
    port: u16,
    task: JoinHandle<()>,
}

impl Crowd {
    async fn start() -> Result<Self> {
        let port = free_port()?;
        // A program that another test starts may have it, until it is executed.
        let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
        let listener = eventually("the port can be had", SOON, bind).await?;
        let task = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                tokio::spawn(async move {
                    if let Err(error) = greet(stream, peer).await {
                        eprintln!("a client of {peer} went away: {error}");
                    }
                });
            }
        });
        Ok(Self { port, task })
    }

    /// The slice of a Service with these endpoints.
    fn slice<'a>(&self, service: &str, addresses: impl IntoIterator<Item = &'a IpAddr>) -> EndpointSlice {
        let ports = slice(&format!("{service}-1"), service).tcp("tcp", self.port).udp("udp", self.port);
        addresses.into_iter().fold(ports, |slice, address| slice.ready(address, "somewhere"))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn greet(mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let name = stream.local_addr()?.ip();
    stream.write_all(format!("{name} {peer}\n").as_bytes()).await?;
    // Until the client ends it.
    stream.read(&mut [0]).await.map(drop)
}

/// `count` addresses of 127.`network`.0.0.
fn addresses(network: u8, count: u16) -> Vec<IpAddr> {
    let address = |n: u16| [127, network, u8::try_from(n / 250).unwrap_or(u8::MAX), 1 + (n % 250) as u8].into();
    (0..count).map(address).collect()
}

/// Asks them all, some at a time.
async fn all<T, F: Future<Output = io::Result<T>>>(asks: impl Iterator<Item = F>) -> Result<Vec<T>> {
    stream::iter(asks).buffer_unordered(AT_ONCE).try_collect().await.context("one of many clients")
}

/// Four Services with 1,000 endpoints each, which come at once: more than the zone has room for takes one reload, and from then on
/// changes are pushed. (An answer with 1,000 addresses does not fit a datagram: NGINX asks by TCP.)
async fn a_thousand_endpoints(nginx: Nginx) -> Result<()> {
    let (ports, crowd, many) = (free_ports(4)?, Crowd::start().await?, addresses(1, 1_000));
    let names: Vec<String> = (0..4).map(|n| format!("s{n}")).collect();
    let services: Vec<_> = names.iter().zip(&ports).map(|(name, port)| pods(name, *port)).collect();
    let objects = |slices: &[EndpointSlice]| -> Vec<Box<dyn Object>> {
        let services = services.iter().map(|one| Box::new(one.clone()) as _);
        services.chain(slices.iter().map(|one| Box::new(one.clone()) as _)).collect()
    };
    let slices = |addresses: &[IpAddr]| names.iter().map(|name| crowd.slice(name, addresses)).collect::<Vec<_>>();
    let put = |world: &World, addresses: &[IpAddr]| world.put(objects(&slices(addresses)).iter().map(Box::as_ref));
    let first = objects(&slices(&many[..10]));
    let world = World::start(nginx, first.iter().map(Box::as_ref)).await?;
    let before = Counts::of(&world.lbex).await?;

    put(&world, &many)?;
    serves(&ports, &many).await?;
    world.wait_applied().await?;
    before.then(&world.lbex, 0, 1).await?;

    let grown = Counts::of(&world.lbex).await?;
    put(&world, &many[..900])?;
    serves(&ports, &many[..900]).await?;
    put(&world, &many[100..])?;
    serves(&ports, &many[100..]).await?;
    world.wait_applied().await?;
    grown.only_pushed(&world.lbex, 2).await
}

/// Waits until each of the addresses gets its turn, and no other.
async fn serves(ports: &[u16], addresses: &[IpAddr]) -> Result<()> {
    let expected: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
    for port in ports {
        eventually("each endpoint has a client", SOON, || async {
            let seen: BTreeSet<String> = all(addresses.iter().map(|_| tcp_ask(at(*port)))).await?.into_iter().collect();
            let (more, less) = (seen.difference(&expected).count(), expected.difference(&seen).count());
            // Clients of the same moment may get one endpoint twice.
            ensure!(more == 0 && less <= addresses.len() / 50, "{more} others, {less} missing");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// 1,000 clients with affinity to ten endpoints: with one endpoint removed its clients move and no others; with it back, all are
/// where they were.
async fn a_thousand_clients(nginx: Nginx) -> Result<()> {
    let (port, crowd, ten, clients) = (free_port()?, Crowd::start().await?, addresses(1, 10), addresses(2, 1_000));
    let web = pods("web", port).spec(json!({"sessionAffinity": "ClientIP"}));
    let world = World::start(nginx, [&web as _, &crowd.slice("web", &ten) as _]).await?;
    let before = Counts::of(&world.lbex).await?;
    let ask = |client: IpAddr| async move { tcp_ask_from(client, at(port)).await.map(|name| (client, name)) };
    let who = async || {
        Ok::<BTreeMap<_, _>, anyhow::Error>(all(clients.iter().map(|one| ask(*one))).await?.into_iter().collect())
    };
    let (first, gone) = (who().await?, ten[3].to_string());
    let one_of_it = first.iter().find(|(_, server)| **server == gone).map(|(client, _)| *client);
    let one_of_it = one_of_it.context("nobody has the one that goes")?;

    world.put([&web as _, &crowd.slice("web", ten.iter().filter(|one| one.to_string() != gone)) as _])?;
    eventually("its client has another", SOON, || async {
        let now = tcp_ask_from(one_of_it, at(port)).await?;
        ensure!(now != gone, "still {now}");
        Ok(())
    })
    .await?;
    world.wait_applied().await?;
    let without = who().await?;
    let moved = clients.iter().filter(|client| first[client] != without[client]).count();
    let its = clients.iter().filter(|client| first[client] == gone).count();
    let others = clients.iter().filter(|client| first[client] != gone && first[client] != without[client]).count();
    ensure!(others == 0 && moved == its, "{moved} of {its} clients moved, and {others} of others");
    ensure!((50..200).contains(&its), "{its} of 1,000 clients had one of ten");

    world.put([&web as _, &crowd.slice("web", &ten) as _])?;
    eventually("its client has it again", SOON, || async {
        let now = tcp_ask_from(one_of_it, at(port)).await?;
        ensure!(now == gone, "still {now}");
        Ok(())
    })
    .await?;
    world.wait_applied().await?;
    ensure!(who().await? == first, "not everybody returned");
    before.only_pushed(&world.lbex, 2).await?;
    eprintln!("of 1,000 clients {its} moved, and returned");
    Ok(())
}

on_nginx!(Embedded: a_thousand_endpoints, a_thousand_clients);
