//! `--backend`, and what belongs to plugins.

use std::path::PathBuf;

use super::lower::{Reader, known};
use super::values::path;
use super::{BackendSettings, Origin, PluginLibrary, PluginSettings, RawValue};

/// Where plugins are looked for without `--plugin-dir`.
const PLUGIN_DIRS: [&str; 2] = ["/usr/local/lib/lbex/plugins", "/usr/lib/lbex/plugins"];

impl Reader<'_> {
    /// `--backend`, with what is only its own.
    pub(super) fn backend(&mut self) -> BackendSettings {
        let given = self.given("backend").cloned();
        let value = given.unwrap_or_else(|| RawValue::new("nginx", Origin::Default));
        let backend = match value.text.as_str() {
            "nginx" if cfg!(feature = "backend-nginx") => BackendSettings::Nginx,
            #[cfg(feature = "backend-nginx-plus")]
            "nginx-plus" => BackendSettings::NginxPlus(self.plus()),
            #[cfg(not(feature = "backend-nginx-plus"))]
            "nginx-plus" => self.without(&value, "this build of LBEX is without it"),
            "nginx" => self.without(&value, "this build of LBEX is without it"),
            text => match library(text) {
                Some(library) if cfg!(feature = "plugins") => self.plugin(library),
                Some(_) => self.without(&value, "this build of LBEX loads no plugins"),
                None => self.without(&value, ""),
            },
        };
        if value.text != "nginx-plus" {
            self.no_plus();
        }
        if let Some(value) = self.given("backend-config").cloned()
            && !matches!(backend, BackendSettings::Plugin(_))
        {
            self.refuse(known("backend-config"), &value, "only a plugin reads it".to_owned());
        }
        backend
    }

    /// Any backend, after the one that was asked for was refused.
    fn without(&mut self, value: &RawValue, reason: &str) -> BackendSettings {
        self.refuse(known("backend"), value, reason.to_owned());
        BackendSettings::Nginx
    }

    fn plugin(&mut self, library: PluginLibrary) -> BackendSettings {
        let library = match library {
            PluginLibrary::Name(name, _) => PluginLibrary::Name(name, self.plugin_dirs()),
            path @ PluginLibrary::Path(_) => path,
        };
        BackendSettings::Plugin(PluginSettings { library, config: self.maybe("backend-config", path) })
    }

    /// `--plugin-dir`.
    pub(super) fn plugin_dirs(&mut self) -> Vec<PathBuf> {
        let dirs = self.each("plugin-dir", path);
        if dirs.is_empty() { PLUGIN_DIRS.map(PathBuf::from).to_vec() } else { dirs }
    }
}

/// A path has a slash in it, a name is one of a plugin.
fn library(text: &str) -> Option<PluginLibrary> {
    if text.contains('/') {
        return path(text).ok().map(PluginLibrary::Path);
    }
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_name = matches!(text.len(), 1..=64) && text.bytes().all(plain) && !text.starts_with('-');
    is_name.then(|| PluginLibrary::Name(text.to_owned(), Vec::new()))
}
