//! The first contact.

use serde_json::json;

use super::server::{Api, End, Reply};
use super::*;
use crate::source::SourceError;

async fn error(settings: KubeSettings) -> SourceError {
    match KubeSource::connect_with(settings, quick()).await {
        Ok(_) => panic!("it connects"),
        Err(error) => error,
    }
}

fn forbidden(verb: &str, resource: &str) -> Reply {
    let message = format!("{resource} is forbidden: User \"lbex\" cannot {verb} resource \"{resource}\"");
    Reply::json(403, &json!({"kind": "Status", "message": message, "code": 403}))
}

#[tokio::test]
async fn says_what_answers() {
    let api = Api::start().await;
    let source = KubeSource::connect_with(settings(&api), quick()).await.unwrap();
    assert_eq!((source.version(), source.endpoints_api()), ("v1.36.0-script", "endpointslices"));
    assert_eq!(source.shown(), format!("--proxy {}/", api.url()));
    let agent = api.asked("/version")[0].headers["user-agent"].to_str().unwrap().to_owned();
    assert!(agent.starts_with("lbex/"), "{agent}");
}

#[tokio::test]
async fn a_path_goes_before_every_path() {
    let api = Api::start().await;
    api.on("/cluster/a/version", Reply::json(200, &json!({"gitVersion": "v1"})));
    let access = Access::Proxy(format!("{}/cluster/a", api.url()).parse().unwrap());
    KubeSource::connect_with(
        KubeSettings { access, endpoints_api: EndpointsApi::Endpoints, ..settings(&api) },
        quick(),
    )
    .await
    .unwrap();
    assert!(!api.asked("/cluster/a/api/v1/nodes").is_empty());
}

#[tokio::test]
async fn a_missing_verb_is_named() {
    let api = Api::start().await;
    api.on("probe nodes", forbidden("list", "nodes"));
    api.on("probe-watch endpointslices", forbidden("watch", "endpointslices"));
    let SourceError::Refused(text) = error(settings(&api)).await else { panic!() };
    for part in [
        "cannot list nodes: needs the verbs get, list and watch on nodes (the core API group)",
        "cannot watch endpointslices in all namespaces",
        "(the API group discovery.k8s.io) in a ClusterRole with a ClusterRoleBinding",
        "User \"lbex\" cannot list resource \"nodes\"",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("services"), "{text}");

    let api = Api::start().await;
    api.on("probe web/services", forbidden("list", "services"));
    let text = error(KubeSettings { namespaces: vec!["web".to_owned()], ..settings(&api) }).await.to_string();
    assert!(text.contains("cannot list services in the namespace web: needs"), "{text}");
    assert!(text.contains("a Role or ClusterRole, bound in that namespace"), "{text}");
}

#[tokio::test]
async fn credentials_that_are_refused_are_no_unreachable_server() {
    let api = Api::start().await;
    api.need_token("secret");
    let SourceError::Refused(text) = error(settings(&api)).await else { panic!() };
    assert!(text.contains("401") && text.contains(&api.url()), "{text}");
}

#[tokio::test]
async fn what_is_no_api_server_is_said() {
    for reply in [
        Reply::json(404, &json!("nothing here")),
        Reply::watch(&["<html>hello</html>".to_owned()], End::Close),
        Reply::json(502, &json!("upstream is down")),
    ] {
        let api = Api::start().await;
        api.on("/version", reply);
        let SourceError::Unreachable(text) = error(settings(&api)).await else { panic!() };
        assert!(text.contains("no Kubernetes API server") || text.contains("502 Bad Gateway"), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said() {
    // Bound, so that nobody else gets the port, and nothing listens there.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = held.local_addr().unwrap().port();
    let api = Api::start().await;
    for (url, part) in [
        (format!("http://127.0.0.1:{port}"), "connection refused"),
        ("http://lbex-test.invalid:8001".to_owned(), "its name cannot be resolved"),
        (format!("https://{}", api.address()), "does not speak TLS"),
    ] {
        let access = Access::Proxy(url.parse().unwrap());
        let SourceError::Unreachable(text) = error(KubeSettings { access, ..settings(&api) }).await else { panic!() };
        assert!(text.contains(part) && text.contains(&url), "{text}");
    }
}

#[tokio::test]
async fn slices_that_are_demanded_and_missing_are_said() {
    let api = Api::start().await;
    api.on("probe endpointslices", Reply::json(404, &json!({"message": "no"})));
    let text = error(KubeSettings { endpoints_api: EndpointsApi::EndpointSlices, ..settings(&api) }).await.to_string();
    assert!(text.contains("--endpoints-api auto"), "{text}");
}

#[tokio::test]
async fn with_something_to_serve_the_first_contact_is_made_until_it_succeeds() {
    let api = Api::start().await;
    for _ in 0..3 {
        api.on("/version", Reply::json(503, &json!({"message": "starting"})));
    }
    api.on("/version", Reply::json(200, &json!({"gitVersion": "v1.36.1"})));
    api.on("probe nodes", forbidden("list", "nodes"));
    let contact = Contact::open(settings(&api), quick()).await.unwrap();
    let source = tokio::time::timeout(LIMIT, contact.keep_trying()).await.expect("it answers in the end");
    assert_eq!(source.version(), "v1.36.1");
    assert_eq!(api.asked("/version").len(), 5, "three times away, once refusing, and then it works");
}

#[tokio::test]
async fn credentials_are_loaded_anew_while_they_are_refused() {
    let (api, folder) = (Api::start().await, tempfile::TempDir::new().unwrap());
    let token = folder.path().join("token");
    std::fs::write(&token, "old").unwrap();
    api.need_token("new");
    let kubeconfig = folder.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": api.url()}}],
        "users": [{"name": "me", "user": {"tokenFile": token}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let access = Access::Kubeconfig(kubeconfig, crate::source::kube::ProxyVariables::default());
    let contact = Contact::open(KubeSettings { access, ..settings(&api) }, quick()).await.unwrap();
    let renewed = async {
        while api.asked("/version").len() < 3 {
            tokio::task::yield_now().await;
        }
        std::fs::write(&token, "new").unwrap();
    };
    let both = async { tokio::join!(contact.keep_trying(), renewed).0 };
    tokio::time::timeout(LIMIT, both).await.expect("the new token is used");
}
