//! Ways to the API server, and what is wrong with them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::server::{Api, End, Reply};
use super::*;
use crate::source::SourceError;
use crate::source::kube::{InCluster, ProxyVariables};

pub(super) fn write(folder: &TempDir, cluster: &Value, user: &Value) -> PathBuf {
    let path = folder.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": cluster}],
        "users": [{"name": "me", "user": user}],
    });
    fs::write(&path, config.to_string()).unwrap();
    path
}

pub(super) fn by(path: &Path) -> KubeSettings {
    let access = Access::Kubeconfig(path.to_owned(), ProxyVariables::default());
    KubeSettings { access, namespaces: Vec::new(), endpoints_api: EndpointsApi::Auto }
}

fn program(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

pub(super) async fn connects(settings: KubeSettings) -> KubeSource {
    KubeSource::connect_with(settings, quick()).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn refused(settings: KubeSettings) -> String {
    match KubeSource::connect_with(settings, quick()).await {
        Ok(_) => panic!("it connects"),
        Err(SourceError::Credentials(text)) => text,
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tokens_impersonation_and_names_arrive() {
    let (api, folder) = (Api::start().await, TempDir::new().unwrap());
    api.need_token("t1");
    let user = json!({"token": "t1", "as": "other", "as-groups": ["g1", "g2"], "as-user-extra": {"scopes": ["x"]}});
    connects(by(&write(&folder, &json!({"server": api.url()}), &user))).await;
    let asked = &api.asked("/version")[0];
    assert_eq!(asked.headers["impersonate-user"], "other");
    assert_eq!(asked.headers.get_all("impersonate-group").iter().count(), 2);
    assert_eq!(asked.headers["impersonate-extra-scopes"], "x");
    // As kubectl takes it: no scheme and nothing about TLS means http.
    connects(by(&write(&folder, &json!({"server": api.address().to_string()}), &user))).await;
}

#[tokio::test]
async fn a_token_file_is_relative_to_the_kubeconfig_and_read_again() {
    let (api, folder) = (Api::start().await, TempDir::new().unwrap());
    fs::create_dir(folder.path().join("secrets")).unwrap();
    let token = folder.path().join("secrets/token");
    fs::write(&token, "first\n").unwrap();
    api.need_token("first");
    api.on("list services", Reply::page(&[service("default", "a", 5)], 10, ""));
    api.on("watch services", Reply::watch(&[bookmark(11)], End::Silence));
    let path = write(&folder, &json!({"server": api.url()}), &json!({"token": "old", "tokenFile": "secrets/token"}));
    let mut seen = Running::start(by(&path)).await.synced().await;
    fs::write(&token, "second").unwrap();
    api.need_token("second");
    api.on("watch services", Reply::watch(&[event("ADDED", &service("default", "b", 12))], End::Silence));
    seen.until("the new token is used", |seen| seen.services().len() == 2).await;
    assert_eq!(seen.lists, 1);
}

#[tokio::test]
async fn a_kubeconfig_that_names_another_server_later_is_not_followed() {
    let (api, other, folder) = (Api::start().await, Api::start().await, TempDir::new().unwrap());
    api.need_token("t1");
    api.on("list services", Reply::page(&[service("default", "a", 5)], 10, ""));
    let path = write(&folder, &json!({"server": api.url()}), &json!({"token": "t1"}));
    let mut seen = Running::start(by(&path)).await.synced().await;
    write(&folder, &json!({"server": other.url()}), &json!({"token": "t1"}));
    api.need_token("t2");
    seen.until("the reason", |seen| seen.troubles.iter().any(|t| t.text.contains("it names the server"))).await;
    assert!(other.asked("/services").is_empty());
    assert_eq!(seen.services(), ["default/a"]);
}

#[tokio::test]
async fn credential_plugins_are_run_with_their_arguments_and_environment() {
    let (api, folder) = (Api::start().await, TempDir::new().unwrap());
    program(
        &folder,
        "plugin.sh",
        r#"case "$KUBERNETES_EXEC_INFO" in *'"server":"http://'*) ;; *) exit 3 ;; esac
echo "run" >> "$RUNS"
echo "{\"apiVersion\":\"$VERSION\",\"kind\":\"ExecCredential\",\"status\":{\"token\":\"token-of-$1\"}}""#,
    );
    let runs = folder.path().join("runs");
    for version in ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"] {
        api.need_token("token-of-me");
        fs::write(&runs, "").unwrap();
        let exec = json!({
            "apiVersion": version, "command": "./plugin.sh", "args": ["me"], "provideClusterInfo": true,
            "interactiveMode": "IfAvailable",
            "env": [{"name": "VERSION", "value": version}, {"name": "RUNS", "value": runs}],
        });
        let path = write(&folder, &json!({"server": api.url()}), &json!({"exec": exec}));
        connects(by(&path)).await;
        assert_eq!(fs::read_to_string(&runs).unwrap().lines().count(), 1, "once");
    }
}

#[tokio::test]
async fn a_plugins_token_is_renewed_when_it_is_refused() {
    let (api, folder) = (Api::start().await, TempDir::new().unwrap());
    program(
        &folder,
        "plugin.sh",
        r#"echo "{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{
\"token\":\"$(cat "$(dirname "$0")/now")\",\"expirationTimestamp\":\"2999-01-01T00:00:00Z\"}}""#,
    );
    fs::write(folder.path().join("now"), "t1").unwrap();
    api.need_token("t1");
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin.sh"});
    let path = write(&folder, &json!({"server": api.url()}), &json!({"exec": exec}));
    let mut seen = Running::start(by(&path)).await.synced().await;
    fs::write(folder.path().join("now"), "t2").unwrap();
    api.need_token("t2");
    api.on("watch services", Reply::watch(&[event("ADDED", &service("default", "b", 12))], End::Silence));
    seen.until("the new token is used", |seen| seen.services().len() == 1).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_plugin_is_said() {
    let folder = TempDir::new().unwrap();
    let v1 = "client.authentication.k8s.io/v1";
    program(&folder, "fails.sh", "echo 'please log in' >&2; exit 7");
    program(&folder, "talks.sh", "echo 'secret-token'");
    program(
        &folder,
        "empty.sh",
        &format!("echo '{}'", json!({"apiVersion": v1, "kind": "ExecCredential", "status": {}})),
    );
    let old = "client.authentication.k8s.io/v1beta1";
    program(&folder, "old.sh", &format!("echo '{}'", json!({"apiVersion": old, "kind": "ExecCredential"})));
    for (exec, parts) in [
        (
            json!({"apiVersion": v1, "command": "lbex-no-such-plugin", "installHint": "Get it at the shop"}),
            ["is not there", "Get it at the shop"],
        ),
        (json!({"apiVersion": v1, "command": "./fails.sh"}), ["please log in", "exit status: 7"]),
        (json!({"apiVersion": v1, "command": "./talks.sh"}), ["printed no ExecCredential", "by hand"]),
        (json!({"apiVersion": v1, "command": "./empty.sh"}), ["neither a token nor a certificate", "is needed"]),
        (json!({"apiVersion": v1, "command": "./old.sh"}), ["v1beta1", "apiVersion"]),
        (json!({"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}), ["v1alpha1", "allowed"]),
        (json!({"apiVersion": v1, "command": "x", "interactiveMode": "Always"}), ["terminal", "keyboard"]),
        (json!({"apiVersion": v1}), ["no command", "program"]),
    ] {
        let text = refused(by(&write(&folder, &json!({"server": "http://127.0.0.1:1"}), &json!({"exec": exec})))).await;
        for part in parts.into_iter().chain(["context \"main\"", "user \"me\"", "kubeconfig"]) {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("secret-token"), "{text}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_kubeconfig_is_said() {
    let folder = TempDir::new().unwrap();
    let here = || json!({"server": "https://127.0.0.1:1"});
    let pem = STANDARD.encode("no certificate");
    for (cluster, user, part) in [
        (json!({}), json!({}), "has no server"),
        (json!({"server": "ftp://x"}), json!({}), "no URL of http or https"),
        (json!({"server": "https://x", "certificate-authority-data": "%%%"}), json!({}), "not base64"),
        (json!({"server": "https://x", "certificate-authority-data": pem}), json!({}), "no certificate in PEM form"),
        (json!({"server": "https://x", "certificate-authority": "ca.pem"}), json!({}), "ca.pem: No such file"),
        (
            json!({"server": "https://x", "certificate-authority-data": pem, "insecure-skip-tls-verify": true}),
            json!({}),
            "both a certificate authority and insecure-skip-tls-verify",
        ),
        (json!({"server": "https://x", "proxy-url": "ftp://p"}), json!({}), "its scheme is ftp"),
        (here(), json!({"client-certificate": "c.pem"}), "c.pem: No such file"),
        (here(), json!({"client-certificate-data": pem}), "no client-key"),
        (here(), json!({"client-key-data": pem}), "no client-certificate"),
        (here(), json!({"tokenFile": "token"}), "token: No such file"),
        (here(), json!({"auth-provider": {"name": "gcp"}}), "gke-gcloud-auth-plugin"),
        (here(), json!({"auth-provider": {"name": "azure"}}), "kubelogin"),
        (here(), json!({"auth-provider": {"name": "oidc"}}), "oidc-login"),
        (here(), json!({"auth-provider": {"name": "new"}}), "credential plugin"),
        (json!({"server": "https://x", "tls-server-name": "not a name"}), json!({}), "server name"),
    ] {
        let text = refused(by(&write(&folder, &cluster, &user))).await;
        assert!(text.contains(part) && text.contains("kubeconfig"), "{part}\n{text}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_file_is_said() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config");
    let text = refused(by(&path)).await;
    assert!(text.contains("cannot read it: No such file") && text.contains("config"), "{text}");
    for (content, part) in [
        ("", "no current-context"),
        ("current-context: ''\ncontexts: [{name: a, context: {cluster: c}}]", "it has a"),
        ("current-context: b\ncontexts: [{name: a, context: {cluster: c}}]", "no context \"b\""),
        ("current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]", "no cluster \"c\""),
        (
            "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'http://x'}}]",
            "no user \"u\"",
        ),
        ("users:\n- name: a\n  user: {token: secret-token, exec: 7}", "it is not a kubeconfig"),
        ("a: [", "it is not a kubeconfig"),
        ("token: secret-token\n\t- x", "it is not a kubeconfig"),
    ] {
        fs::write(&path, content).unwrap();
        let text = refused(by(&path)).await;
        assert!(text.contains(part), "{part}\n{text}");
        assert!(!text.contains("secret-token") && !text.contains('\n'), "{text}");
    }
}

#[tokio::test]
async fn the_pods_service_account_is_read() {
    let (api, folder) = (Api::start().await, TempDir::new().unwrap());
    let pod = |host: &str, port: &str| InCluster {
        host: Some(host.to_owned()),
        port: Some(port.to_owned()),
        mount: folder.path().to_owned(),
    };
    let by = |pod| KubeSettings { access: Access::InCluster(pod, ProxyVariables::default()), ..settings(&api) };
    let outside = InCluster { host: None, ..pod("", "443") };
    let text = refused(by(outside)).await;
    assert!(text.contains("KUBERNETES_SERVICE_HOST") && text.contains("--kubeconfig PATH"), "{text}");
    let text = refused(by(pod("10.0.0.1", "0"))).await;
    assert!(text.contains("make no URL"), "{text}");
    let text = refused(by(pod("fd00::1", "443"))).await;
    assert!(text.contains("token: No such file"), "{text}");
    fs::write(folder.path().join("token"), "\n").unwrap();
    assert!(refused(by(pod("fd00::1", "443"))).await.contains("token is empty"));
    fs::write(folder.path().join("token"), "t").unwrap();
    assert!(refused(by(pod("fd00::1", "443"))).await.contains("ca.crt: No such file"));
    fs::write(folder.path().join("ca.crt"), "x").unwrap();
    assert!(refused(by(pod("fd00::1", "443"))).await.contains("no certificate in PEM form"));
}

/// A proxy for one connection: reads what comes before the tunnel with `greet`, and passes everything else on.
async fn proxy<F>(greet: fn(TcpStream) -> F) -> (std::net::SocketAddr, Arc<AtomicU64>)
where
    F: Future<Output = (TcpStream, String)> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let (mut stream, target) = greet(stream).await;
                counted.fetch_add(1, Ordering::Relaxed);
                let mut target = TcpStream::connect(target).await.unwrap();
                // Ends with either side.
                drop(tokio::io::copy_bidirectional(&mut stream, &mut target).await);
            });
        }
    });
    (address, count)
}

async fn connect(mut stream: TcpStream) -> (TcpStream, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    // `user:p@ss`
    assert!(head.to_ascii_lowercase().contains("proxy-authorization: basic dxnlcjpwqhnz"), "{head}");
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    (stream, head.split(' ').nth(1).unwrap().to_owned())
}

async fn socks(mut stream: TcpStream) -> (TcpStream, String) {
    let methods = usize::from({
        stream.read_u8().await.unwrap();
        stream.read_u8().await.unwrap()
    });
    stream.read_exact(&mut vec![0; methods]).await.unwrap();
    stream.write_all(&[5, 0]).await.unwrap();
    let mut request = [0; 4];
    stream.read_exact(&mut request).await.unwrap();
    let host = if request[3] == 1 {
        std::net::Ipv4Addr::from(stream.read_u32().await.unwrap()).to_string()
    } else {
        let mut name = vec![0; usize::from(stream.read_u8().await.unwrap())];
        stream.read_exact(&mut name).await.unwrap();
        String::from_utf8(name).unwrap()
    };
    let port = stream.read_u16().await.unwrap();
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    (stream, format!("{host}:{port}"))
}

#[tokio::test]
async fn proxies_of_the_kubeconfig_are_used() {
    let (api, folder) = (Api::start().await, TempDir::new().unwrap());
    let (address, count) = proxy(connect).await;
    let url = format!("http://user:p%40ss@{address}");
    connects(by(&write(&folder, &json!({"server": api.url(), "proxy-url": url}), &json!({})))).await;
    assert!(count.load(Ordering::Relaxed) > 0);
    let (address, count) = proxy(socks).await;
    let url = format!("socks5://{address}");
    connects(by(&write(&folder, &json!({"server": api.url(), "proxy-url": url}), &json!({})))).await;
    assert!(count.load(Ordering::Relaxed) > 0);
}
