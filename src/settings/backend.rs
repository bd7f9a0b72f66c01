//! `--backend`, and what belongs to plugins and other backends that are not LBEX's own.

use std::path::PathBuf;

use super::lower::Reader;
use super::values::path;
use super::{BackendSettings, LinkedSettings, RawValue, SettingError};
#[cfg(feature = "plugins")]
use super::{PluginLibrary, PluginSettings};
#[cfg(feature = "plugins")]
use crate::plugin::Deadlines;
use crate::registry::{Linked, Part, is_name};

/// Where plugins are looked for without `--plugin-dir`.
const PLUGIN_DIRS: [&str; 2] = ["/usr/local/lib/lbex/plugins", "/usr/lib/lbex/plugins"];

impl Reader<'_> {
    /// `--backend`, with what is only its own.
    pub(super) fn backend(&mut self) -> BackendSettings {
        let backend = match self.given("backend").cloned() {
            Some(value) => self.named(&value),
            None => self.backends.first().cloned().ok_or((None, "")),
        };
        let (value, reason) = match backend {
            Ok(backend) => return self.own(backend),
            Err(refused) => refused,
        };
        self.errors.push(SettingError::NoBackend { value, reason, allowed: self.backends.allowed() });
        BackendSettings::Linked(LinkedSettings { backend: Linked::refused(), config: None })
    }

    /// The backend that is called so.
    fn named(&self, value: &RawValue) -> Result<BackendSettings, (Option<RawValue>, &'static str)> {
        let name = value.text.as_str();
        let found = match (self.backends.find(name), Part::of_backend(name)) {
            (Some(backend), _) => Ok(backend.clone()),
            (None, Some(part)) => Err(part.is_missing()),
            (None, None) if !(name.contains('/') || is_name(name)) => Err(""),
            (None, None) if self.backends.has(Part::Plugins) => plugin(name),
            (None, None) => Err(Part::Plugins.is_missing()),
        };
        found.map_err(|reason| (Some(value.clone()), reason))
    }

    /// What is only this backend's own; what only others have is refused.
    fn own(&mut self, backend: BackendSettings) -> BackendSettings {
        #[cfg(feature = "backend-nginx-plus")]
        if let BackendSettings::NginxPlus(_) = backend {
            self.no_config();
            return BackendSettings::NginxPlus(self.plus());
        }
        if self.backends.has(Part::NginxPlus) {
            self.no_plus();
        }
        match backend {
            #[cfg(feature = "plugins")]
            BackendSettings::Plugin(mut plugin) => {
                if let PluginLibrary::Name(_, dirs) = &mut plugin.library {
                    *dirs = self.plugin_dirs();
                }
                plugin.config = self.maybe("backend-config", path);
                BackendSettings::Plugin(plugin)
            }
            BackendSettings::Linked(linked) => {
                BackendSettings::Linked(LinkedSettings { config: self.maybe("backend-config", path), ..linked })
            }
            #[cfg(feature = "backend-nginx")]
            other => {
                self.no_config();
                other
            }
        }
    }

    /// Refuses `--backend-config` where nobody would read it.
    #[cfg(feature = "backend-nginx")]
    fn no_config(&mut self) {
        if self.backends.has(Part::Others)
            && let Some(value) = self.given("backend-config").cloned()
        {
            self.refuse(super::lower::known("backend-config"), &value, "LBEX's own backends read none".to_owned());
        }
    }

    /// `--plugin-dir`.
    pub(super) fn plugin_dirs(&mut self) -> Vec<PathBuf> {
        let dirs = self.each("plugin-dir", path);
        if dirs.is_empty() { PLUGIN_DIRS.map(PathBuf::from).to_vec() } else { dirs }
    }
}

/// A path has a slash in it, anything else is a plugin's name.
#[cfg(feature = "plugins")]
fn plugin(text: &str) -> Result<BackendSettings, &'static str> {
    let library = if text.contains('/') {
        PluginLibrary::Path(path(text).map_err(|_| "")?)
    } else {
        PluginLibrary::Name(text.to_owned(), Vec::new())
    };
    Ok(BackendSettings::Plugin(PluginSettings { library, deadlines: Deadlines::default(), config: None }))
}

#[cfg(not(feature = "plugins"))]
fn plugin(_: &str) -> Result<BackendSettings, &'static str> {
    Err(Part::Plugins.is_missing())
}
