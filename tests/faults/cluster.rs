//! The cluster that LBEX follows: a real API server, or a scripted one that can lie; a way to it that can be cut; and what was written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lbex_test_harness::Scratch;
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::liar::Liar;
use lbex_test_harness::link::Link;
use lbex_test_harness::objects::{Object, Objects};
use serde_json::Value;
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep, timeout};

/// How long one request to the API server may take before it is made again.
const REQUEST: Duration = Duration::from_secs(2);

/// How long an object may take to be written: an API server that is away comes back before.
const WRITTEN: Duration = Duration::from_secs(90);

/// Who answers LBEX.
pub(crate) enum Api {
    /// etcd and kube-apiserver, in a namespace of this world's own.
    Real { server: Box<RwLock<ApiServer>>, namespace: String },
    /// A stand-in that says what it is told to say.
    Scripted(Liar),
}

/// The cluster, and a model of what was written to it.
pub(crate) struct Cluster {
    pub(crate) api: Api,
    pub(crate) link: Link,
    written: Mutex<BTreeMap<(String, String), Value>>,
    /// The lists are not what was written.
    lying: AtomicBool,
    /// Held by whoever writes, so that the model is in the order of the API server.
    writing: tokio::sync::Mutex<()>,
    scratch: Scratch,
}

impl Cluster {
    /// A scripted API server.
    pub(crate) async fn scripted() -> Result<Self> {
        let liar = Liar::start()?;
        let link = Link::to(liar.address()).await?;
        Ok(Self::new(Api::Scripted(liar), link, Scratch::new("cluster")?))
    }

    /// A namespace of a real one.
    pub(crate) async fn real(server: ApiServer) -> Result<Self> {
        let namespace = server.namespace().await?;
        let link = Link::to(server.address()).await?;
        let scratch = Scratch::new("cluster")?;
        let text = std::fs::read_to_string(server.kubeconfig_admin())?;
        let linked = text.replace(&server.address().to_string(), &link.address().to_string());
        std::fs::write(scratch.join("linked.kubeconfig"), linked)?;
        Ok(Self::new(Api::Real { server: Box::new(RwLock::new(server)), namespace }, link, scratch))
    }

    fn new(api: Api, link: Link, scratch: Scratch) -> Self {
        let (written, lying, writing) = (Mutex::default(), AtomicBool::new(false), tokio::sync::Mutex::default());
        Self { api, link, written, lying, writing, scratch }
    }

    /// How LBEX finds it.
    pub(crate) fn flags(&self) -> Vec<String> {
        match &self.api {
            Api::Scripted(_) => vec![format!("--proxy={}", self.link.address())],
            Api::Real { namespace, .. } => {
                let kubeconfig: PathBuf = self.scratch.join("linked.kubeconfig");
                vec![format!("--kubeconfig={}", kubeconfig.display()), format!("--namespace={namespace}")]
            }
        }
    }

    /// The stand-in; fails where the API server is a real one.
    pub(crate) fn liar(&self) -> Result<&Liar> {
        match &self.api {
            Api::Scripted(liar) => Ok(liar),
            Api::Real { .. } => bail!("this fault needs an API server that lies"),
        }
    }

    /// The real one; fails where it is a stand-in.
    pub(crate) fn server(&self) -> Result<&RwLock<ApiServer>> {
        match &self.api {
            Api::Real { server, .. } => Ok(server),
            Api::Scripted(_) => bail!("this fault needs a real API server"),
        }
    }

    /// A name for what is in no namespace.
    pub(crate) fn name(&self, short: &str) -> String {
        match &self.api {
            Api::Real { namespace, .. } => format!("{short}-{namespace}"),
            Api::Scripted(_) => short.to_owned(),
        }
    }

    /// Everything that was written and not deleted.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.model().values().cloned().collect()
    }

    fn model(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Value>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an object, as soon as the API server takes it.
    pub(crate) async fn put(&self, object: &dyn Object) -> Result<()> {
        let object = object.json();
        let (kind, name) = identity(&object)?;
        let _one_at_a_time = self.writing.lock().await;
        match &self.api {
            Api::Scripted(liar) if self.lying.load(Ordering::SeqCst) => liar.event(plural(&kind)?, "MODIFIED", &object),
            Api::Scripted(liar) => liar.put(plural(&kind)?, &object),
            Api::Real { server, namespace } => {
                written(&format!("{kind} {name}"), || async {
                    Objects::new(server.read().await.client().await?, namespace).put(&object).await
                })
                .await?;
            }
        }
        self.model().insert((kind, name), object);
        Ok(())
    }

    /// Deletes an object, as soon as the API server takes it.
    pub(crate) async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        let key = (kind.to_owned(), name.to_owned());
        let _one_at_a_time = self.writing.lock().await;
        let object = self.model().get(&key).cloned().with_context(|| format!("{kind} {name} was never written"))?;
        match &self.api {
            Api::Scripted(liar) if self.lying.load(Ordering::SeqCst) => liar.event(plural(kind)?, "DELETED", &object),
            Api::Scripted(liar) => liar.remove(plural(kind)?, &object),
            Api::Real { server, namespace } => {
                written(&format!("the deletion of {kind} {name}"), || async {
                    let deleted = Objects::new(server.read().await.client().await?, namespace).delete(kind, name).await;
                    match deleted {
                        // An earlier request was done and not answered.
                        Err(error) if format!("{error:#}").contains("not found") => Ok(()),
                        other => other,
                    }
                })
                .await?;
            }
        }
        self.model().remove(&key);
        Ok(())
    }

    /// What of the lists of Services and endpoints is there from now on (by its index), whatever is written; watches are not told.
    /// Scripted only. Nodes stay: there are so few that a list without them is believed.
    pub(crate) async fn lie(&self, keep: impl Fn(usize) -> bool) -> Result<()> {
        self.set_lists(true, keep).await
    }

    /// Ends that, and has everything listed anew.
    pub(crate) async fn tell_the_truth(&self) -> Result<()> {
        self.set_lists(false, |_| true).await?;
        self.liar()?.expire();
        Ok(())
    }

    async fn set_lists(&self, lying: bool, keep: impl Fn(usize) -> bool) -> Result<()> {
        let liar = self.liar()?;
        let _one_at_a_time = self.writing.lock().await;
        self.lying.store(lying, Ordering::SeqCst);
        let all = self.objects();
        for kind in ["Service", "EndpointSlice"] {
            let of_kind = all.iter().filter(|object| object["kind"] == kind);
            let kept = of_kind.enumerate().filter(|(index, _)| keep(*index)).map(|(_, object)| object as &dyn Object);
            liar.set(plural(kind)?, kept);
        }
        Ok(())
    }
}

fn identity(object: &Value) -> Result<(String, String)> {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned).context("an object without kind or name");
    Ok((text(&object["kind"])?, text(&object["metadata"]["name"])?))
}

fn plural(kind: &str) -> Result<&'static str> {
    Ok(match kind {
        "Service" => "services",
        "Node" => "nodes",
        "EndpointSlice" => "endpointslices",
        other => bail!("no lists of {other}"),
    })
}

/// Tries until the API server takes it.
async fn written<F: Future<Output = Result<()>>>(what: &str, mut request: impl FnMut() -> F) -> Result<()> {
    let end = Instant::now() + WRITTEN;
    loop {
        let error = match timeout(REQUEST, request()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no answer within {REQUEST:?}"),
        };
        if Instant::now() > end {
            bail!("{what} could not be written within {WRITTEN:?}: {error}");
        }
        sleep(Duration::from_millis(50)).await;
    }
}
