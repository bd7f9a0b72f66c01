//! Backends that somebody links into a binary of their own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lbex_core::backend::{Capabilities, ProxyBackend};

use super::Offer;
use crate::cli::Failure;
use crate::prefix::Prefix;
use crate::settings::{LinkedSettings, NginxSettings, Settings};
use crate::supervisor::KeptSockets;

/// Why a [`LinkedBackend`] cannot be opened: any error, or a text. It is shown in one line, and LBEX ends with exit code 2.
pub type OpenError = Box<dyn std::error::Error + Send + Sync>;

/// A backend that somebody links into a binary of their own, for [`Backends::with`](super::Backends::with).
#[async_trait]
pub trait LinkedBackend: Send + Sync {
    /// What `--backend` calls it: 1-64 of `a-z`, `0-9` and `-`, not beginning with `-`.
    fn name(&self) -> &'static str;

    /// More about it for `--help`, in some words; may be empty, as it is by default.
    fn about(&self) -> &'static str {
        ""
    }

    /// What it can do, as far as it knows before it is opened: for `lbex backends` and `lbex validate`. Touches nothing.
    fn capabilities(&self) -> Capabilities;

    /// Opens it: finds what it needs, and touches nothing that is running. Once in the life of the process.
    async fn open(&self, given: Given) -> Result<Arc<dyn ProxyBackend>, OpenError>;
}

/// What a [`LinkedBackend`] is given when it is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Given {
    /// A folder of its own, which exists and nobody else can read: `PREFIX/backends/NAME`. No other LBEX has it while this one runs.
    pub folder: PathBuf,
    /// `--backend-config`: an absolute path; nobody has looked at the file yet.
    pub config: Option<PathBuf>,
    /// `--worker-shutdown-timeout`: how long connections may go on that a change of the configuration leaves behind. `None`: for ever.
    pub shutdown_timeout: Option<Duration>,
}

/// A [`LinkedBackend`] among the settings.
#[derive(Clone)]
pub struct Linked(pub(super) Arc<dyn LinkedBackend>);

impl fmt::Debug for Linked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Linked").field(&self.0.name()).finish()
    }
}

/// Names are unique.
impl PartialEq for Linked {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for Linked {}

impl Linked {
    /// Stands in for a backend while errors are gathered: no settings with it are ever given out.
    pub(crate) fn refused() -> Self {
        Self(Arc::new(Refused))
    }
}

#[async_trait]
impl Offer for LinkedSettings {
    fn name(&self) -> &'static str {
        self.backend.0.name()
    }

    fn about(&self) -> &'static str {
        self.backend.0.about()
    }

    fn at_least(&self) -> Capabilities {
        self.backend.0.capabilities()
    }

    async fn capabilities(&self, _: &NginxSettings) -> Result<Capabilities, Failure> {
        Ok(self.at_least())
    }

    async fn open(&self, settings: &Settings, _: KeptSockets) -> Result<Arc<dyn ProxyBackend>, Failure> {
        let given = Given {
            folder: folder(&settings.nginx.prefix, self.name()).map_err(Failure::usage)?,
            config: self.config.clone(),
            shutdown_timeout: settings.nginx.worker_shutdown_timeout,
        };
        let opened = self.backend.0.open(given).await;
        opened.map_err(|error| {
            let error = anyhow::Error::from_boxed(error);
            Failure::usage(error.context(format!("failed to open the backend {}", self.name())))
        })
    }
}

/// Locks the prefix as long as the process lives, and makes the folder in it.
fn folder(prefix: &Path, name: &str) -> Result<PathBuf, crate::prefix::PrefixError> {
    let prefix = Prefix::open(prefix)?;
    let folder = prefix.folder("backends", name)?;
    prefix.keep();
    Ok(folder)
}

struct Refused;

#[async_trait]
impl LinkedBackend for Refused {
    fn name(&self) -> &'static str {
        "none"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn open(&self, _: Given) -> Result<Arc<dyn ProxyBackend>, OpenError> {
        Err("no backend was chosen".into())
    }
}
