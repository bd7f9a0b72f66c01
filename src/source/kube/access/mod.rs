//! How LBEX reaches the API server (contract section 2, 'Access to the cluster'): exactly one method, nothing inferred.
//!
//! `$KUBECONFIG`, `~/.kube/config` and the debugging variables of the crate `kube` are never looked at. The proxy variables
//! of the environment are: they say how this host reaches the network, not which cluster is meant, and `kubectl` and the
//! original heed them too (see [`environment`] for when).

mod client;
mod environment;
mod exec;
mod in_cluster;
mod kubeconfig;
mod renewal;
mod session;
mod unverified;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::kube::Config;
use http::{HeaderName, HeaderValue, Uri};
use secrecy::SecretString;

pub(super) use self::client::OfProxy;
pub use self::environment::ProxyVariables;
pub use self::in_cluster::InCluster;
use self::renewal::Renewal;
pub(super) use self::session::{Lease, Session};

/// How long a token from a file is used before the file is read again.
const TOKEN_FILE_AGE: Duration = Duration::from_secs(45);

/// A way to the API server.
#[derive(Debug, Clone)]
pub enum Access {
    /// A `kubectl proxy` (`--proxy`): a URL with a scheme and a host, perhaps a path. No credentials are sent, and the proxy
    /// variables are not heeded.
    Proxy(Uri),
    /// A kubeconfig file (`--kubeconfig`) and its current context.
    Kubeconfig(PathBuf, ProxyVariables),
    /// The service account of the Pod that LBEX runs in.
    InCluster(InCluster, ProxyVariables),
}

/// Why the way to the API server cannot be taken: what was tried, what is wrong with it, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{tried}: {problem}; {remedy}")]
pub struct AccessError {
    /// What was tried, with the file's, context's and user's names.
    pub tried: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl AccessError {
    fn new(tried: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { tried: tried.into(), problem: problem.into(), remedy: remedy.into() }
    }
}

/// What a way to the API server yields: a client, and how long its credentials last.
#[derive(Clone)]
struct Opened {
    client: ::kube::Client,
    server: Uri,
    renew: Option<Renewal>,
    /// Whether the server's certificate is taken as it is.
    unverified: bool,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy(url) => write!(f, "--proxy {url}"),
            Self::Kubeconfig(path, _) => write!(f, "--kubeconfig {}", path.display()),
            Self::InCluster(..) => {
                f.write_str("the service account of this Pod (neither --proxy nor --kubeconfig is given)")
            }
        }
    }
}

impl Access {
    /// Loads the credentials, anew each time: files are read, credential plugins run.
    async fn open(&self) -> Result<Opened, AccessError> {
        let mut loaded = match self {
            Self::Proxy(url) => Loaded::new(Config::new(url.clone())),
            Self::Kubeconfig(path, proxies) => kubeconfig::load(path, proxies).await?,
            Self::InCluster(pod, proxies) => pod.load(proxies)?,
        };
        let agent = HeaderValue::from_static(concat!("lbex/", env!("CARGO_PKG_VERSION")));
        loaded.config.headers.push((HeaderName::from_static("user-agent"), agent));
        let server = loaded.config.cluster_url.clone();
        let client = client::build(&loaded.config, loaded.via.as_ref()).map_err(|error| {
            let remedy = "check the certificates, keys and names that it gives";
            AccessError::new(self.to_string(), super::explain::chain(&error), remedy)
        })?;
        Ok(Opened { client, server, renew: loaded.renew, unverified: loaded.config.accept_invalid_certs })
    }
}

/// What was loaded: where and as whom to connect, through which proxy, and when to load it again.
#[derive(Debug)]
struct Loaded {
    config: Config,
    via: Option<Uri>,
    renew: Option<Renewal>,
}

impl Loaded {
    fn new(config: Config) -> Self {
        Self { config, via: None, renew: None }
    }
}

/// A bearer token from a file, without the line break that editors leave.
fn token_from(path: &Path) -> Result<SecretString, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    match text.trim() {
        "" => Err(format!("{} is empty", path.display())),
        token => Ok(SecretString::from(token)),
    }
}

/// The certificates in PEM text, as DER.
fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).map(|c| c.map(|c| c.to_vec())).collect();
    match all {
        Ok(all) if all.is_empty() => Err("it holds no certificate in PEM form".to_owned()),
        Ok(all) => Ok(all),
        Err(error) => Err(format!("it holds no certificates in PEM form ({error})")),
    }
}
