//! What an API server is started with.

use anyhow::Result;

use super::ApiServer;

/// How an [`ApiServer`] of a test's own is started. Made by [`ApiServer::builder`].
#[derive(Debug, Clone, Default)]
pub struct Builder {
    pub(super) flags: Vec<String>,
    pub(super) controllers: Option<String>,
    pub(super) scheduler: bool,
    pub(super) kwok: Option<String>,
}

impl Builder {
    /// Runs the controller manager with every controller that is on by default: it makes Pods of Deployments,
    /// EndpointSlices of Services with selectors, and mirrors Endpoints to EndpointSlices.
    ///
    /// Nodes that nobody keeps alive (no kubelet, no kwok) become NotReady after 40 s.
    #[must_use]
    pub fn controller_manager(self) -> Self {
        self.controllers("*")
    }

    /// Runs the controller manager with these controllers only (the value of its `--controllers`), for
    /// instance `endpointslice-controller,endpointslice-mirroring-controller`.
    #[must_use]
    pub fn controllers(mut self, controllers: &str) -> Self {
        self.controllers = Some(controllers.to_owned());
        self
    }

    /// Runs the scheduler, which gives Pods a Node.
    #[must_use]
    pub fn scheduler(mut self) -> Self {
        self.scheduler = true;
        self
    }

    /// Runs kwok, which keeps every Node of the cluster alive (one without `allocatable` gets plenty) and makes
    /// the Pods on them ready at once. Pods get addresses of `pod_cidr`, for instance that of a
    /// [`Netns`](crate::netns::Netns); a deleted Pod is gone after 2 s.
    #[must_use]
    pub fn kwok(mut self, pod_cidr: &str) -> Self {
        self.kwok = Some(pod_cidr.to_owned());
        self
    }

    /// Turns the watch cache off: watches are then served from etcd, and one that starts at a version
    /// before [`ApiServer::compact`] is answered with 410 Gone.
    #[must_use]
    pub fn without_watch_cache(self) -> Self {
        self.flag("--watch-cache=false")
    }

    /// Adds a flag for `kube-apiserver`. It wins over the harness's own of the same name.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Starts it, and waits until it is ready.
    ///
    /// Fails with the end of the log of what did not start.
    pub async fn start(self) -> Result<ApiServer> {
        ApiServer::start_with(self).await
    }
}
