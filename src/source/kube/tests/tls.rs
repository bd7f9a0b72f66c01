//! API servers and proxies whose certificates are not as they should be, by real TLS.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lbex_test_harness::tls::{Authority, TlsServer, Validity};
use tempfile::TempDir;

use super::access::{by, connects, write};
use super::*;
use crate::source::SourceError;

/// A cluster of a kubeconfig: the server, and the authority that is to have signed its certificate.
fn cluster(server: &TlsServer, authority: &Authority) -> Value {
    let url = format!("https://localhost:{}", server.address().port());
    json!({"server": url, "certificate-authority-data": STANDARD.encode(authority.pem())})
}

async fn unreachable(cluster: &Value) -> String {
    let folder = TempDir::new().unwrap();
    match KubeSource::connect_with(by(&write(&folder, cluster, &json!({}))), quick()).await {
        Ok(_) => panic!("it connects"),
        Err(SourceError::Unreachable(text)) => text,
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_servers_certificate_is_said() {
    let (api, ours, another) = (Api::start().await, Authority::new().unwrap(), Authority::new().unwrap());
    let cases = [
        (&ours, "localhost", Validity::Expired, "its certificate has expired: renew it, or check the clock"),
        (&ours, "localhost", Validity::NotYet, "its certificate is not valid yet: check the clocks"),
        (&ours, "other.example", Validity::Now, "its certificate is for another name"),
        (&another, "localhost", Validity::Now, "not signed by the certificate authority that LBEX was given"),
    ];
    for (by, name, validity, part) in cases {
        let server = TlsServer::before(api.address(), by, name, validity).await.unwrap();
        let text = unreachable(&cluster(&server, &ours)).await;
        assert!(text.contains(part) && text.contains(&server.address().port().to_string()), "{part}\n{text}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_good_is_taken_also_under_another_name_if_that_is_wanted() {
    let (api, ours, folder) = (Api::start().await, Authority::new().unwrap(), TempDir::new().unwrap());
    let server = TlsServer::before(api.address(), &ours, "localhost", Validity::Now).await.unwrap();
    connects(by(&write(&folder, &cluster(&server, &ours), &json!({})))).await;
    let server = TlsServer::before(api.address(), &ours, "other.example", Validity::Now).await.unwrap();
    let mut cluster = cluster(&server, &ours);
    cluster["tls-server-name"] = "other.example".into();
    connects(by(&write(&folder, &cluster, &json!({})))).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_proxys_certificate_is_said_of_the_proxy() {
    let (api, ours) = (Api::start().await, Authority::new().unwrap());
    let server = TlsServer::before(api.address(), &ours, "localhost", Validity::Now).await.unwrap();
    let proxy = TlsServer::proxy(&ours, "localhost", Validity::Now).await.unwrap();
    let mut cluster = cluster(&server, &ours);
    cluster["proxy-url"] = format!("https://localhost:{}", proxy.address().port()).into();
    // The cluster's authority counts for the API server, and not for the proxy.
    let text = unreachable(&cluster).await;
    assert!(text.contains("the proxy's certificate is not signed by an authority of this host"), "{text}");
    // No TLS at all.
    cluster["proxy-url"] = format!("https://{}", api.address()).into();
    let text = unreachable(&cluster).await;
    assert!(
        text.contains("the proxy (proxy-url, or a proxy variable): ") && text.contains("does not speak TLS"),
        "{text}"
    );
}
