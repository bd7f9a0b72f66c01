//! Where it answers, and whom.

use std::sync::Arc;

use anyhow::Result;
use lbex_plus_standin::{Credentials, StandIn};
use lbex_test_harness::Scratch;
use lbex_test_harness::tls::{Authority, Validity};
use lbex_test_harness::wait::{SOON, eventually};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::client::{Answer, exchange, json, request};

#[tokio::test]
async fn a_unix_socket_and_a_port_are_one_api() -> Result<()> {
    let folder = Scratch::new("plus")?;
    let socket = folder.join("api.sock");
    let plus = StandIn::builder().tcp(0).unix(&socket).upstream("web", &[]).start().await?;
    let path = "/api/9/stream/upstreams/web/servers";
    let ask = async |text: String| -> Result<Answer> { exchange(UnixStream::connect(&socket).await?, &text).await };
    assert_eq!(ask(request("POST", path, "", r#"{"server": "10.0.0.1:80"}"#)).await?.status, 201);
    assert_eq!(json(plus.address(), "GET", path, "", 200).await?[0]["server"], "10.0.0.1:80");
    plus.refuse().await?;
    // A program that another test starts may have it, until it is executed.
    eventually("nobody listens", SOON, || async {
        match UnixStream::connect(&socket).await {
            Ok(_) => Err("somebody does"),
            Err(_) => Ok(()),
        }
    })
    .await?;
    plus.accept().await?;
    assert_eq!(ask(request("GET", path, "", "")).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn only_who_has_the_credentials_is_let_in() -> Result<()> {
    let with = |header: &'static str| {
        async move |plus: StandIn| -> Result<Answer> {
            let stream = TcpStream::connect(plus.address()).await?;
            exchange(stream, &request("GET", "/api/", header, "")).await
        }
    };
    let token = || StandIn::builder().tcp(0).credentials(Credentials::Bearer("s3cret".to_owned())).start();
    let basic = || StandIn::builder().tcp(0).credentials(Credentials::Basic("u".to_owned(), "p".to_owned())).start();
    assert_eq!(with("Authorization: Bearer s3cret\r\n")(token().await?).await?.status, 200);
    assert_eq!(with("Authorization: Basic dTpw\r\n")(basic().await?).await?.status, 200);
    let refused = with("Authorization: Bearer other\r\n")(token().await?).await?;
    assert_eq!(refused.status, 401);
    assert!(refused.head.contains("www-authenticate:") && refused.body.starts_with("<html>"), "{refused:?}");
    assert_eq!(with("")(token().await?).await?.status, 401);
    assert_eq!(with("Authorization: Basic dTpx\r\n")(basic().await?).await?.status, 401);
    Ok(())
}

/// A call over TLS by a client that trusts `authority`, with the certificate that `shown` gives it.
async fn secure(plus: &StandIn, authority: &Authority, shown: Option<&Authority>) -> Result<Answer> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der())?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match shown {
        Some(authority) => {
            let client = authority.client("lbex")?;
            config.with_client_auth_cert(vec![client.certificate], client.key)?
        }
        None => config.with_no_client_auth(),
    };
    let stream = TcpStream::connect(plus.address()).await?;
    let name = ServerName::try_from("plus.example")?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    exchange(stream, &request("GET", "/api/", "", "")).await
}

#[tokio::test]
async fn over_tls_with_or_without_certificates_of_clients() -> Result<()> {
    let (ours, theirs) = (Authority::new()?, Authority::new()?);
    let plain = ours.server_config("plus.example", Validity::Now, None)?;
    let plus = StandIn::builder().tcp(0).tls(plain).start().await?;
    assert_eq!(secure(&plus, &ours, None).await?.status, 200);
    assert!(secure(&plus, &theirs, None).await.is_err(), "a certificate of somebody unknown");

    let strict = ours.server_config("plus.example", Validity::Now, Some(&ours))?;
    let plus = StandIn::builder().tcp(0).tls(strict).start().await?;
    assert_eq!(secure(&plus, &ours, Some(&ours)).await?.status, 200);
    assert!(secure(&plus, &ours, None).await.is_err(), "no certificate");
    assert!(secure(&plus, &ours, Some(&theirs)).await.is_err(), "one of somebody unknown");
    assert_eq!(plus.calls().len(), 1);
    Ok(())
}
