//! Certificates that are good or bad as a test wants them, and small servers that speak TLS with them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::apiserver::ca_params;

/// A certificate authority.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A client's certificate with its key.
#[derive(Debug)]
pub struct ClientIdentity {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// Both, as a file would have them.
    pub pem: String,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Now.
    Now,
    /// Until 2021.
    Expired,
    /// From 2090 on.
    NotYet,
}

impl Authority {
    /// One that nobody knows.
    pub fn new() -> Result<Self> {
        Ok(Self(CertifiedIssuer::self_signed(ca_params()?, KeyPair::generate()?)?))
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Its own certificate, as DER.
    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A certificate of this authority for a client called `name`, with its key.
    pub fn client(&self, name: &str) -> Result<ClientIdentity> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.0)?;
        let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(ClientIdentity { certificate: certificate.der().clone(), key, pem })
    }

    /// A server with a certificate of this authority for `name`; `clients`: it wants certificates of that one.
    pub fn server_config(
        &self,
        name: &str,
        validity: Validity,
        clients: Option<&Authority>,
    ) -> Result<Arc<ServerConfig>> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        let (from, to) = match validity {
            Validity::Now => (2000, 2090),
            Validity::Expired => (2000, 2021),
            Validity::NotYet => (2090, 2099),
        };
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let config = match clients {
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.der())?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
                config.with_client_cert_verifier(verifier)
            }
            None => config.with_no_client_auth(),
        };
        Ok(Arc::new(config.with_single_cert(vec![certificate], key)?))
    }
}

/// Speaks TLS on a port of 127.0.0.1, until dropped.
#[derive(Debug)]
pub struct TlsServer {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl TlsServer {
    /// Passes what it gets to a server that does without TLS, and back.
    pub async fn before(server: SocketAddr, by: &Authority, name: &str, validity: Validity) -> Result<Self> {
        Self::start(by.server_config(name, validity, None)?, Some(server)).await
    }

    /// An HTTP proxy (`CONNECT`) that is itself spoken to by TLS.
    pub async fn proxy(by: &Authority, name: &str, validity: Validity) -> Result<Self> {
        Self::start(by.server_config(name, validity, None)?, None).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    async fn start(config: Arc<ServerConfig>, server: Option<SocketAddr>) -> Result<Self> {
        let acceptor = TlsAcceptor::from(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    // A client may not like the certificate, or go away at any time.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        drop(pass(BufReader::new(stream), server).await);
                    }
                });
            }
        });
        Ok(Self { address, _tasks: tasks })
    }
}

async fn pass(mut client: BufReader<impl AsyncRead + AsyncWrite + Unpin>, server: Option<SocketAddr>) -> Result<()> {
    let mut server = match server {
        Some(server) => TcpStream::connect(server).await?,
        None => connect(&mut client).await?,
    };
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Reads `CONNECT HOST:PORT` and its headers, and does as it says.
async fn connect(client: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>) -> Result<TcpStream> {
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        anyhow::ensure!(client.read_line(&mut request).await? > 0, "the client went away");
    }
    let target = request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).context("no CONNECT")?;
    let server = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    client.flush().await?;
    Ok(server)
}
