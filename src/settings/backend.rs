//! `--backend`, and what belongs to plugins.

use std::path::PathBuf;

use super::error::SettingError;
use super::lower::{Reader, known};
use super::values::path;
use super::{BackendSettings, Origin, PluginLibrary, PluginSettings, RawValue};

/// Where plugins are looked for without `--plugin-dir`.
const PLUGIN_DIRS: [&str; 2] = ["/usr/local/lib/lbex/plugins", "/usr/lib/lbex/plugins"];

impl Reader<'_> {
    /// `--backend`, with what is only its own.
    pub(super) fn backend(&mut self) -> BackendSettings {
        let setting = known("backend");
        let given = self.given("backend").cloned();
        let value = given.unwrap_or_else(|| RawValue::new("nginx", Origin::Default));
        match value.text.as_str() {
            "nginx" if cfg!(feature = "backend-nginx") => {}
            "nginx" => self.refuse(setting, &value, "this build of LBEX is without it".to_owned()),
            "nginx-plus" => self.errors.push(SettingError::NotYet { setting, value }),
            text => match library(text) {
                Some(library) if cfg!(feature = "plugins") => return self.plugin(library),
                Some(_) => self.refuse(setting, &value, "this build of LBEX loads no plugins".to_owned()),
                None => self.refuse(setting, &value, String::new()),
            },
        }
        if let Some(value) = self.given("backend-config").cloned() {
            self.refuse(known("backend-config"), &value, "only a plugin reads it".to_owned());
        }
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
