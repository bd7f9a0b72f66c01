//! Every kind of Service takes its changes without a reload.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};
use lbex_test_harness::backends::{Echo, tcp_ask_from, udp_ask_from};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{EndpointSlice, Node, Object, Service, node, service, slice};
use lbex_test_harness::ports::{free_port, free_ports};
use lbex_test_harness::wait::{SOON, eventually};
use serde_json::json;

use super::{Counts, on_nginx};
use crate::support::{ANSWER, World, at, at6, local, pods, pods_slice, servers, tcp_closes, tcp_reaches, udp_reaches};

/// Applies `objects`, and waits until exactly `names` answer, over TCP and UDP, in all places.
async fn changes(world: &World, objects: &[&dyn Object], places: &[SocketAddr], names: &[&str]) -> Result<()> {
    world.put(objects.iter().copied())?;
    for place in places {
        if names.is_empty() {
            tcp_closes(*place).await?;
        } else {
            tcp_reaches(*place, names).await?;
            udp_reaches(*place, names).await?;
        }
    }
    world.wait_applied().await
}

/// The least busy.
async fn least_conn(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let web = pods("web", port).lbex("algorithm", "least_conn");
    let world = World::start(nginx, [&web as _, &pods_slice("web", &servers) as _]).await?;
    let before = Counts::of(&world.lbex).await?;
    changes(&world, &[&web, &pods_slice("web", &servers[..1])], &[at(port)], &["a"]).await?;
    changes(&world, &[&web, &pods_slice("web", &servers[1..])], &[at(port)], &["b", "c"]).await?;
    before.only_pushed(&world.lbex, 2).await
}

/// One server for each client, over TCP and UDP: removing one moves its clients and no others, who return with it.
async fn client_ip(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(4)?);
    let web = pods("web", port).spec(json!({"sessionAffinity": "ClientIP"}));
    let world = World::start(nginx, [&web as _, &pods_slice("web", &servers) as _]).await?;
    let before = Counts::of(&world.lbex).await?;
    let clients: Vec<IpAddr> = (1..=30).map(|n| local(20, n)).collect();
    let first = who_has_whom(&clients, at(port)).await?;
    let gone = &first[&clients[0]];
    world.put([&web as _, &pods_slice("web", servers.iter().filter(|server| server.name() != gone)) as _])?;
    eventually("the first client has another server", SOON, || async {
        let now = tcp_ask_from(clients[0], at(port)).await?;
        ensure!(now != *gone, "still {now}");
        Ok(())
    })
    .await?;
    world.wait_applied().await?;
    for (client, server) in who_has_whom(&clients, at(port)).await? {
        let was = &first[&client];
        ensure!((was == gone) != (*was == server), "{client} had {was} and has {server}; {gone} is gone");
    }
    world.put([&web as _, &pods_slice("web", &servers) as _])?;
    eventually("the first client has its server again", SOON, || async {
        let now = tcp_ask_from(clients[0], at(port)).await?;
        ensure!(now == *gone, "still {now}");
        Ok(())
    })
    .await?;
    world.wait_applied().await?;
    ensure!(who_has_whom(&clients, at(port)).await? == first, "a client did not return");
    before.only_pushed(&world.lbex, 2).await
}

async fn who_has_whom(clients: &[IpAddr], server: SocketAddr) -> Result<BTreeMap<IpAddr, String>> {
    let mut found = BTreeMap::new();
    for client in clients {
        let name = tcp_ask_from(*client, server).await?;
        let udp = udp_ask_from((*client, 0).into(), server, "me", ANSWER).await?;
        ensure!(udp == name, "client {client} reaches {name} over TCP and {udp} over UDP");
        found.insert(*client, name);
    }
    Ok(found)
}

/// Endpoints of one family, and of both, for clients of both.
async fn families(nginx: Nginx) -> Result<()> {
    let ports = free_ports(2)?;
    let addresses: [(&str, IpAddr); 3] =
        [("six", Ipv6Addr::LOCALHOST.into()), ("four", local(10, 1)), ("other", local(10, 2))];
    let servers = Echo::on_one_port(addresses)?;
    let six = |service: &str, some: bool| {
        let slice = slice(&format!("{service}-6"), service).ipv6();
        let slice = slice.tcp("tcp", servers[0].port()).udp("udp", servers[0].port());
        if some { slice.ready(Ipv6Addr::LOCALHOST, "somewhere") } else { slice }
    };
    let only = pods("only", ports[0]).families(&["IPv6"]);
    let dual = pods("dual", ports[1]).families(&["IPv4", "IPv6"]);
    let four = |which: &[Echo]| pods_slice("dual", which);
    let start = [&only as _, &six("only", true) as _, &dual as _, &six("dual", true) as _, &four(&servers[1..2]) as _];
    let world = World::start(nginx, start).await?;
    let (of_only, of_dual) = ([at(ports[0]), at6(ports[0])], [at(ports[1]), at6(ports[1])]);
    let before = Counts::of(&world.lbex).await?;
    let put = async |only_six, dual_six, dual_four: &[Echo], places: &[SocketAddr], names: &[&str]| {
        let (one, two, three) = (six("only", only_six), six("dual", dual_six), four(dual_four));
        changes(&world, &[&only, &one, &dual, &two, &three], places, names).await
    };
    put(false, true, &servers[1..2], &of_only, &[]).await?;
    put(true, true, &servers[1..2], &of_only, &["six"]).await?;
    put(true, true, &servers[1..], &of_dual, &["six", "four", "other"]).await?;
    put(true, false, &servers[2..], &of_dual, &["other"]).await?;
    put(true, true, &[], &of_dual, &["six"]).await?;
    before.only_pushed(&world.lbex, 5).await
}

/// A named target port that is another number in some Pods: changes within the numbers that were seen are pushed.
async fn named_ports(nginx: Nginx) -> Result<()> {
    let (port, ports) = (free_port()?, free_ports(2)?);
    let echo = |name, host, port: u16| Echo::new(name).ip(local(10, host)).port(port).start();
    let servers = [echo("a", 1, ports[0])?, echo("b", 2, ports[1])?, echo("c", 3, ports[0])?, echo("d", 4, ports[1])?];
    let slices = |which: &[usize]| -> [EndpointSlice; 2] {
        [0, 1].map(|n| {
            let empty = slice(&format!("web-{n}"), "web").tcp("tcp", ports[n]).udp("udp", ports[n]);
            let own = which.iter().map(|index| &servers[*index]).filter(|server| server.port() == ports[n]);
            own.fold(empty, |slice, server| slice.ready(server.address().ip(), "somewhere"))
        })
    };
    let web = pods("web", port);
    let [one, two] = slices(&[0, 1]);
    let world = World::start(nginx, [&web as _, &one as _, &two as _]).await?;
    tcp_reaches(at(port), &["a", "b"]).await?;
    let before = Counts::of(&world.lbex).await?;
    let rounds: [(&[usize], &[&str]); 4] =
        [(&[0, 1, 2], &["a", "b", "c"]), (&[2], &["c"]), (&[3], &["d"]), (&[0, 3], &["a", "d"])];
    for (which, names) in rounds {
        let [one, two] = slices(which);
        changes(&world, &[&web, &one, &two], &[at(port)], names).await?;
    }
    before.only_pushed(&world.lbex, 4).await
}

/// By way of node ports: nodes come and go.
async fn nodes(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let all: Vec<Node> = servers.iter().map(|server| node(server.name()).internal(server.address().ip())).collect();
    let number = servers[0].port();
    let both = service("web").ask().tcp("tcp", 80, number).udp("udp", 80, number);
    let web = both.listen("tcp", port).listen("udp", port);
    let hosts = |names: &[&str]| {
        let slice = slice("web-1", "web").tcp("tcp", 8080).udp("udp", 8080);
        names.iter().fold(slice, |slice, name| slice.ready("10.1.0.1", name))
    };
    let world = World::start(nginx, [&web as _, &all[0] as _, &all[1] as _, &all[2] as _, &hosts(&["a"]) as _]).await?;
    let before = Counts::of(&world.lbex).await?;
    let place = [at(port)];
    changes(&world, &[&web, &all[0], &all[1], &all[2], &hosts(&["b", "c"])], &place, &["b", "c"]).await?;
    changes(&world, &[&web, &all[0], &all[1], &hosts(&["b", "c"])], &place, &["b"]).await?;
    let away = node("b").internal(servers[2].address().ip());
    changes(&world, &[&web, &all[0], &away, &hosts(&["b"])], &place, &["c"]).await?;
    before.only_pushed(&world.lbex, 3).await
}

/// A Service that is made again has another ClusterIP.
async fn cluster_ip(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let web = |server: &Echo| -> Service {
        let both = service("web").ask().lbex("upstream-type", "cluster-ip");
        let both = both.tcp("tcp", server.port(), 0).udp("udp", server.port(), 0);
        both.listen("tcp", port).listen("udp", port).spec(json!({"clusterIP": server.address().ip().to_string()}))
    };
    let world = World::start(nginx, [&web(&servers[0]) as _]).await?;
    tcp_reaches(at(port), &["a"]).await?;
    let before = Counts::of(&world.lbex).await?;
    changes(&world, &[&web(&servers[1])], &[at(port)], &["b"]).await?;
    changes(&world, &[&web(&servers[0])], &[at(port)], &["a"]).await?;
    before.only_pushed(&world.lbex, 2).await
}

on_nginx!(Embedded: least_conn, client_ip, families, named_ports, nodes, cluster_ip);
