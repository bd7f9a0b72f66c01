//! The examples of the original's README, by their text. An API server wants the annotations' numbers in quotes; nothing else is
//! changed.
//!
//! Their ports are fixed, so LBEX runs in a network namespace, where no other test is.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::link::Link;
use lbex_test_harness::netns::Netns;
use lbex_test_harness::objects::slice;
use lbex_test_harness::programs;

use crate::common::{Cluster, ELSEWHERE, at_is, udp_at_is};

const NTP: &str = r#"
apiVersion: v1
kind: Service
metadata:
  name: cluster-local-ntp
  labels:
    name: ntp-service
    app: ntp
    version: 1.0.0
  annotations:
    kubernetes.io/loadbalancer-class: loadbalancer-lbex
    loadbalancer.lbex/port: "123"
    loadbalancer.lbex/algorithm: round_robin
    loadbalancer.lbex/upstream-type: node
    loadbalancer.lbex/node-set: host
    loadbalancer.lbex/node-address-type: internal
spec:
  type: NodePort
  selector: 
    app: ntp-pod
  ports:
  - name: ntp-listener
    protocol: UDP
    port: 123
    nodePort: 30123
"#;

const MY_NGINX: &str = r#"
apiVersion: v1
kind: Service
metadata:
  name: my-nginx
  labels:
    run: my-nginx
  annotations:
    kubernetes.io/loadbalancer-class: loadbalancer-lbex
    loadbalancer-port.lbex/http: "8080"
    loadbalancer-port.lbex/https: "8443"
spec:
  type: NodePort
  ports:
  - name: http
    port: 80
    targetPort: 80
    protocol: TCP
  - name: https
    port: 443
    targetPort: 443
    protocol: TCP
  selector:
    run: my-nginx
"#;

/// The short form of the same Service: with the class and no other annotation.
fn short_ntp() -> String {
    let lines = NTP.lines().filter(|line| !line.trim_start().starts_with("loadbalancer.lbex/"));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// LBEX inside a namespace, where the API server is at its address outside.
async fn inside(cluster: &Cluster, netns: &Netns, flags: &[&str]) -> Result<Lbex> {
    let nsenter = programs::find("nsenter")?.display().to_string();
    let under = [nsenter, format!("--net={}", netns.path().display())];
    cluster.lbex().under(under).args(flags).start().await
}

#[tokio::test]
async fn the_originals_examples_are_served() -> Result<()> {
    // Its own server: 30123 may be the node port of another test's Service.
    let server = ApiServer::start().await?;
    let cluster = Cluster::on(&server).await?;
    let netns = Netns::new()?;
    let _link = Link::into(&netns, server.address())?;
    let apply = ["apply", "--namespace", cluster.namespace(), "-f", "-"];
    server.kubectl(&apply, NTP).await?;
    server.kubectl(&apply, MY_NGINX).await?;
    let endpoints = slice("ntp", "cluster-local-ntp").udp("ntp-listener", 123).ready(ELSEWHERE, cluster.node());
    cluster.objects.create(&endpoints).await?;
    let endpoints = slice("nginx", "my-nginx").tcp("http", 80).tcp("https", 443).ready(ELSEWHERE, cluster.node());
    cluster.objects.create(&endpoints).await?;
    let mut backends = vec![Echo::new("ntp").port(30123).inside(&netns).start()?];
    let made = cluster.objects.get("Service", "my-nginx").await?;
    for port in made["spec"]["ports"].as_array().context("no ports")? {
        let name = port["name"].as_str().context("no name")?;
        let number = port["nodePort"].as_u64().context("no node port")?;
        backends.push(Echo::new(name).port(u16::try_from(number)?).inside(&netns).start()?);
    }

    let at = |port| SocketAddr::from((netns.v4(1), port));
    {
        let lbex = inside(&cluster, &netns, &[]).await?;
        udp_at_is(at(123), "ntp").await?;
        at_is(at(8080), "http").await?;
        at_is(at(8443), "https").await?;
        assert!(!lbex.log().contains(" reason="), "{}", lbex.log());
        // The short form is for an instance that requires no port.
        server.kubectl(&apply, &short_ntp()).await?;
        cluster.told(&lbex, "cluster-local-ntp", "PortAnnotationMissing").await?;
        udp_at_is(at(123), "refused").await?;
    }
    let _lbex = inside(&cluster, &netns, &["--require-port", "false"]).await?;
    udp_at_is(at(123), "ntp").await?;
    at_is(at(8443), "https").await
}
