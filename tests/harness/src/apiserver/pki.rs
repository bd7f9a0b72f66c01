//! The keys and certificates of one API server, made anew for each.

use std::path::PathBuf;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::Scratch;

/// Names and addresses that the API server's certificate is for.
const SERVER_NAMES: [&str; 4] = ["localhost", "127.0.0.1", "::1", "kubernetes.default.svc"];

/// The files are in the server's temporary folder.
#[derive(Debug)]
pub(super) struct Pki {
    pub(super) ca_pem: String,
    pub(super) admin_certificate_pem: String,
    pub(super) admin_key_pem: String,
    pub(super) ca: PathBuf,
    pub(super) server_certificate: PathBuf,
    pub(super) server_key: PathBuf,
    pub(super) service_account_key: PathBuf,
    pub(super) service_account_public_key: PathBuf,
}

impl Pki {
    pub(super) fn create(folder: &Scratch) -> Result<Self> {
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
            Ok(path)
        };
        let ca = CertifiedIssuer::self_signed(ca_params()?, KeyPair::generate()?)?;
        let (server_certificate, server_key) = leaf(&ca, "kube-apiserver", "", &SERVER_NAMES)?;
        let (admin_certificate_pem, admin_key_pem) = leaf(&ca, "admin", "system:masters", &[])?;
        let service_account = KeyPair::generate()?;
        Ok(Self {
            ca: write("ca.crt", &ca.pem())?,
            ca_pem: ca.pem(),
            admin_certificate_pem,
            admin_key_pem,
            server_certificate: write("server.crt", &server_certificate)?,
            server_key: write("server.key", &server_key)?,
            service_account_key: write("service-account.key", &service_account.serialize_pem())?,
            service_account_public_key: write("service-account.pub", &service_account.public_key_pem())?,
        })
    }
}

pub(crate) fn ca_params() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "lbex-test-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

/// A certificate for a server (if it has names) or a client (the user, and the group if not empty).
fn leaf(ca: &CertifiedIssuer<'_, KeyPair>, user: &str, group: &str, names: &[&str]) -> Result<(String, String)> {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let usage =
        if names.is_empty() { ExtendedKeyUsagePurpose::ClientAuth } else { ExtendedKeyUsagePurpose::ServerAuth };
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, user);
    if !group.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, ca)?.pem(), key.serialize_pem()))
}
