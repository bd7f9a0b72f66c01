//! README's tour of a real cluster, walked: the manifest in it as it stands, the shipped ClusterRole, and what it says one sees.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::backends::{Echo, tcp_ask};
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::objects::{Objects, node, slice};
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually, eventually_is};
use serde_json::json;

const BINARY: &str = env!("CARGO_BIN_EXE_lbex");
/// Where the manifest of the tour has LBEX listen.
const PORT: &str = "8080";

/// The manifest of the tour.
fn manifest() -> Result<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))?;
    let (_, rest) = readme.split_once("<<'EOF'\n").context("README has no manifest")?;
    let (manifest, _) = rest.split_once("EOF\n").context("README's manifest does not end")?;
    let lines: Vec<&str> = manifest.lines().map(|line| line.strip_prefix("   ").unwrap_or(line)).collect();
    Ok(lines.join("\n") + "\n")
}

/// An address of the loopback network for the test's node.
fn node_address() -> IpAddr {
    Ipv4Addr::new(127, 0, 31, 1).into()
}

#[tokio::test]
async fn the_tour_of_a_real_cluster_is_as_the_readme_says() -> Result<()> {
    let server = ApiServer::start().await?;
    let namespace = server.namespace().await?;
    let objects = Objects::new(server.client().await?, namespace.clone());
    let rbac = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/kubernetes/rbac.yaml");
    server.kubectl(&["apply", "-f", rbac.to_str().context("a plain path")?], "").await?;
    let token = server.token_for("kube-system", "lbex").await?;
    server.wait_may("kube-system", "lbex", "watch", "nodes").await?;
    let kubeconfig = server.kubeconfig_with(&json!({ "token": token }))?;

    // The port is another, as 8080 may be taken on this machine.
    let port = free_port()?;
    let manifest = manifest()?;
    ensure!(manifest.matches(PORT).count() == 1, "the tour's manifest has not one port {PORT}:\n{manifest}");
    let manifest = manifest.replace(PORT, &port.to_string());
    server.kubectl(&["-n", &namespace, "apply", "-f", "-"], &manifest).await?;

    // What a Deployment brings about: a Pod on a node, and traffic to the node's port gets there.
    let service = objects.get("Service", "web").await?;
    let node_port = service["spec"]["ports"][0]["nodePort"].as_u64().context("a nodePort")?;
    let pod = Echo::new("pod").ip(node_address()).port(u16::try_from(node_port)?).tcp_only().start()?;
    objects.create(&node("tour-1").internal(node_address())).await?;
    objects.create(&slice("web-1", "web").tcp("http", 80).ready("10.1.0.1", "tour-1")).await?;

    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let lbex = Lbex::builder(Path::new(BINARY)).arg(kubeconfig).start().await?;
    lbex.wait_healthy().await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    eventually_is("the Service answers", SOON, Some(pod.name().to_owned()), || async { tcp_ask(address).await.ok() })
        .await?;
    lbex.wait_ready().await?;
    ensure!(lbex.get("/").await?.body == "healthy\n", "/ does not say healthy");
    ensure!(lbex.metric("lbex_services_served", &[]).await? == Some(1.0), "the metrics do not count the Service");

    // `kubectl get ... -o yaml > cluster.yaml && lbex validate cluster.yaml`
    let cluster = server.kubectl(&["-n", &namespace, "get", "services,nodes,endpointslices", "-o", "yaml"], "").await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("cluster.yaml");
    std::fs::write(&file, cluster)?;
    let output = Command::new(BINARY).arg("validate").arg(&file).output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "lbex validate: {}\n{said}", output.status);
    ensure!(said.contains(&format!("{namespace}/web: served\n")), "{said}");

    // Ctrl-C: NGINX goes on, also for a change that comes meanwhile and is served by the next LBEX.
    lbex.terminate().await?;
    ensure!(tcp_ask(address).await? == pod.name(), "NGINX does not go on serving");
    let mut lbex = lbex;
    let nginx = lbex.nginx_pid()?;
    lbex.start_again()?;
    eventually("LBEX takes NGINX over", SOON, || async { lbex.wait_healthy().await }).await?;
    ensure!(lbex.nginx_pid()? == nginx, "NGINX was started anew");
    Ok(())
}
