//! Credentials and certificates from files, read again when those change.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use hyper_rustls::ConfigBuilderExt as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// What LBEX shows an API of who it is, and how it knows the API. All files are PEM or text; default: none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessFiles {
    /// Authorities that may have signed the API's certificate; none: those of the host.
    pub ca: Option<PathBuf>,
    /// A client certificate, with its chain, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Who LBEX is.
    pub credentials: Option<Credentials>,
}

/// Where LBEX reads who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A bearer token: the file's content, without white space around it.
    Bearer(PathBuf),
    /// `NAME:PASSWORD`: the file's first line.
    Basic(PathBuf),
}

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be used: {reason}", path.display())]
pub struct AccessError {
    path: PathBuf,
    reason: String,
}

/// What the files hold.
pub(super) struct Access {
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) authorization: Option<HeaderValue>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets stay out of logs.
        f.debug_struct("Access").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// Tells contents of files from earlier ones without reading them.
pub(super) type Stamp = Vec<Option<(u64, u64, i64, i64, u64)>>;

/// Files that hold credentials are small.
const LONGEST: u64 = 1 << 20;

impl AccessFiles {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let credentials = self.credentials.as_ref().map(|credentials| match credentials {
            Credentials::Bearer(path) | Credentials::Basic(path) => path,
        });
        let client = self.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.ca.iter().chain(client).chain(credentials).map(PathBuf::as_path)
    }

    /// What the files are now.
    pub(super) fn stamp(&self) -> Stamp {
        let stamp = |path: &Path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
        };
        self.paths().map(stamp).collect()
    }

    /// Reads them. `tls`: whether the API is reached by TLS.
    pub(super) fn read(&self, tls: bool) -> Result<Access, AccessError> {
        let authorization = self.credentials.as_ref().map(authorization).transpose()?;
        let tls = if tls { Some(Arc::new(self.tls()?)) } else { None };
        Ok(Access { tls, authorization })
    }

    fn tls(&self) -> Result<ClientConfig, AccessError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let wrong = |path: &Path, reason: String| AccessError { path: path.to_owned(), reason };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(Path::new("TLS"), error.to_string()))?;
        let builder = match &self.ca {
            None => builder
                .with_native_roots()
                .map_err(|error| wrong(Path::new("the host's authorities"), error.to_string()))?,
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| wrong(path, error.to_string()))?;
                }
                builder.with_root_certificates(roots)
            }
        };
        let Some((certificate, key)) = &self.client else { return Ok(builder.with_no_client_auth()) };
        let private = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|_| wrong(key, "there is no private key in it (PEM)".to_owned()))?;
        builder
            .with_client_auth_cert(certificates(certificate)?, private)
            .map_err(|error| wrong(certificate, error.to_string()))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(AccessError { path: path.to_owned(), reason: "there is no certificate in it (PEM)".to_owned() }),
        Err(error) => Err(AccessError { path: path.to_owned(), reason: error.to_string() }),
    }
}

fn authorization(credentials: &Credentials) -> Result<HeaderValue, AccessError> {
    let (path, wanted) = match credentials {
        Credentials::Bearer(path) => (path, "a bearer token, on one line"),
        Credentials::Basic(path) => (path, "NAME:PASSWORD, on its first line"),
    };
    let wrong = || AccessError { path: path.clone(), reason: format!("it has to hold {wanted}") };
    let text = String::from_utf8(read(path)?).map_err(|_| wrong())?;
    let value = match credentials {
        Credentials::Bearer(_) => {
            Some(text.trim()).filter(|token| !token.is_empty()).map(|token| format!("Bearer {token}"))
        }
        Credentials::Basic(_) => text
            .lines()
            .next()
            .filter(|line| line.contains(':'))
            .map(|line| format!("Basic {}", STANDARD.encode(line.trim_end_matches('\r')))),
    };
    let mut value = value.and_then(|value| HeaderValue::from_str(&value).ok()).ok_or_else(wrong)?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(path: &Path) -> Result<Vec<u8>, AccessError> {
    let wrong = |reason: String| AccessError { path: path.to_owned(), reason };
    let meta = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if !meta.is_file() || meta.len() > LONGEST {
        return Err(wrong(format!("it is no file of at most {LONGEST} bytes")));
    }
    std::fs::read(path).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(credentials: &Credentials, content: &str) -> Result<String, String> {
        let (Credentials::Bearer(path) | Credentials::Basic(path)) = credentials;
        std::fs::write(path, content).expect("written");
        let value = authorization(credentials).map_err(|error| error.to_string())?;
        Ok(value.to_str().expect("text").to_owned())
    }

    #[test]
    fn credentials_are_read_from_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let bearer = Credentials::Bearer(folder.path().join("token"));
        let basic = Credentials::Basic(folder.path().join("basic"));
        assert_eq!(header(&bearer, " abc\n").as_deref(), Ok("Bearer abc"));
        assert_eq!(header(&basic, "lbex:secret\n").as_deref(), Ok("Basic bGJleDpzZWNyZXQ="));
        for (credentials, content) in [(&bearer, ""), (&bearer, "a\nb"), (&basic, "lbex"), (&basic, "")] {
            let error = header(credentials, content).expect_err(content);
            assert!(error.contains("it has to hold") && !error.contains("secret"), "{error}");
        }
        let missing = AccessFiles { ca: Some(folder.path().join("no")), ..AccessFiles::default() };
        assert!(missing.read(false).is_ok(), "without TLS it is not needed");
        let error = missing.read(true).expect_err("no such file").to_string();
        assert!(error.contains("/no cannot be used"), "{error}");
    }
}
