//! Endpoints: none, some, none again; on ports of their own.

use anyhow::Result;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::manifests::{at, local, pods_slice, servers};
use lbex_test_harness::objects::slice;
use lbex_test_harness::ports::{free_port, free_ports};

use crate::Subject;
use crate::common::{nobody, reaches, start, web};

/// 0 -> 3 -> 0 -> 1: the listener stays all the time.
pub async fn none_three_none_one(subject: &dyn Subject) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let web = web(subject, "web", port);
    let world = start(subject, [&web as _, &pods_slice("web", []) as _]).await?;
    let server = at(port);
    for round in [&servers[..0], &servers[..], &servers[..0], &servers[2..]] {
        world.put([&web as _, &pods_slice("web", round) as _])?;
        if round.is_empty() {
            nobody(subject, server).await?;
        } else {
            let names: Vec<_> = round.iter().map(Echo::name).collect();
            reaches(subject, server, &names).await?;
        }
    }
    // No slices at all are no endpoints either.
    world.put([&web as _])?;
    nobody(subject, server).await
}

/// A named target port may be another number in each Pod: then each number has a slice of its own.
pub async fn on_ports_of_their_own(subject: &dyn Subject) -> Result<()> {
    let (port, ports) = (free_port()?, free_ports(2)?);
    let servers = [
        Echo::new("a").ip(local(10, 1)).port(ports[0]).start()?,
        Echo::new("b").ip(local(10, 2)).port(ports[1]).start()?,
    ];
    let slice = |name: &str, server: &Echo| {
        let ports = slice(name, "web").tcp("tcp", server.port()).udp("udp", server.port());
        ports.ready(server.address().ip(), "somewhere")
    };
    let slices = [slice("web-1", &servers[0]), slice("web-2", &servers[1])];
    let web = web(subject, "web", port);
    let _world = start(subject, [&web as _, &slices[0] as _, &slices[1] as _]).await?;
    reaches(subject, at(port), &["a", "b"]).await
}
