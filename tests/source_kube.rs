//! The Kubernetes source against a real API server: every way to it, exactly the rights that LBEX ships, and what happens to
//! servers while it watches.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::ByteString;
use lbex::settings::EndpointsApi;
use lbex::source::kube::{Access, InCluster, KubeSettings, KubeSource, ProxyVariables};
use lbex::source::{Ignore, Recovered, SourceError, SourceEvent, SourceHandle, SourceObserver, Trouble};
use lbex_core::names::ServiceKey;
use lbex_core::snapshot::{Change, Snapshot};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::objects::{Objects, endpoints, node, service, slice};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(30);

fn by_kubeconfig(path: &Path) -> KubeSettings {
    by(Access::Kubeconfig(path.to_owned(), ProxyVariables::default()))
}

fn by(access: Access) -> KubeSettings {
    KubeSettings { access, namespaces: Vec::new(), endpoints_api: EndpointsApi::Auto }
}

/// What a source has told so far.
struct Seen {
    events: mpsc::Receiver<SourceEvent>,
    snapshot: Snapshot,
    synced: bool,
    lists: usize,
    fewest: usize,
    troubles: Vec<Trouble>,
    recovered: Vec<Recovered>,
    _handle: SourceHandle,
}

impl Seen {
    async fn start(settings: KubeSettings) -> Result<Self> {
        let source = KubeSource::connect(settings).await?;
        let (tx, events) = mpsc::channel(16);
        let observer: Arc<dyn SourceObserver> = Arc::new(Ignore);
        let handle = source.run(&observer, tx);
        let mut this = Self {
            events,
            snapshot: Snapshot::default(),
            synced: false,
            lists: 0,
            fewest: usize::MAX,
            troubles: Vec::new(),
            recovered: Vec::new(),
            _handle: handle,
        };
        this.until("synced", |seen| seen.synced).await?;
        Ok(this)
    }

    async fn until(&mut self, what: &str, enough: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + SOON;
        while !enough(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(event) = timeout(left, self.events.recv()).await else {
                bail!("waited for {what}; troubles: {:?}", self.troubles);
            };
            match event.context("the source ended")? {
                SourceEvent::Synced => self.synced = true,
                SourceEvent::Cluster(_) => {}
                SourceEvent::Trouble(trouble) => self.troubles.push(trouble),
                SourceEvent::Recovered(recovered) => self.recovered.push(recovered),
                SourceEvent::Changes(changes) => {
                    for change in changes {
                        self.lists += usize::from(matches!(change, Change::AllServices(_)));
                        self.snapshot.apply(change);
                    }
                    if self.synced {
                        self.fewest = self.fewest.min(self.snapshot.services().len());
                    }
                }
            }
        }
        Ok(())
    }

    fn has(&self, namespace: &str, name: &str) -> bool {
        ServiceKey::new(namespace, name).is_ok_and(|key| self.snapshot.service(&key).is_some())
    }

    fn addresses(&self, namespace: &str, name: &str) -> BTreeSet<String> {
        let key = ServiceKey::new(namespace, name).expect("a name");
        let endpoints = self.snapshot.endpoints(&key).flat_map(|subset| &subset.endpoints);
        endpoints.map(|endpoint| endpoint.address.to_string()).collect()
    }
}

/// The error of a connection that must not come about.
async fn refused(settings: KubeSettings) -> SourceError {
    match KubeSource::connect(settings).await {
        Ok(_) => panic!("it connects"),
        Err(error) => error,
    }
}

fn simple(name: &str) -> lbex_test_harness::objects::Service {
    service(name).cluster_ip().port(json!({"name": "http", "port": 80}))
}

/// A kubeconfig whose cluster has other entries than the harness's.
fn with_cluster(server: &ApiServer, folder: &TempDir, changes: &Value) -> Result<PathBuf> {
    let mut config: Value = serde_json::from_str(&fs::read_to_string(server.kubeconfig_admin())?)?;
    let cluster = config["clusters"][0]["cluster"].as_object_mut().context("a cluster")?;
    for (name, value) in changes.as_object().context("changes")? {
        cluster.insert(name.clone(), value.clone());
    }
    cluster.retain(|_, value| !value.is_null());
    let path = folder.path().join("kubeconfig");
    fs::write(&path, config.to_string())?;
    Ok(path)
}

/// A credential plugin that answers with the administrator's client certificate.
fn certificate_plugin(server: &ApiServer, folder: &TempDir) -> Result<Value> {
    let config: Value = serde_json::from_str(&fs::read_to_string(server.kubeconfig_admin())?)?;
    let text = |name: &str| -> Result<String> {
        let data = config["users"][0]["user"][name].as_str().context("no such data")?;
        let data: ByteString = serde_json::from_value(json!(data))?;
        Ok(String::from_utf8(data.0)?)
    };
    let answer = json!({
        "apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential",
        "status": {
            "clientCertificateData": text("client-certificate-data")?, "clientKeyData": text("client-key-data")?,
            "expirationTimestamp": "2999-01-01T00:00:00Z",
        },
    });
    let (plugin, file) = (folder.path().join("certificate.sh"), folder.path().join("certificate.json"));
    fs::write(&file, answer.to_string())?;
    fs::write(&plugin, "#!/bin/sh\ncat \"$1\"\n")?;
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755))?;
    Ok(json!({"apiVersion": "client.authentication.k8s.io/v1beta1", "command": plugin, "args": [file]}))
}

/// An HTTP proxy that makes tunnels (`CONNECT`). It ends with the test's runtime.
async fn connect_proxy() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(tunnel(stream));
        }
    });
    Ok(address)
}

async fn tunnel(mut stream: TcpStream) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).context("not CONNECT")?;
    let mut server = TcpStream::connect(target).await?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut stream, &mut server).await?;
    Ok(())
}

#[tokio::test]
async fn every_way_leads_to_the_cluster() -> Result<()> {
    let server = ApiServer::shared().await?;
    let (namespace, folder) = (server.namespace().await?, TempDir::new()?);
    let objects = Objects::new(server.client().await?, namespace.clone());
    objects.create(&simple("web")).await?;
    let token = server.access(&namespace, "reader", "cluster-admin").await?.token;
    fs::write(folder.path().join("token"), format!("{token}\n"))?;
    fs::write(folder.path().join("ca.crt"), server.ca_pem())?;
    let plugin = folder.path().join("plugin.sh");
    let answer = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token},
    });
    fs::write(&plugin, format!("#!/bin/sh\necho '{answer}'\n"))?;
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755))?;
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": plugin});
    let with_certificate = certificate_plugin(server, &folder)?;

    let (forwarder, through_proxy) = (connect_proxy().await?, TempDir::new()?);
    let proxy = server.proxy().await?;
    let pod = InCluster {
        host: Some("127.0.0.1".to_owned()),
        port: Some(server.address().port().to_string()),
        mount: folder.path().to_owned(),
    };
    for (what, settings) in [
        ("client certificate", by_kubeconfig(server.kubeconfig_admin())),
        ("token", by_kubeconfig(&server.kubeconfig_with(&json!({"token": token}))?)),
        ("tokenFile", by_kubeconfig(&server.kubeconfig_with(&json!({"tokenFile": folder.path().join("token")}))?)),
        ("exec", by_kubeconfig(&server.kubeconfig_with(&json!({"exec": exec}))?)),
        ("exec with a certificate", by_kubeconfig(&server.kubeconfig_with(&json!({"exec": with_certificate}))?)),
        ("proxy-url", {
            let cluster = json!({"proxy-url": format!("http://{forwarder}")});
            by_kubeconfig(&with_cluster(server, &through_proxy, &cluster)?)
        }),
        ("impersonation", {
            let user = json!({"token": token, "as": "somebody", "as-groups": ["system:masters"]});
            by_kubeconfig(&server.kubeconfig_with(&user)?)
        }),
        ("CA in a file", {
            let ca = json!({"certificate-authority-data": null, "certificate-authority": "ca.crt"});
            by_kubeconfig(&with_cluster(server, &folder, &ca)?)
        }),
        ("service account", by(Access::InCluster(pod, ProxyVariables::default()))),
        ("kubectl proxy", by(Access::Proxy(format!("http://{}", proxy.address()).parse()?))),
    ] {
        let seen = Seen::start(settings).await.with_context(|| what.to_owned())?;
        assert!(seen.has(&namespace, "web"), "{what}");
    }
    let insecure = json!({"certificate-authority-data": null, "insecure-skip-tls-verify": true});
    Seen::start(by_kubeconfig(&with_cluster(server, &folder, &insecure)?)).await.context("without verification")?;
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_certificates_and_credentials_is_said() -> Result<()> {
    let server = ApiServer::shared().await?;
    let folder = TempDir::new()?;
    for (changes, part) in [
        (json!({"certificate-authority-data": null}), "not signed by the certificate authority"),
        (json!({"tls-server-name": "other.example"}), "its certificate is for another name"),
        (json!({"server": format!("http://{}", server.address())}), "400 Bad Request"),
    ] {
        let error = refused(by_kubeconfig(&with_cluster(server, &folder, &changes)?)).await;
        let text = error.to_string();
        assert!(text.contains(part) && text.contains("kubeconfig"), "{part}\n{text}");
        assert!(matches!(error, SourceError::Unreachable(_)), "{error:?}");
    }
    let error = refused(by_kubeconfig(&server.kubeconfig_with(&json!({"token": "wrong"}))?)).await;
    assert!(matches!(&error, SourceError::Refused(text) if text.contains("401")), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn the_shipped_role_is_enough_and_every_verb_of_it_is_needed() -> Result<()> {
    let server = ApiServer::shared().await?;
    let shipped = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/kubernetes/rbac.yaml"))?;
    server.kubectl(&["apply", "-f", "-"], &shipped).await?;
    let token = server.token_for("kube-system", "lbex").await?;
    server.wait_may("kube-system", "lbex", "watch", "nodes").await?;
    let settings = by_kubeconfig(&server.kubeconfig_with(&json!({"token": token}))?);
    for api in [EndpointsApi::Auto, EndpointsApi::EndpointSlices, EndpointsApi::Endpoints] {
        let seen = Seen::start(KubeSettings { endpoints_api: api, ..settings.clone() }).await?;
        assert!(seen.has("default", "kubernetes") && seen.troubles.is_empty(), "{:?}", seen.troubles);
    }

    let namespace = server.namespace().await?;
    for (group, resource) in
        [("", "services"), ("", "nodes"), ("discovery.k8s.io", "endpointslices"), ("", "endpoints")]
    {
        for verb in ["list", "watch"] {
            let rule = |group: &str, resource: &str, without: &str| {
                let verbs: Vec<_> = ["get", "list", "watch"].into_iter().filter(|v| *v != without).collect();
                json!({"apiGroups": [group], "resources": [resource], "verbs": verbs})
            };
            let others = [("", "services"), ("", "nodes"), ("discovery.k8s.io", "endpointslices"), ("", "endpoints")];
            let others = others.into_iter().filter(|(_, other)| *other != resource).map(|(g, r)| rule(g, r, ""));
            let rules: Vec<_> = others.chain([rule(group, resource, verb)]).collect();
            let name = format!("{namespace}-{resource}-{verb}");
            server.cluster_role(&name, &json!(rules)).await?;
            let account = format!("{resource}-{verb}");
            let access = server.access(&namespace, &account, &name).await?;
            server.wait_may(&namespace, &account, "get", resource).await?;
            let api = if resource == "endpoints" { EndpointsApi::Endpoints } else { EndpointsApi::EndpointSlices };
            let error = refused(KubeSettings { endpoints_api: api, ..by_kubeconfig(&access.kubeconfig) }).await;
            let SourceError::Refused(text) = error else { bail!("{error:?}") };
            let wanted = format!("cannot {verb} {resource}");
            assert!(text.contains(&wanted) && text.contains("ClusterRole"), "{wanted}\n{text}");
            assert_eq!(text.matches("needs the verbs").count(), 1, "{text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn single_namespaces_need_rights_in_them_alone() -> Result<()> {
    let server = ApiServer::shared().await?;
    let (mine, other) = (server.namespace().await?, server.namespace().await?);
    for namespace in [&mine, &other] {
        Objects::new(server.client().await?, namespace.clone()).create(&simple("web")).await?;
    }
    let nodes = json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}]);
    server.cluster_role(&format!("{mine}-nodes"), &nodes).await?;
    let access = server.access(&mine, "lbex", &format!("{mine}-nodes")).await?;
    server.wait_may(&mine, "lbex", "watch", "nodes").await?;
    let settings = |namespaces: &[&String]| KubeSettings {
        namespaces: namespaces.iter().map(|n| (*n).clone()).collect(),
        ..by_kubeconfig(&access.kubeconfig)
    };
    let text = refused(settings(&[&mine])).await.to_string();
    assert!(text.contains(&format!("cannot list services in the namespace {mine}")), "{text}");
    let role = json!({
        "apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "lbex", "namespace": mine},
             "rules": [{"apiGroups": ["", "discovery.k8s.io"], "resources": ["services", "endpointslices"],
                        "verbs": ["get", "list", "watch"]}]},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "lbex", "namespace": mine},
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lbex"},
             "subjects": [{"kind": "ServiceAccount", "namespace": mine, "name": "lbex"}]},
        ]
    });
    server.kubectl(&["apply", "-f", "-"], &role.to_string()).await?;
    server.wait_may(&mine, "lbex", "watch", "endpointslices").await?;
    let seen = Seen::start(settings(&[&mine])).await?;
    assert!(seen.has(&mine, "web") && !seen.has(&other, "web"));
    Ok(())
}

#[tokio::test]
async fn changes_arrive_and_several_pages_too() -> Result<()> {
    let server = ApiServer::shared().await?;
    let namespace = server.namespace().await?;
    let objects = Objects::new(server.client().await?, namespace.clone());
    let nodes: Vec<_> = (0..510).map(|n| node(&format!("{namespace}-{n}")).internal("10.9.0.1")).collect();
    objects.create_all(nodes.iter().map(|n| n as _)).await?;
    let mut seen = Seen::start(by_kubeconfig(server.kubeconfig_admin())).await?;
    assert!(seen.snapshot.nodes().len() >= 510);
    objects.create(&simple("web")).await?;
    objects.create(&slice("web-1", "web").tcp("http", 8080).ready("10.9.1.1", "n1")).await?;
    seen.until("the Service and its endpoint", |seen| {
        seen.has(&namespace, "web") && seen.addresses(&namespace, "web").contains("10.9.1.1")
    })
    .await?;
    objects.patch("EndpointSlice", "web-1", &json!({"endpoints": [{"addresses": ["10.9.1.2"]}]})).await?;
    seen.until("the changed endpoint", |seen| {
        seen.addresses(&namespace, "web") == BTreeSet::from(["10.9.1.2".to_owned()])
    })
    .await?;
    objects
        .patch("EndpointSlice", "web-1", &json!({"metadata": {"labels": {"kubernetes.io/service-name": null}}}))
        .await?;
    seen.until("a slice that is no Service's any more", |seen| seen.addresses(&namespace, "web").is_empty()).await?;
    objects.delete("Service", "web").await?;
    objects.delete("Node", &format!("{namespace}-0")).await?;
    seen.until("both are gone", |seen| {
        !seen.has(&namespace, "web") && seen.snapshot.node(&format!("{namespace}-0")).is_none()
    })
    .await?;
    assert_eq!((seen.lists, seen.troubles.len()), (1, 0));
    Ok(())
}

#[tokio::test]
async fn endpoints_are_followed_instead_of_slices() -> Result<()> {
    let server = ApiServer::shared().await?;
    let namespace = server.namespace().await?;
    let objects = Objects::new(server.client().await?, namespace.clone());
    let settings = by_kubeconfig(server.kubeconfig_admin());
    let mut seen = Seen::start(KubeSettings { endpoints_api: EndpointsApi::Endpoints, ..settings }).await?;
    objects.create(&slice("web-1", "web").tcp("http", 8080).ready("10.9.2.1", "n1")).await?;
    let ports = json!([{"name": "http", "port": 8080}]);
    objects.create(&endpoints("web").subset(&[("10.9.2.2", "n1")], &[("10.9.2.3", "n1")], &ports)).await?;
    seen.until("both addresses", |seen| seen.addresses(&namespace, "web").len() == 2).await?;
    assert!(!seen.addresses(&namespace, "web").contains("10.9.2.1"));
    Ok(())
}

#[tokio::test]
async fn a_restart_of_the_server_loses_nothing() -> Result<()> {
    let mut server = ApiServer::start().await?;
    let objects = Objects::new(server.client().await?, "default");
    objects.create(&simple("before")).await?;
    let mut seen = Seen::start(by_kubeconfig(server.kubeconfig_admin())).await?;
    // The server makes one of its own, when it is ready or a little later.
    seen.until("the server's own", |seen| seen.has("default", "before") && seen.has("default", "kubernetes")).await?;
    seen.fewest = usize::MAX;
    server.stop();
    // Before that, perhaps, that a connection broke off in the middle.
    let refused = |trouble: &Trouble| trouble.to_string().contains("connection refused");
    seen.until("the trouble", |seen| seen.troubles.iter().any(refused)).await?;
    assert!(seen.troubles.iter().all(|trouble| trouble.to_string().contains("stays in effect")), "{:?}", seen.troubles);
    server.start_again().await?;
    // Without the harness's client, whose connection is from before.
    let objects = Objects::new(server.client().await?, "default");
    objects.create(&simple("after")).await?;
    seen.until("what came after", |seen| seen.has("default", "after")).await?;
    seen.until("all is well again", |seen| {
        seen.recovered.len() >= seen.troubles.iter().map(|t| t.kind).collect::<BTreeSet<_>>().len()
    })
    .await?;
    assert!(seen.has("default", "before"));
    assert!(seen.fewest >= 2, "nothing was removed in between: {}", seen.fewest);
    Ok(())
}

/// Forwards connections to the API server while it is open.
struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Gate {
    async fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (open, state) = watch::channel(true);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut state = state.clone();
                connections.spawn(async move {
                    if !*state.borrow_and_update() {
                        return;
                    }
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut stream, &mut server) => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Ok(Self { address, open, _task: task })
    }
}

#[tokio::test]
async fn a_version_that_was_compacted_away_leads_to_a_new_list() -> Result<()> {
    let server = ApiServer::builder().without_watch_cache().start().await?;
    let (gate, folder) = (Gate::to(server.address()).await?, TempDir::new()?);
    let objects = Objects::new(server.client().await?, "default");
    objects.create(&simple("before")).await?;
    let way = json!({"server": format!("https://{}", gate.address)});
    let mut seen = Seen::start(by_kubeconfig(&with_cluster(&server, &folder, &way)?)).await?;
    objects.create(&simple("gone")).await?;
    seen.until("the first change", |seen| seen.has("default", "gone")).await?;
    // Others go on while LBEX is cut off, and then the history of that is gone.
    gate.open.send_replace(false);
    seen.until("the trouble", |seen| !seen.troubles.is_empty()).await?;
    objects.delete("Service", "gone").await?;
    objects.create(&simple("after")).await?;
    server.compact().await?;
    gate.open.send_replace(true);
    seen.until("the new list", |seen| seen.lists == 2).await?;
    assert!(seen.has("default", "before") && seen.has("default", "after") && !seen.has("default", "gone"));
    objects.create(&simple("later")).await?;
    seen.until("changes after it", |seen| seen.has("default", "later")).await?;
    Ok(())
}
