//! An API server behind a proxy that is itself spoken to by TLS. Which authorities count for a proxy is the host's matter; a variable
//! names them, so LBEX runs as a process of its own.

use std::process::Command;

use anyhow::{Result, ensure};
use lbex_test_harness::tls::{Authority, TlsServer, Validity};

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_by_tls_is_gone_through_where_the_host_knows_its_authority() -> Result<()> {
    let (of_proxy, of_server) = (Authority::new()?, Authority::new()?);
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let server = TlsServer::before(nobody, &of_server, "localhost", Validity::Expired).await?;
    let proxy = TlsServer::proxy(&of_proxy, "localhost", Validity::Now).await?;
    let folder = tempfile::tempdir()?;
    let (authority, kubeconfig) = (folder.path().join("proxy.pem"), folder.path().join("kubeconfig"));
    std::fs::write(&authority, of_proxy.pem())?;
    let server_authority = folder.path().join("server.pem");
    std::fs::write(&server_authority, of_server.pem())?;
    let cluster = serde_json::json!({
        "server": format!("https://localhost:{}", server.address().port()),
        "certificate-authority": server_authority,
        "proxy-url": format!("https://localhost:{}", proxy.address().port()),
    });
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {}}],
    });
    std::fs::write(&kubeconfig, config.to_string())?;
    let run = |known: &std::path::Path| -> Result<String> {
        let mut lbex = Command::new(env!("CARGO_BIN_EXE_lbex"));
        let output = lbex.arg("render").arg("--kubeconfig").arg(&kubeconfig).env("SSL_CERT_FILE", known).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
        Ok(said)
    };
    // What is wrong now is wrong behind the proxy.
    let said = run(&authority)?;
    ensure!(said.contains("its certificate has expired") && !said.contains("the proxy's"), "{said}");
    let said = run(&server_authority)?;
    ensure!(said.contains("the proxy's certificate is not signed by an authority of this host"), "{said}");
    Ok(())
}
