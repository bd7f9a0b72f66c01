//! Ways to reach an API server: kubeconfig files, ServiceAccounts, `kubectl proxy`, `kubectl`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use super::ApiServer;
use crate::process::Process;
use crate::programs;
use crate::wait::{SOON, eventually};

/// What a ServiceAccount uses to reach the API server.
#[derive(Debug, Clone)]
pub struct Access {
    /// The ServiceAccount's namespace.
    pub namespace: String,
    /// The ServiceAccount's name.
    pub service_account: String,
    /// A bearer token, good for an hour.
    pub token: String,
    /// A kubeconfig file with that token.
    pub kubeconfig: PathBuf,
}

impl ApiServer {
    /// Makes a ServiceAccount, binds it to a ClusterRole, and asks the TokenRequest API for its token.
    pub async fn access(&self, namespace: &str, service_account: &str, cluster_role: &str) -> Result<Access> {
        let client = self.client().await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let account = serde_json::from_value(json!({"metadata": {"name": service_account}}))?;
        accounts.create(&PostParams::default(), &account).await.context("failed to make a ServiceAccount")?;
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": {"name": format!("{namespace}-{service_account}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role},
            "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": service_account}],
        }))?;
        let bindings: Api<ClusterRoleBinding> = Api::all(client);
        bindings.create(&PostParams::default(), &binding).await.context("failed to bind a ClusterRole")?;
        let token = self.token_for(namespace, service_account).await?;
        let kubeconfig = self.kubeconfig_with(&json!({"token": token}))?;
        Ok(Access { namespace: namespace.to_owned(), service_account: service_account.to_owned(), token, kubeconfig })
    }

    /// A new token for a ServiceAccount, good for an hour. It is worthless once the ServiceAccount is deleted.
    pub async fn token_for(&self, namespace: &str, service_account: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let request: TokenRequest =
            serde_json::from_value(json!({"spec": {"audiences": [], "expirationSeconds": 3600}}))?;
        let answer = accounts
            .create_token_request(service_account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("no token for the ServiceAccount {namespace}/{service_account}"))?;
        answer.status.and_then(|status| status.token).context("a TokenRequest was answered without a token")
    }

    /// Waits until the API server has heard that a ServiceAccount may do this, in its own namespace or to what is in none: it learns of
    /// roles and bindings a moment after it has taken them.
    pub async fn wait_may(&self, namespace: &str, service_account: &str, verb: &str, resource: &str) -> Result<()> {
        let user = format!("--as=system:serviceaccount:{namespace}:{service_account}");
        let namespace = format!("--namespace={namespace}");
        eventually(&format!("{service_account} may {verb} {resource}"), SOON, || async {
            self.kubectl(&["auth", "can-i", verb, resource, &user, &namespace], "").await
        })
        .await
        .map(drop)
    }

    /// Makes or changes a ClusterRole. `rules` is the JSON list of its rules.
    pub async fn cluster_role(&self, name: &str, rules: &Value) -> Result<()> {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": rules,
        });
        let api: Api<ClusterRole> = Api::all(self.client().await?);
        let parameters = PatchParams::apply("lbex-test").force();
        api.patch(name, &parameters, &Patch::Apply(&role)).await.context("failed to apply a ClusterRole")?;
        Ok(())
    }

    /// Writes a kubeconfig file for this server with the given `user` entry, for instance
    /// `{"token": ...}`, `{"tokenFile": ...}`, `{"exec": {...}}`.
    pub fn kubeconfig_with(&self, user: &Value) -> Result<PathBuf> {
        let file = tempfile::Builder::new().prefix("kubeconfig-").tempfile_in(self.scratch.path())?;
        let path = file.into_temp_path().keep()?;
        self.write_kubeconfig(&path, user)?;
        Ok(path)
    }

    /// Runs `kubectl` with all rights, `input` on its standard input; returns what it printed. For instance
    /// `kubectl(&["apply", "-f", "-"], text)`.
    ///
    /// Fails with its error output if it fails.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = tokio::process::Command::from(self.kubectl_command()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().context("failed to run kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has no standard input")?;
        tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes())
            .await
            .context("failed to write to kubectl")?;
        drop(stdin);
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!("kubectl {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts `kubectl proxy` with all rights, on a port of its own.
    pub async fn proxy(&self) -> Result<KubectlProxy> {
        let mut command = self.kubectl_command()?;
        command.args(["proxy", "--address=127.0.0.1", "--port=0"]);
        let log =
            tempfile::Builder::new().prefix("proxy-").tempfile_in(self.scratch.path())?.into_temp_path().keep()?;
        let process = Process::start("kubectl proxy", &command, &log)?;
        let address = eventually("kubectl proxy says where it serves", Duration::from_secs(30), || async {
            let text = std::fs::read_to_string(&log)?;
            let address = text.split_once("Starting to serve on ").and_then(|(_, rest)| rest.trim().parse().ok());
            address.with_context(|| format!("its log: {text:?}"))
        });
        Ok(KubectlProxy { address: address.await?, _process: process })
    }

    pub(super) async fn client_of(&self, kubeconfig: &Path) -> Result<kube::Client> {
        let file = Kubeconfig::read_from(kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    pub(super) fn admin_user(&self) -> Value {
        json!({
            "client-certificate-data": ByteString(self.pki.admin_certificate_pem.clone().into_bytes()),
            "client-key-data": ByteString(self.pki.admin_key_pem.clone().into_bytes()),
        })
    }

    pub(super) fn write_kubeconfig(&self, path: &Path, user: &Value) -> Result<()> {
        let authority = ByteString(self.pki.ca_pem.clone().into_bytes());
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url(), "certificate-authority-data": authority}}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(path, format!("{kubeconfig:#}")).with_context(|| format!("failed to write {}", path.display()))
    }

    fn kubectl_command(&self) -> Result<Command> {
        let mut command = Command::new(programs::find("kubectl")?);
        command.arg(format!("--kubeconfig={}", self.kubeconfig.display()));
        Ok(command)
    }
}

/// A running `kubectl proxy`; it ends when this is dropped.
#[derive(Debug)]
pub struct KubectlProxy {
    address: SocketAddr,
    _process: Process,
}

impl KubectlProxy {
    /// Where it listens, plain HTTP: `http://ADDRESS` (or `ADDRESS` alone) is what LBEX's `--proxy` takes.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
