//! TLS without looking at the server's certificate (`insecure-skip-tls-verify`), as the operator's kubeconfig demands.
//!
//! The crate `kube` has that too, with a warning at each connection; LBEX warns once, when it loads the kubeconfig first.

use std::sync::Arc;

use ::kube::client::ConfigExt;
use ::kube::{Config, Error};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

/// A connector that takes any certificate; the rest is as `config` says.
pub(super) fn connector<C>(config: &Config, connector: C) -> Result<HttpsConnector<C>, Error> {
    let mut tls = config.rustls_client_config()?;
    let schemes = tls.crypto_provider().signature_verification_algorithms.supported_schemes();
    tls.dangerous().set_certificate_verifier(Arc::new(AnyCertificate(schemes)));
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    // Servers choose by the name; one that is not valid names nobody.
    let name = config.tls_server_name.as_ref().and_then(|name| ServerName::try_from(name.clone()).ok());
    if let Some(name) = name {
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(builder.enable_http1().wrap_connector(connector))
}

#[derive(Debug)]
struct AnyCertificate(Vec<SignatureScheme>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
