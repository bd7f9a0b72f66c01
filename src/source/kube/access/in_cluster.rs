//! The service account of the Pod that LBEX runs in.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ::kube::Config;
use http::Uri;

use super::{AccessError, Loaded, ProxyVariables, Renewal, TOKEN_FILE_AGE, certificates, token_from};

/// Where the kubelet mounts token and CA.
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TRIED: &str = "the service account of this Pod";
const REMEDY: &str =
    "outside a cluster give --kubeconfig PATH or --proxy URL; in a Pod check automountServiceAccountToken";

/// What Kubernetes tells a Pod about its API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InCluster {
    /// `KUBERNETES_SERVICE_HOST`: a name or an address; IPv6 without brackets.
    pub host: Option<String>,
    /// `KUBERNETES_SERVICE_PORT`.
    pub port: Option<String>,
    /// The folder with `token` and `ca.crt`.
    pub mount: PathBuf,
}

impl InCluster {
    /// From the environment and the usual folder.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            host: variable("KUBERNETES_SERVICE_HOST"),
            port: variable("KUBERNETES_SERVICE_PORT"),
            mount: Path::new(MOUNT).to_owned(),
        }
    }

    /// The API server's URL.
    fn server(&self) -> Result<Uri, AccessError> {
        let (Some(host), Some(port)) = (&self.host, &self.port) else {
            let problem =
                "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not both set: LBEX does not run in a Pod";
            return Err(AccessError::new(TRIED, problem, REMEDY));
        };
        let authority = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            _ => format!("{host}:{port}"),
        };
        let valid = port.parse::<u16>().is_ok_and(|p| p > 0);
        let url = valid.then(|| format!("https://{authority}/").parse().ok()).flatten();
        url.ok_or_else(|| {
            let problem = format!("KUBERNETES_SERVICE_HOST {host:?} and KUBERNETES_SERVICE_PORT {port:?} make no URL");
            AccessError::new(TRIED, problem, REMEDY)
        })
    }

    /// Reads token and CA.
    pub(super) fn load(&self, proxies: &ProxyVariables) -> Result<Loaded, AccessError> {
        let error = |problem| AccessError::new(TRIED, problem, REMEDY);
        let server = self.server()?;
        let token = token_from(&self.mount.join("token")).map_err(error)?;
        let ca = self.mount.join("ca.crt");
        let pem = std::fs::read(&ca).map_err(|e| error(format!("cannot read {}: {e}", ca.display())))?;
        let roots = certificates(&pem).map_err(|e| error(format!("{}: {e}", ca.display())))?;
        let via = proxies.for_server(&server).map_err(|e| error(e.to_string()))?;
        let mut config = Config::new(server);
        config.root_cert = Some(roots);
        // Read again by the client every minute.
        config.root_cert_file = Some(ca);
        config.auth_info.token = Some(token);
        Ok(Loaded { config, via, renew: Some(Renewal::after(TOKEN_FILE_AGE)) })
    }
}
