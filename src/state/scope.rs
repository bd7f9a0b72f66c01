//! Which settings a saved state belongs to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::settings::{Affinity, Settings, SourceSettings};

/// The settings that decide whose Services are served: another source, pool, Service name, namespace or class, and a saved state
/// may hold what this instance must not serve. Names of flags and their values, as text; what is missing is empty.
///
/// Settings that only change how Services are served are not among them: planning heeds those as soon as it can.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(BTreeMap<String, String>);

impl Scope {
    /// Of these settings.
    pub fn new(settings: &Settings) -> Self {
        let selection = &settings.selection;
        let text = |value: Option<String>| value.unwrap_or_default();
        let affinity = match selection.affinity {
            Affinity::InPool => "",
            Affinity::Strict => "strict",
            Affinity::Anti => "anti",
        };
        let source = match &settings.source {
            SourceSettings::Proxy(url) => format!("--proxy {url}"),
            SourceSettings::Kubeconfig(path) => format!("--kubeconfig {}", path.display()),
            SourceSettings::InCluster => "the service account of the Pod".to_owned(),
            SourceSettings::Manifests(path) => format!("--manifests {}", path.display()),
        };
        let all = [
            ("source", source),
            ("namespace", settings.namespaces.join(",")),
            ("service-name", text(selection.service_name.as_ref().map(ToString::to_string))),
            ("service-pool", text(selection.pool.as_ref().map(ToString::to_string))),
            ("affinity", affinity.to_owned()),
            ("load-balancer-class", settings.planning.load_balancer_class.clone()),
        ];
        Self(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The first setting in which `now` differs, in words; `None`: there is none.
    pub fn difference(&self, now: &Self) -> Option<String> {
        let value = |scope: &Self, name: &str| scope.0.get(name).cloned().unwrap_or_default();
        let name = self.0.keys().chain(now.0.keys()).find(|name| value(self, name) != value(now, name))?;
        Some(format!("{} was {:?} and is {:?} now", name.escape_debug(), value(self, name), value(now, name)))
    }
}
