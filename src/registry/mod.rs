//! Backends by name: what this binary has, and what a third party's adds. The one room that tells them apart: whoever opens a backend,
//! renders for it or plans for it asks what was chosen.

mod linked;
#[cfg(feature = "backend-nginx")]
mod nginx;
mod part;
#[cfg(feature = "plugins")]
mod plugin;
#[cfg(feature = "backend-nginx-plus")]
mod plus;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lbex_core::backend::{Capabilities, ProxyBackend};
use lbex_core::desired::DesiredState;

pub use self::linked::{Given, Linked, LinkedBackend, OpenError};
pub use self::part::Part;
use crate::cli::Failure;
use crate::settings::{BackendSettings, LinkedSettings, NginxSettings, Settings};
use crate::supervisor::KeptSockets;

#[cfg(feature = "plugins")]
const PLUGIN_ABI: Option<(u16, u16)> = Some(crate::plugin::ABI);
#[cfg(not(feature = "plugins"))]
const PLUGIN_ABI: Option<(u16, u16)> = None;

/// The backends that a binary has. The first is what `--backend` is by default.
#[derive(Debug, Clone)]
pub struct Backends {
    all: Vec<BackendSettings>,
    plugins: bool,
}

impl Backends {
    /// Those of this build's Cargo features: `backend-nginx`, `backend-nginx-plus`, and plugins with `plugins`.
    pub fn built_in() -> Self {
        let all = vec![
            #[cfg(feature = "backend-nginx")]
            BackendSettings::Nginx,
            #[cfg(feature = "backend-nginx-plus")]
            BackendSettings::NginxPlus(crate::settings::PlusSettings::default()),
        ];
        Self { all, plugins: cfg!(feature = "plugins") }
    }

    /// None, and no plugins either: for a binary that has nothing but what [`with`](Self::with) adds, whatever its features.
    pub fn none() -> Self {
        Self { all: Vec::new(), plugins: false }
    }

    /// Adds a backend.
    ///
    /// # Panics
    /// If its name is not 1-64 of `a-z`, `0-9` and `-` with none of these in front, or is that of a backend of LBEX or one that is there
    /// already.
    #[must_use]
    pub fn with(mut self, backend: impl LinkedBackend + 'static) -> Self {
        let name = backend.name();
        assert!(
            is_name(name),
            "a backend is called {name:?}; allowed: 1-64 of a-z, 0-9 and '-', not beginning with '-'"
        );
        let taken = self.find(name).is_some() || Part::of_backend(name).is_some();
        assert!(!taken, "two backends are called {name}: call one of them something else");
        self.all.push(BackendSettings::Linked(LinkedSettings { backend: Linked(Arc::new(backend)), config: None }));
        self
    }

    /// The backend called `name`, without anything set for it.
    pub(crate) fn find(&self, name: &str) -> Option<&BackendSettings> {
        self.all.iter().find(|backend| backend.offer().name() == name)
    }

    /// What `--backend` is where nobody says.
    pub(crate) fn first(&self) -> Option<&BackendSettings> {
        self.all.first()
    }

    /// All of them but plugins.
    pub(crate) fn all(&self) -> &[BackendSettings] {
        &self.all
    }

    /// Whether `part` of LBEX is of use with these.
    pub fn has(&self, part: Part) -> bool {
        match part {
            Part::Every => true,
            Part::Nginx | Part::NginxPlus => part.backend().is_some_and(|name| self.find(name).is_some()),
            Part::Plugins => self.plugins,
            Part::Others => self.plugins || self.all.iter().any(|one| matches!(one, BackendSettings::Linked(_))),
        }
    }

    /// The version of the plugin ABI, major and minor; `None`: this binary loads no plugins.
    pub(crate) fn plugin_abi(&self) -> Option<(u16, u16)> {
        PLUGIN_ABI.filter(|_| self.plugins)
    }

    /// What `--backend` may be, in words.
    pub(crate) fn allowed(&self) -> String {
        let names = self.all.iter().map(|backend| backend.offer().name().to_owned());
        let plugins = self
            .plugins
            .then(|| "the path of a plugin with a '/' in it, or a plugin's name: 1-64 of a-z, 0-9 and '-'".to_owned());
        let all: Vec<String> = names.chain(plugins).collect();
        if all.is_empty() { "nothing, since this binary has no backend at all".to_owned() } else { all.join(", ") }
    }
}

/// Whether a backend may be called so.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    matches!(text.len(), 1..=64) && text.bytes().all(plain) && !text.starts_with('-')
}

/// A backend that can be chosen, with what is set for it.
#[async_trait]
pub(crate) trait Offer: Send + Sync {
    /// What `--backend` calls it.
    fn name(&self) -> &'static str;

    /// Its name, and what more `--version` says of it.
    fn with_version(&self) -> String {
        self.name().to_owned()
    }

    /// More about it for `--help`, in some words; may be empty.
    fn about(&self) -> &'static str {
        ""
    }

    /// What every one of its kind can do: for planning where [`capabilities`](Self::capabilities) cannot tell.
    fn at_least(&self) -> Capabilities;

    /// What the one can do that would be used here. Touches nothing that runs.
    async fn capabilities(&self, nginx: &NginxSettings) -> Result<Capabilities, Failure>;

    /// Opens it: finds what it needs, and touches nothing that is running. A [`Failure`] of kind usage (exit code 2) says what is
    /// missing. `kept`: what the supervisor has kept of an earlier LBEX, and is to keep of this one.
    async fn open(&self, settings: &Settings, kept: KeptSockets) -> Result<Arc<dyn ProxyBackend>, Failure>;

    /// Who writes its configuration for `lbex render`. Most have none to show.
    async fn writer(&self, settings: &Settings) -> Result<Writer, Failure> {
        let _ = settings;
        Err(Failure::usage(anyhow::anyhow!(
            "the backend {} shows nobody a configuration: there is nothing to render",
            self.name()
        )))
    }
}

/// Writes what a backend would.
pub(crate) struct Writer {
    /// What to plan for.
    pub(crate) capabilities: Capabilities,
    /// A desired state as files by their names.
    pub(crate) write: Write,
}

/// Writes a desired state, once.
pub(crate) type Write = Box<dyn FnOnce(&DesiredState) -> Result<Files, Failure> + Send>;

/// Files by their names.
pub(crate) type Files = BTreeMap<String, String>;

impl BackendSettings {
    /// What this is.
    pub(crate) fn offer(&self) -> &dyn Offer {
        match self {
            #[cfg(feature = "backend-nginx")]
            Self::Nginx => &nginx::Nginx,
            #[cfg(feature = "backend-nginx-plus")]
            Self::NginxPlus(plus) => plus,
            #[cfg(feature = "plugins")]
            Self::Plugin(plugin) => plugin,
            Self::Linked(linked) => linked,
        }
    }
}
