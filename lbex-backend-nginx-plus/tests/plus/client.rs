//! The client: every call, every kind of error, TLS and credentials.

use anyhow::{Result, ensure};
use lbex_backend_nginx_plus::api::{
    AccessFiles, ApiError, ApiUrl, Client, Credentials, NewServer, Patch, PeerState, Problem,
};
use lbex_plus_standin::{Credentials as Wants, Fault, Rule, StandIn};
use lbex_test_harness::tls::{Authority, Validity};
use lbex_test_harness::wait::{SOON, eventually};

use crate::support::{address, url};

const WEB: &str = "80.tcp.default.web";

async fn standin() -> Result<StandIn> {
    StandIn::builder().tcp(0).upstream(WEB, &[address("10.0.0.1:80")]).start().await
}

fn client(plus: &StandIn) -> Client {
    Client::new(url(plus), AccessFiles::default())
}

#[tokio::test]
async fn every_call() -> Result<()> {
    let plus = standin().await?;
    let client = client(&plus);
    ensure!(client.nginx().await?.build.starts_with("nginx-plus-r"));
    let added = client.add(WEB, &NewServer::at(address("[fd00::1]:80"))).await?;
    ensure!(
        added.address() == Some(address("[fd00::1]:80")) && added.max_fails == 1 && Patch::to_right(&added).is_empty()
    );
    ensure!(client.servers(WEB).await?.len() == 2);
    let changed = client.change(WEB, added.id, &Patch::down()).await?;
    ensure!(changed.down && client.change(WEB, added.id, &Patch::to_right(&changed)).await?.id == added.id);
    let upstreams = client.upstreams().await?;
    ensure!(upstreams[WEB].peers.len() == 2 && upstreams[WEB].peers[0].state == PeerState::Up);
    let left = client.remove(WEB, added.id).await?;
    ensure!(left.len() == 1, "{left:?}");
    let lines = ["POST", "PATCH", "PATCH", "DELETE"];
    ensure!(plus.writes().iter().zip(lines).all(|(write, method)| write.starts_with(method)), "{:?}", plus.writes());
    Ok(())
}

#[tokio::test]
async fn the_highest_version_that_both_know() -> Result<()> {
    for (theirs, ours) in [(&[1, 2, 7][..], Some(7)), (&[6, 8, 9, 12], Some(9)), (&[1, 6], None), (&[10], None)] {
        let plus = StandIn::builder().tcp(0).versions(theirs).start().await?;
        let answer = client(&plus).nginx().await;
        let paths: Vec<String> = plus.calls().into_iter().map(|call| call.path).collect();
        if let Some(version) = ours {
            ensure!(answer.is_ok() && paths.contains(&format!("/api/{version}/nginx")), "{paths:?}");
            continue;
        }
        let error = answer.expect_err("none in common");
        ensure!(error.problem == Problem::NoCommonVersion(theirs.to_vec()) && error.to_string().contains("7, 8, 9"));
    }
    Ok(())
}

#[tokio::test]
async fn errors_have_their_kinds() -> Result<()> {
    let plus = standin().await?;
    let client = client(&plus);
    client.nginx().await?;
    let problem = |result: Result<_, ApiError>| result.map(drop).expect_err("an error").problem;
    ensure!(problem(client.servers("no").await) == Problem::UpstreamNotFound);
    ensure!(problem(client.remove(WEB, 99).await) == Problem::ServerNotFound);
    for (fault, is_it) in [
        (Fault::Broken, (|problem| matches!(problem, Problem::Server { status: 500, .. })) as fn(&Problem) -> bool),
        (Fault::Html, |problem| matches!(problem, Problem::NotTheApi(_))),
        (Fault::DropBefore, |problem| matches!(problem, Problem::NoAnswer(_))),
    ] {
        // hyper tries a connection that breaks before a byte of the answer once more where it was idle before.
        plus.inject(Rule::new(fault.clone()).times(2));
        let error = client.servers(WEB).await.expect_err("an error");
        ensure!(is_it(&error.problem), "{fault:?}: {error}");
        ensure!(error.to_string().starts_with("GET http://127.0.0.1:"), "{error}");
        plus.heal();
    }
    let read_only = StandIn::builder().tcp(0).upstream(WEB, &[]).read_only().start().await?;
    let client = Client::new(url(&read_only), AccessFiles::default());
    let added = client.add(WEB, &NewServer::at(address("10.0.0.1:80"))).await;
    let error = added.expect_err("an error");
    ensure!(error.problem == Problem::MethodDisabled && error.to_string().contains("api write=on;"), "{error}");
    read_only.refuse().await?;
    let refused = client.servers(WEB).await.map(|servers| servers.len()).expect_err("an error");
    ensure!(matches!(refused.problem, Problem::NoAnswer(_)), "{refused}");
    Ok(())
}

#[tokio::test]
async fn over_a_unix_socket() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("api.sock");
    let plus = StandIn::builder().unix(&socket).upstream(WEB, &[]).start().await?;
    let client = Client::new(ApiUrl::unix(&socket), AccessFiles::default());
    client.add(WEB, &NewServer::at(address("10.0.0.1:80"))).await?;
    ensure!(plus.up(WEB) == [address("10.0.0.1:80")]);
    Ok(())
}

#[tokio::test]
async fn with_tls_a_client_certificate_and_a_token_that_changes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).map(|()| path)
    };
    let (authority, clients) = (Authority::new()?, Authority::new()?);
    let identity = clients.client("lbex")?;
    let server = authority.server_config("localhost", Validity::Now, Some(&clients))?;
    let token = Wants::Bearer("second".to_owned());
    let plus = StandIn::builder().tcp(0).tls(server).credentials(token).upstream(WEB, &[]).start().await?;
    let url: ApiUrl = format!("https://localhost:{}", plus.address().port()).parse().expect("a URL");
    let pem = file("client.pem", &identity.pem)?;
    let files = AccessFiles {
        ca: Some(file("ca.pem", &authority.pem())?),
        client: Some((pem.clone(), pem)),
        credentials: Some(Credentials::Bearer(file("token", "first")?)),
    };
    let client = Client::new(url.clone(), files.clone());
    let error = client.nginx().await.expect_err("the first token");
    ensure!(matches!(error.problem, Problem::Unauthorized { .. }), "{error}");
    file("token", "second\n")?;
    eventually("the new token is used", SOON, || async { client.nginx().await.map(drop) }).await?;

    let stranger = AccessFiles { ca: Some(file("other.pem", &clients.pem())?), ..files.clone() };
    let error = Client::new(url.clone(), stranger).nginx().await.expect_err("another authority");
    ensure!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    let nobody = AccessFiles { client: None, ..files };
    ensure!(Client::new(url, nobody).nginx().await.is_err(), "without a client certificate");
    Ok(())
}
