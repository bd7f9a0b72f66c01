//! Kubeconfig files: the current context of one file, named by the operator.

use std::path::Path;

use ::kube::Config;
use ::kube::config::{AuthInfo, Cluster, ExecAuthCluster, Kubeconfig, KubeconfigError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use secrecy::ExposeSecret;

use super::{
    AccessError, Loaded, ProxyVariables, Renewal, TOKEN_FILE_AGE, certificates, environment, exec, token_from,
};

/// Loads the file. Paths in it are relative to its folder.
pub(super) async fn load(path: &Path, proxies: &ProxyVariables) -> Result<Loaded, AccessError> {
    let chosen = choose(path)?;
    let server = chosen.server()?;
    let (roots, roots_file) = chosen.authorities()?;
    let via = chosen.proxy(&server, proxies)?;
    let mut config = Config::new(server);
    config.root_cert = roots;
    config.root_cert_file = roots_file;
    config.accept_invalid_certs = chosen.cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.disable_compression = chosen.cluster.disable_compression.unwrap_or(false);
    config.tls_server_name = chosen.cluster.tls_server_name.clone().filter(|name| !name.is_empty());
    let (auth, renew) = chosen.credentials().await?;
    config.auth_info = auth;
    Ok(Loaded { config, via, renew })
}

/// The parts of a file that its current context chooses.
struct Chosen {
    path: String,
    context: String,
    cluster_name: String,
    cluster: Cluster,
    user_name: Option<String>,
    user: AuthInfo,
}

fn choose(path: &Path) -> Result<Chosen, AccessError> {
    let shown = path.display().to_string();
    let error = |problem: String, remedy: &str| AccessError::new(format!("--kubeconfig {shown}"), problem, remedy);
    let file = Kubeconfig::read_from(path).map_err(|e| match e {
        KubeconfigError::ReadConfig(io, _) => {
            error(format!("cannot read it: {io}"), "give the path of a kubeconfig file that LBEX's user may read")
        }
        KubeconfigError::Parse(parse) => {
            // The place and the first line of the reason: what follows may show the text around it, with secrets.
            let reason = parse.without_snippet().to_string();
            let reason = reason.lines().next().unwrap_or_default().to_owned();
            error(format!("it is not a kubeconfig: {reason}"), "compare `kubectl config view --kubeconfig` of it")
        }
        other => error(other.to_string(), "compare `kubectl config view --kubeconfig` of it"),
    })?;
    let names = |all: &mut dyn Iterator<Item = &String>| match all.map(String::as_str).collect::<Vec<_>>() {
        all if all.is_empty() => "it has none".to_owned(),
        all => format!("it has {}", all.join(", ")),
    };
    let context = file.current_context.clone().filter(|c| !c.is_empty()).ok_or_else(|| {
        let has = names(&mut file.contexts.iter().map(|c| &c.name));
        error(format!("it has no current-context (of contexts, {has})"), "set one: `kubectl config use-context NAME`")
    })?;
    let chosen = file.contexts.iter().find(|c| c.name == context).and_then(|c| c.context.clone());
    let chosen = chosen.ok_or_else(|| {
        let has = names(&mut file.contexts.iter().map(|c| &c.name));
        error(format!("there is no context {context:?}, its current-context ({has})"), "set another current-context")
    })?;
    let cluster = file.clusters.iter().find(|c| c.name == chosen.cluster).and_then(|c| c.cluster.clone());
    let cluster = cluster.ok_or_else(|| {
        let has = names(&mut file.clusters.iter().map(|c| &c.name));
        let problem = format!("there is no cluster {:?}, which its context {context:?} names ({has})", chosen.cluster);
        error(problem, "add that cluster, or set another current-context")
    })?;
    let user_name = chosen.user.filter(|name| !name.is_empty());
    let user = match &user_name {
        None => AuthInfo::default(),
        Some(name) => file
            .auth_infos
            .iter()
            .find(|u| &u.name == name)
            .map(|u| u.auth_info.clone().unwrap_or_default())
            .ok_or_else(|| {
                let has = names(&mut file.auth_infos.iter().map(|u| &u.name));
                let problem = format!("there is no user {name:?}, which its context {context:?} names ({has})");
                error(problem, "add that user, or set another current-context")
            })?,
    };
    Ok(Chosen { path: shown, context, cluster_name: chosen.cluster, cluster, user_name, user })
}

/// What base64 text in a kubeconfig, or else the file that it names, holds.
fn data_or_file(data: Option<&str>, file: Option<&str>) -> Result<Option<Vec<u8>>, String> {
    match (data.filter(|d| !d.is_empty()), file.filter(|f| !f.is_empty())) {
        (Some(data), _) => {
            let clean: String = data.split_whitespace().collect();
            STANDARD.decode(clean).map(Some).map_err(|e| format!("it is not base64 ({e})"))
        }
        (None, Some(file)) => std::fs::read(file).map(Some).map_err(|e| format!("cannot read {file}: {e}")),
        (None, None) => Ok(None),
    }
}

type Authorities = (Option<Vec<Vec<u8>>>, Option<std::path::PathBuf>);

impl Chosen {
    fn of_cluster(&self, problem: impl Into<String>, remedy: &str) -> AccessError {
        let Self { path, context, cluster_name, .. } = self;
        AccessError::new(format!("--kubeconfig {path}, context {context:?}, cluster {cluster_name:?}"), problem, remedy)
    }

    fn of_user(&self, problem: impl Into<String>, remedy: impl Into<String>) -> AccessError {
        let Self { path, context, user_name, .. } = self;
        let user = user_name.as_deref().unwrap_or_default();
        AccessError::new(format!("--kubeconfig {path}, context {context:?}, user {user:?}"), problem, remedy)
    }

    /// The API server's URL. Without a scheme it is taken as `kubectl` takes it: `https` where anything about TLS is given.
    fn server(&self) -> Result<Uri, AccessError> {
        let remedy = "give its `server` as https://HOST:PORT";
        let Some(text) = self.cluster.server.as_deref().filter(|s| !s.is_empty()) else {
            return Err(self.of_cluster("it has no server", remedy));
        };
        let given = |t: &Option<String>| t.as_ref().is_some_and(|t| !t.is_empty());
        let tls = given(&self.cluster.certificate_authority)
            || given(&self.cluster.certificate_authority_data)
            || self.cluster.insecure_skip_tls_verify == Some(true)
            || given(&self.user.client_certificate)
            || given(&self.user.client_certificate_data);
        let scheme = if tls { "https" } else { "http" };
        let url = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") };
        let url: Uri =
            url.parse().map_err(|e| self.of_cluster(format!("its server {text:?} is no URL ({e})"), remedy))?;
        let host = url.host().is_some_and(|host| !host.is_empty());
        if !host || !matches!(url.scheme_str(), Some("http" | "https")) {
            return Err(self.of_cluster(format!("its server {text:?} is no URL of http or https"), remedy));
        }
        Ok(url)
    }

    fn authorities(&self) -> Result<Authorities, AccessError> {
        let cluster = &self.cluster;
        let (data, file) = (cluster.certificate_authority_data.as_deref(), cluster.certificate_authority.as_deref());
        let name =
            if data.is_some_and(|d| !d.is_empty()) { "certificate-authority-data" } else { "certificate-authority" };
        let error = |e| self.of_cluster(format!("its {name}: {e}"), "give the cluster's CA certificate in PEM form");
        let Some(pem) = data_or_file(data, file).map_err(error)? else { return Ok((None, None)) };
        if cluster.insecure_skip_tls_verify == Some(true) {
            let problem = "it has both a certificate authority and insecure-skip-tls-verify";
            return Err(self.of_cluster(problem, "remove one of them (`kubectl` refuses both together, too)"));
        }
        let roots = certificates(&pem).map_err(error)?;
        let watched = (name == "certificate-authority").then(|| file.map(Into::into)).flatten();
        Ok((Some(roots), watched))
    }

    fn proxy(&self, server: &Uri, variables: &ProxyVariables) -> Result<Option<Uri>, AccessError> {
        let error = |e: environment::ProxyError| self.of_cluster(e.to_string(), "correct it or leave it out");
        match self.cluster.proxy_url.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => environment::parse(url, "proxy-url").map(Some).map_err(error),
            None => variables.for_server(server).map_err(error),
        }
    }

    /// What to show the API server, and when to load it again.
    async fn credentials(&self) -> Result<(AuthInfo, Option<Renewal>), AccessError> {
        if let Some(provider) = &self.user.auth_provider {
            let remedy = match provider.name.as_str() {
                "gcp" => {
                    "use the credential plugin gke-gcloud-auth-plugin (`exec`), as `gcloud container clusters get-credentials` writes it"
                }
                "azure" => "use the credential plugin kubelogin (`exec`): `kubelogin convert-kubeconfig`",
                "oidc" => {
                    "use a credential plugin (`exec`) such as kubelogin (`kubectl oidc-login`), which renews its tokens"
                }
                _ => "use a credential plugin (`exec`), a token or a client certificate",
            };
            let problem = format!("its auth-provider {:?} is a legacy method that LBEX does not have", provider.name);
            return Err(self.of_user(problem, remedy));
        }
        let mut auth = self.user.clone();
        self.client_certificate()?;
        // As in kubectl, the file goes before the text beside it.
        if let Some(file) = auth.token_file.take().filter(|f| !f.is_empty()) {
            let token = token_from(Path::new(&file));
            let token =
                token.map_err(|e| self.of_user(format!("its tokenFile: {e}"), "give a file that holds a token"))?;
            auth.token = Some(token);
            return Ok((auth, Some(Renewal::after(TOKEN_FILE_AGE))));
        }
        let has_other = auth.token.is_some() || (auth.username.is_some() && auth.password.is_some());
        let plugin = auth.exec.take();
        let renew = match plugin {
            Some(plugin) if !has_other => {
                let cluster = plugin.provide_cluster_info.then(|| ExecAuthCluster::try_from(&self.cluster)).transpose();
                let cluster =
                    cluster.map_err(|e| self.of_cluster(e.to_string(), "correct its certificate authority"))?;
                let run = exec::run(&plugin, cluster, &mut auth).await;
                run.map_err(|e| self.of_user(e.problem, e.remedy))?
            }
            _ => None,
        };
        Ok((auth, renew))
    }

    /// Certificate and key must both be there and readable.
    fn client_certificate(&self) -> Result<(), AccessError> {
        let user = &self.user;
        let remedy = "give client-certificate and client-key, or both with -data, in PEM form";
        let error = |name: &str, e: String| self.of_user(format!("its {name}: {e}"), remedy);
        let certificate = data_or_file(user.client_certificate_data.as_deref(), user.client_certificate.as_deref());
        let certificate = certificate.map_err(|e| error("client-certificate", e))?;
        let key = user.client_key_data.as_ref().map(ExposeSecret::expose_secret);
        let key = data_or_file(key, user.client_key.as_deref()).map_err(|e| error("client-key", e))?;
        match (certificate, key) {
            (None, None) => Ok(()),
            (Some(_), None) => Err(self.of_user("it has a client-certificate, but no client-key", remedy)),
            (None, Some(_)) => Err(self.of_user("it has a client-key, but no client-certificate", remedy)),
            (Some(certificate), Some(_)) => {
                certificates(&certificate).map(drop).map_err(|e| error("client-certificate", e))
            }
        }
    }
}
