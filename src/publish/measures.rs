//! What a plugin measures of its own proxy: a family that is there only where a plugin measures something.

use std::collections::BTreeMap;
use std::fmt::{Error, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Measures by name.
#[derive(Debug)]
pub(super) struct Measures {
    registry: Registry,
    values: Family<[(&'static str, String); 1], Gauge<f64, AtomicU64>>,
    any: AtomicBool,
}

impl Default for Measures {
    fn default() -> Self {
        let (mut registry, values) = (Registry::default(), Family::default());
        let help = "What the backend's plugin measures of its proxy, by the plugin's own names";
        registry.register("lbex_plugin_measure", help, values.clone());
        Self { registry, values, any: AtomicBool::new(false) }
    }
}

impl Measures {
    /// What was seen last. A measure that is no longer there is gone.
    pub(super) fn set(&self, measures: &BTreeMap<String, f64>) {
        let any = !measures.is_empty();
        if self.any.swap(any, Ordering::Relaxed) || any {
            self.values.clear();
        }
        for (name, value) in measures {
            self.values.get_or_create(&[("name", name.clone())]).set(*value);
        }
    }

    /// Writes them, without the end.
    pub(super) fn encode(&self, text: &mut impl Write) -> Result<(), Error> {
        if self.any.load(Ordering::Relaxed) { encode_registry(text, &self.registry) } else { Ok(()) }
    }
}
