//! ExternalName Services and the annotation `resolver`: contract sections 3 and 4.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{Service, service};
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_port;
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use crate::common::{Cluster, tcp_is};

/// A DNS server to which every name is 127.0.0.1.
struct Dns {
    address: SocketAddr,
    task: AbortHandle,
}

impl Dns {
    async fn start() -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let task = tokio::spawn(async move {
            let mut question = [0; 512];
            loop {
                let Ok((length, client)) = socket.recv_from(&mut question).await else { continue };
                if let Some(answer) = answer(&question[..length])
                    && let Err(error) = socket.send_to(&answer, client).await
                {
                    eprintln!("the DNS server of the test failed to answer: {error}");
                }
            }
        });
        Ok(Self { address, task: task.abort_handle() })
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The answer to a question with one name: an address if it asks for IPv4, else that there is none.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let end = HEADER + question.get(HEADER..)?.iter().position(|&byte| byte == 0)? + 5;
    let of_v4 = question.get(end - 4..end - 2)? == [0, 1];
    let mut answer = question.get(..2)?.to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(of_v4), 0, 0, 0, 0]);
    answer.extend(question.get(HEADER..end)?);
    if of_v4 {
        // The name as in the question, type A, class IN, a TTL of one second.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(Ipv4Addr::LOCALHOST.octets());
    }
    Some(answer)
}

fn external(name: &str, port: u16) -> Service {
    service(name).ask().spec(json!({"type": "ExternalName", "externalName": "backend.test"})).tcp("http", port, 0)
}

async fn names_outside_are_resolved_where_that_is_allowed(nginx: Nginx) -> Result<()> {
    let cluster = Cluster::new().await?;
    let (dns, backend) = (Dns::start().await?, Echo::new("outside").start()?);
    let (port, listed) = (free_port()?, free_port()?);
    let by = |name: &str, listen: u16, resolver: &str| {
        external(name, backend.port()).listen("http", listen).lbex("resolver", resolver)
    };
    let resolver = dns.address.to_string();
    cluster.objects.create(&by("named", port, &resolver)).await?;
    cluster.objects.create(&by("listed", listed, &format!("{resolver}, dns.example"))).await?;
    cluster.objects.create(&by("wrong", free_port()?, "dns.example")).await?;
    cluster.objects.create(&external("none", 80).listen("http", free_port()?)).await?;
    let inside = cluster.serve("inside", |service| service.lbex("resolver", &resolver)).await?;
    {
        let lbex = cluster.lbex().nginx(nginx).arg("--allow-external-name").start().await?;
        lbex.wait_healthy().await?;
        tcp_is(port, "outside").await?;
        // Of a list, what is valid counts.
        tcp_is(listed, "outside").await?;
        let line = cluster.told(&lbex, "listed", "InvalidAnnotation").await?;
        assert!(line.contains(&format!("used instead: {resolver}")), "{line}");
        cluster.told(&lbex, "wrong", "InvalidAnnotation").await?;
        cluster.told(&lbex, "wrong", "ResolverMissing").await?;
        cluster.told(&lbex, "none", "ResolverMissing").await?;
        tcp_is(inside.port, "inside").await?;
        cluster.told(&lbex, "inside", "AnnotationWithoutEffect").await?;
    }
    let lbex = cluster.lbex().nginx(nginx).start().await?;
    lbex.wait_healthy().await?;
    tcp_is(inside.port, "inside").await?;
    tcp_is(port, "refused").await?;
    cluster.told(&lbex, "named", "ExternalNameNotAllowed").await.map(drop)
}
on_each_nginx!(names_outside_are_resolved_where_that_is_allowed);
