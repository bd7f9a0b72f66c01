//! What the tests share.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use lbex_test_harness::manifests::{
    World, pods, tcp_closes, tcp_reaches, tcp_refused, udp_reaches, udp_refused, udp_silent,
};
use lbex_test_harness::objects::{Object, Service, service};
use lbex_test_harness::wait::SOON;

use crate::{Feature, Subject};

/// Starts LBEX with the subject on these objects, and waits until all is applied. Changes may follow one another at once.
pub(crate) async fn start<'a>(
    subject: &dyn Subject,
    objects: impl IntoIterator<Item = &'a dyn Object>,
) -> Result<World> {
    World::serve(subject.lbex()?.arg("--reload-interval=100ms"), objects).await
}

/// A Service whose traffic goes to Pods, for TCP and, where the subject has it, UDP.
pub(crate) fn web(subject: &dyn Subject, name: &str, listener: u16) -> Service {
    if subject.lacks(Feature::Udp).is_none() {
        return pods(name, listener);
    }
    service(name).ask().lbex("upstream-type", "pod").tcp("tcp", listener, 0).listen("tcp", listener)
}

/// Waits until exactly these servers answer, over TCP and, where the subject has it, UDP.
pub(crate) async fn reaches(subject: &dyn Subject, server: SocketAddr, names: &[&str]) -> Result<()> {
    tcp_reaches(server, names).await?;
    if subject.lacks(Feature::Udp).is_none() { udp_reaches(server, names).await } else { Ok(()) }
}

/// Waits until clients are turned away as by a Service without endpoints, over TCP and, where the subject has it, UDP.
pub(crate) async fn nobody(subject: &dyn Subject, server: SocketAddr) -> Result<()> {
    let has_udp = subject.lacks(Feature::Udp).is_none();
    match (subject.refuses(), has_udp) {
        (true, has_udp) => {
            tcp_refused(server).await?;
            if has_udp { udp_refused(server).await } else { Ok(()) }
        }
        (false, has_udp) => {
            tcp_closes(server).await?;
            if has_udp { udp_silent(server).await } else { Ok(()) }
        }
    }
}

/// Waits until LBEX has said these words about the Service `default/NAME`.
pub(crate) async fn told(world: &World, name: &str, words: &str) -> Result<()> {
    let line = world.lbex.wait_log(words, SOON).await?;
    ensure!(line.contains(&format!("default/{name}")), "{words:?} is about another Service: {line}");
    Ok(())
}

/// Shows that a Service is told these words.
pub(crate) async fn is_told<'a>(
    subject: &dyn Subject,
    objects: impl IntoIterator<Item = &'a dyn Object>,
    name: &str,
    words: &str,
) -> Result<()> {
    told(&start(subject, objects).await?, name, words).await
}
