//! Ways to the API server: contract section 2, 'Access to the cluster'. One is tried, and nothing else.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::netns::Netns;
use lbex_test_harness::programs;
use serde_json::json;

use crate::common::{Cluster, Served, binary, tcp_is};

/// An LBEX that cannot reach its cluster ends within this time: ten seconds for the first answer, and a busy machine.
const BOUNDED: Duration = Duration::from_secs(20);

/// LBEX on a namespace, with a way in that the test adds.
fn lbex_without_access(cluster: &Cluster) -> Builder {
    Lbex::builder(binary()).args([&format!("--namespace={}", cluster.namespace()), "-v=1"])
}

fn with_kubeconfig(cluster: &Cluster, path: &Path) -> Builder {
    lbex_without_access(cluster).arg(format!("--kubeconfig={}", path.display()))
}

async fn served(cluster: &Cluster) -> Result<Served> {
    cluster.serve("web", |service| service).await
}

/// It starts and serves.
async fn works(builder: Builder, served: &Served) -> Result<()> {
    let lbex = builder.start().await?;
    lbex.wait_healthy().await?;
    tcp_is(served.port, "web").await
}

/// It ends with code 1, soon, and its log has each of these texts; nothing was started or written for it.
async fn is_refused(builder: Builder, texts: &[&str]) -> Result<()> {
    let since = Instant::now();
    let lbex = builder.start().await?;
    let status = lbex.wait_exit(BOUNDED).await?;
    let log = lbex.log();
    ensure!(status.code() == Some(1), "{status} after {:?}: {log}", since.elapsed());
    for text in texts {
        ensure!(log.contains(text), "no {text:?} in: {log}");
    }
    ensure!(lbex.nginx_processes().is_empty(), "NGINX was started");
    Ok(())
}

/// Applies the ClusterRole that the repository ships and makes a ServiceAccount with exactly that; returns its token.
async fn shipped_role(server: &ApiServer, cluster: &Cluster) -> Result<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/kubernetes/rbac.yaml"))?;
    server.kubectl(&["apply", "-f", "-"], &text).await?;
    let access = server.access(cluster.namespace(), "lbex", "lbex").await?;
    server.wait_may(cluster.namespace(), "lbex", "watch", "nodes").await?;
    Ok(access.token)
}

fn write(scratch: &Scratch, name: &str, text: &str, mode: u32) -> Result<PathBuf> {
    let path = scratch.join(name);
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
    Ok(path)
}

#[tokio::test]
async fn through_kubectl_proxy() -> Result<()> {
    let server = ApiServer::shared().await?;
    let cluster = Cluster::new().await?;
    let served = served(&cluster).await?;
    let proxy = server.proxy().await?;
    for url in [format!("http://{}", proxy.address()), proxy.address().to_string()] {
        works(lbex_without_access(&cluster).args(["--proxy", &url]), &served).await?;
        works(lbex_without_access(&cluster).env("LBEX_PROXY", &url), &served).await?;
    }
    // It goes before a kubeconfig, also one that would work: nothing else is tried.
    drop(proxy);
    let nowhere = format!("127.0.0.1:{}", lbex_test_harness::ports::free_port()?);
    let both = with_kubeconfig(&cluster, server.kubeconfig_admin()).args(["--proxy", &nowhere]);
    is_refused(both, &["cannot reach the API server", &nowhere, "connection refused"]).await
}

#[tokio::test]
async fn with_tokens_files_and_plugins_and_the_shipped_role() -> Result<()> {
    let server = ApiServer::shared().await?;
    let cluster = Cluster::new().await?;
    let served = served(&cluster).await?;
    let token = shipped_role(server, &cluster).await?;
    let scratch = Scratch::new("access")?;
    let file = write(&scratch, "token", &format!("{token}\n"), 0o600)?;
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token},
    });
    let script = format!("#!/bin/sh\n[ \"$WORD\" = here ] || exit 3\ncat <<'END'\n{credential}\nEND\n");
    let plugin = write(&scratch, "plugin", &script, 0o700)?;
    let exec = |word: &str| {
        json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": plugin, "interactiveMode": "Never",
            "env": [{"name": "WORD", "value": word}],
        }})
    };
    for user in [json!({"token": token}), json!({"tokenFile": file}), exec("here")] {
        let kubeconfig = server.kubeconfig_with(&user)?;
        works(with_kubeconfig(&cluster, &kubeconfig), &served).await.with_context(|| user.to_string())?;
    }
    // Without --namespace the role is enough too.
    let kubeconfig = server.kubeconfig_with(&json!({"token": token}))?;
    let flags = ["--kubeconfig", kubeconfig.to_str().context("a path")?, "--service-name"];
    let all = Lbex::builder(binary()).args(flags).arg(format!("{}/web", cluster.namespace()));
    works(all, &served).await?;

    let broken = server.kubeconfig_with(&exec("elsewhere"))?;
    is_refused(with_kubeconfig(&cluster, &broken), &["plugin", "3"]).await?;
    let missing = server.kubeconfig_with(&json!({"tokenFile": scratch.join("no-such-file")}))?;
    is_refused(with_kubeconfig(&cluster, &missing), &["no-such-file"]).await?;
    let wrong = server.kubeconfig_with(&json!({"token": "nonsense"}))?;
    is_refused(with_kubeconfig(&cluster, &wrong), &["refuses", "401"]).await?;
    let nobody = server.kubeconfig_with(&json!({}))?;
    is_refused(with_kubeconfig(&cluster, &nobody), &["refuses"]).await
}

#[tokio::test]
async fn what_is_not_what_it_should_be_is_told() -> Result<()> {
    let server = ApiServer::shared().await?;
    let cluster = Cluster::new().await?;
    let _served = served(&cluster).await?;
    let scratch = Scratch::new("access")?;
    let no_file = with_kubeconfig(&cluster, &scratch.join("absent"));
    is_refused(no_file, &["absent", "cannot read"]).await?;
    let garbage = write(&scratch, "garbage", "{]", 0o600)?;
    is_refused(with_kubeconfig(&cluster, &garbage), &["garbage", "not a kubeconfig"]).await?;

    // Another authority's certificate.
    let text = std::fs::read_to_string(server.kubeconfig_admin())?;
    let mut config: serde_json::Value = serde_json::from_str(&text)?;
    let of_another = json!(k8s_openapi::ByteString(ANOTHER_AUTHORITY.as_bytes().to_vec()));
    config["clusters"][0]["cluster"]["certificate-authority-data"] = of_another;
    let wrong = write(&scratch, "wrong-ca", &config.to_string(), 0o600)?;
    is_refused(with_kubeconfig(&cluster, &wrong), &["cannot reach", "certificate authority"]).await?;

    // An address where nobody answers, and a server that accepts and says nothing.
    let netns = Netns::new()?;
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    for (name, address) in
        [("unreachable", format!("{}:6443", netns.v4(1))), ("silent", silent.local_addr()?.to_string())]
    {
        let path = write(&scratch, name, &text.replace(&server.address().to_string(), &address), 0o600)?;
        is_refused(with_kubeconfig(&cluster, &path), &["cannot reach the API server", &address]).await?;
    }
    Ok(())
}

/// The certificate of an authority that signed nothing here.
const ANOTHER_AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBjzCCATWgAwIBAgIURzzubUAZlW/YfxG6nIzc1PIqJJkwCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRYW5vdGhlciBhdXRob3JpdHkwIBcNMjYxMTIzMjA1NDI3WhgP
MjEyNjEwMzAyMDU0MjdaMBwxGjAYBgNVBAMMEWFub3RoZXIgYXV0aG9yaXR5MFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAESI6daA2QH6xvvZZUgzFOZTKXAq+fxPqD
Oa+simaJjsqxhghDg76xFb8z18IDpScxcrKxy5IEKDRBBMUL/WKAuqNTMFEwHQYD
VR0OBBYEFISEj8TZbpPm9J1EoXVSURScvcflMB8GA1UdIwQYMBaAFISEj8TZbpPm
9J1EoXVSURScvcflMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIg
BnEDxMUtLHIZAdLIVSM7n57RrsbQ9UvTp3CT9G+/urwCIQCkR/KSGS73k2sNbEB0
GVYS3/iIkiNQZLtaRsHV1BySWQ==
-----END CERTIFICATE-----
";

#[tokio::test]
async fn kubeconfigs_that_nobody_named_are_not_looked_at() -> Result<()> {
    let server = ApiServer::shared().await?;
    let cluster = Cluster::new().await?;
    let home = Scratch::new("home")?;
    std::fs::create_dir(home.join(".kube"))?;
    std::fs::copy(server.kubeconfig_admin(), home.join(".kube/config"))?;
    let kubeconfig = server.kubeconfig_admin().to_str().context("a path")?;
    let tempting = lbex_without_access(&cluster)
        .env("KUBECONFIG", kubeconfig)
        .env("HOME", home.path().to_str().context("a path")?)
        .env("KUBERNETES_SERVICE_HOST", "")
        .env("KUBERNETES_SERVICE_PORT", "");
    is_refused(tempting, &["KUBERNETES_SERVICE_HOST", "--kubeconfig PATH or --proxy URL"]).await
}

#[tokio::test]
async fn in_a_pod_with_its_service_account() -> Result<()> {
    let server = ApiServer::shared().await?;
    let cluster = Cluster::new().await?;
    let served = served(&cluster).await?;
    let token = shipped_role(server, &cluster).await?;
    let mounted = Scratch::new("service-account")?;
    write(&mounted, "token", &token, 0o600)?;
    write(&mounted, "ca.crt", server.ca_pem(), 0o600)?;
    let unshare = programs::find("unshare")?.display().to_string();
    let script = format!(
        "mount -t tmpfs tmpfs /run && mkdir -p /var/run/secrets/kubernetes.io/serviceaccount && \
         mount --bind '{}' /var/run/secrets/kubernetes.io/serviceaccount && exec \"$@\"",
        mounted.path().display()
    );
    let pod = |mount: &str| {
        lbex_without_access(&cluster)
            .under([&unshare, "--mount", "/bin/sh", "-c", mount, "sh"])
            .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            .env("KUBERNETES_SERVICE_PORT", &server.address().port().to_string())
    };
    works(pod(&script), &served).await?;
    // As Kubernetes gives them to Pods beside a Service called `lbex`.
    let beside =
        pod(&script).env("LBEX_SERVICE_HOST", "10.0.0.1").env("LBEX_HEALTH_PORT_7331_TCP", "tcp://10.0.0.1:7331");
    works(beside, &served).await?;
    is_refused(pod("mount -t tmpfs tmpfs /run && exec \"$@\""), &["serviceaccount/token"]).await
}

#[tokio::test]
async fn a_missing_right_is_named() -> Result<()> {
    let server = ApiServer::shared().await?;
    let cluster = Cluster::new().await?;
    let served = served(&cluster).await?;
    let all = ["get", "list", "watch"];
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let slices = |verbs: &[&str]| rule("discovery.k8s.io", &["endpointslices"], verbs);
    let core = |resources: &[&str]| rule("", resources, &all);
    let cases = [
        (
            "slices-unwatched",
            vec![core(&["services", "nodes"]), slices(&["get", "list"])],
            "cannot watch endpointslices",
        ),
        ("no-nodes", vec![core(&["services"]), slices(&all)], "cannot list nodes"),
        ("no-services", vec![core(&["nodes"]), slices(&all)], "cannot list services"),
    ];
    for (name, rules, lacks) in cases {
        server.cluster_role(&cluster.name(name), &json!(rules)).await?;
        let access = server.access(cluster.namespace(), name, &cluster.name(name)).await?;
        server.wait_may(cluster.namespace(), name, "list", "endpointslices").await?;
        let texts = [lacks, "examples/kubernetes/rbac.yaml", "refuses"];
        is_refused(with_kubeconfig(&cluster, &access.kubeconfig), &texts).await?;
    }
    // With --namespace, a RoleBinding there stands for the rules on what is in namespaces.
    server.cluster_role(&cluster.name("nodes"), &json!([core(&["nodes"])])).await?;
    server.cluster_role(&cluster.name("namespaced"), &json!([core(&["services"]), slices(&all)])).await?;
    let access = server.access(cluster.namespace(), "narrow", &cluster.name("nodes")).await?;
    cluster
        .objects
        .create(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "narrow"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster.name("namespaced")},
            "subjects": [{"kind": "ServiceAccount", "namespace": cluster.namespace(), "name": "narrow"}],
        }))
        .await?;
    server.wait_may(cluster.namespace(), "narrow", "watch", "endpointslices").await?;
    works(with_kubeconfig(&cluster, &access.kubeconfig), &served).await?;
    let everywhere = Lbex::builder(binary()).arg(format!("--kubeconfig={}", access.kubeconfig.display()));
    is_refused(everywhere, &["cannot list services in all namespaces", "cannot list endpointslices"]).await
}
