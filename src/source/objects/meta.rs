//! `metadata`, as far as LBEX reads it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use lbex_core::annotations::is_read;
use lbex_core::names::{Label, Quoted, ServiceKey};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::FieldError;

/// The namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The most bytes of annotations that Kubernetes takes.
const MOST_ANNOTATION_BYTES: usize = 256 * 1024;

/// `metadata` without what LBEX does not read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Wire")]
pub struct Meta {
    /// Name, namespace, uid and resourceVersion, where the crate `kube` looks for them; its other fields are not filled.
    pub standard: ObjectMeta,
    /// `creationTimestamp`, as written.
    pub creation_timestamp: Option<String>,
    /// Whether there is a `deletionTimestamp`.
    pub deleting: bool,
    /// The labels that LBEX reads.
    pub labels: Labels,
    /// The annotations that LBEX reads.
    pub annotations: Annotations,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    annotations: Annotations,
}

impl From<Wire> for Meta {
    fn from(wire: Wire) -> Self {
        let Wire { name, namespace, uid, resource_version, creation_timestamp, .. } = wire;
        Self {
            standard: ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() },
            creation_timestamp,
            deleting: wire.deletion_timestamp.is_some(),
            labels: wire.labels,
            annotations: wire.annotations,
        }
    }
}

impl Meta {
    /// The name, empty where there is none.
    pub fn name(&self) -> &str {
        self.standard.name.as_deref().unwrap_or_default()
    }

    /// The namespace; [`DEFAULT_NAMESPACE`] where none is given (manifest files).
    pub fn namespace(&self) -> &str {
        self.standard.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
    }

    /// `NAMESPACE/NAME` for messages: short and on one line, whatever stands there.
    pub fn shown(&self) -> String {
        format!("{}/{}", shown_name(self.namespace()), shown_name(self.name()))
    }

    /// The name for messages.
    pub fn shown_name(&self) -> String {
        shown_name(self.name())
    }

    /// Namespace and name as those of a Service.
    pub(super) fn service_key(&self) -> Result<ServiceKey, FieldError> {
        Ok(ServiceKey { namespace: self.namespace_label()?, name: label("metadata.name", self.name())? })
    }

    /// The namespace, checked.
    pub(super) fn namespace_label(&self) -> Result<Label, FieldError> {
        label("metadata.namespace", self.namespace())
    }

    /// `creationTimestamp` in seconds since the epoch.
    pub(super) fn created(&self) -> Result<Option<i64>, FieldError> {
        let Some(text) = self.creation_timestamp.as_deref().filter(|t| !t.is_empty()) else { return Ok(None) };
        let invalid = |_| {
            let allowed = "a time in RFC 3339, such as 2026-01-31T12:00:00Z";
            FieldError::invalid("metadata.creationTimestamp", text, allowed)
        };
        text.parse::<jiff::Timestamp>().map(|t| Some(t.as_second())).map_err(invalid)
    }
}

/// A name for messages: as it is where it is a plain one, else escaped, cut and in quotes.
fn shown_name(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if matches!(name.len(), 1..=253) && name.bytes().all(plain) { name.to_owned() } else { Quoted(name).to_string() }
}

fn label(field: &str, text: &str) -> Result<Label, FieldError> {
    const ALLOWED: &str = "1-63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";
    if text.is_empty() {
        return Err(FieldError::missing(field, ALLOWED));
    }
    Label::new(text).map_err(|_| FieldError::invalid(field, text, ALLOWED))
}

/// The labels that LBEX reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// `kubernetes.io/service-name`: which Service an EndpointSlice belongs to.
    pub service_name: Option<Arc<str>>,
    /// Whether `node.kubernetes.io/exclude-from-external-load-balancers` is there, whatever its value.
    pub excluded: bool,
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct OfLabels;
        impl<'de> Visitor<'de> for OfLabels {
            type Value = Labels;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of labels")
            }
            fn visit_none<E>(self) -> Result<Labels, E> {
                Ok(Labels::default())
            }
            fn visit_unit<E>(self) -> Result<Labels, E> {
                Ok(Labels::default())
            }
            fn visit_some<D: Deserializer<'de>>(self, de: D) -> Result<Labels, D::Error> {
                de.deserialize_map(self)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = Labels::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "kubernetes.io/service-name" => {
                            labels.service_name = map.next_value::<Option<Arc<str>>>()?.filter(|n| !n.is_empty());
                        }
                        "node.kubernetes.io/exclude-from-external-load-balancers" => {
                            labels.excluded = true;
                            map.next_value::<IgnoredAny>()?;
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(labels)
            }
        }
        de.deserialize_option(OfLabels)
    }
}

/// The annotations that LBEX reads (see [`is_read`]), with those remembered whose value stood unquoted in a manifest file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    /// Names and values.
    pub values: BTreeMap<Arc<str>, Arc<str>>,
    /// Names of those whose value was a number or a boolean, in their order.
    pub unquoted: Vec<Arc<str>>,
}

impl Annotations {
    /// What Kubernetes checks of annotations, for those that are kept.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        const NAME: &str = "after the '/' 1-63 of A-Z, a-z, 0-9, with '-', '_' and '.' inside";
        const FIELD: &str = "metadata.annotations";
        for name in self.values.keys() {
            let (_, own) = name.rsplit_once('/').unwrap_or(("", name));
            // Pool names follow the same rule.
            if lbex_core::names::PoolName::new(own).is_err() {
                return Err(FieldError::invalid(FIELD, name, NAME));
            }
        }
        let bytes: usize = self.values.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > MOST_ANNOTATION_BYTES {
            let bytes = format!("{bytes} bytes");
            return Err(FieldError::invalid(FIELD, &bytes, "262144 bytes in all (the limit of Kubernetes)"));
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct OfAnnotations;
        impl<'de> Visitor<'de> for OfAnnotations {
            type Value = Annotations;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of annotations")
            }
            fn visit_none<E>(self) -> Result<Annotations, E> {
                Ok(Annotations::default())
            }
            fn visit_unit<E>(self) -> Result<Annotations, E> {
                Ok(Annotations::default())
            }
            fn visit_some<D: Deserializer<'de>>(self, de: D) -> Result<Annotations, D::Error> {
                de.deserialize_map(self)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
                let mut found = Annotations::default();
                while let Some(name) = map.next_key::<String>()? {
                    if is_read(&name) {
                        let Text { text, unquoted } = map.next_value_seed(OfText)?;
                        let name: Arc<str> = name.into();
                        if unquoted {
                            found.unquoted.push(name.clone());
                        }
                        found.values.insert(name, text);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(found)
            }
        }
        de.deserialize_option(OfAnnotations)
    }
}

/// An annotation's value as text. A deserializer that knows how a number or boolean was written hands its text over as a newtype
/// (`visit_newtype_struct`); others hand over the value, which is then written the usual way. `null` is the empty text, as
/// in Kubernetes.
struct Text {
    text: Arc<str>,
    unquoted: bool,
}

struct OfText;

impl<'de> DeserializeSeed<'de> for OfText {
    type Value = Text;
    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Text, D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OfText {
    type Value = Text;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text in quotes")
    }
    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text { text: text.into(), unquoted: false })
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, de: D) -> Result<Text, D::Error> {
        Ok(Text { text: Arc::<str>::deserialize(de)?, unquoted: true })
    }
    fn visit_bool<E>(self, value: bool) -> Result<Text, E> {
        Ok(Text { text: value.to_string().into(), unquoted: true })
    }
    fn visit_i64<E>(self, value: i64) -> Result<Text, E> {
        Ok(Text { text: value.to_string().into(), unquoted: true })
    }
    fn visit_u64<E>(self, value: u64) -> Result<Text, E> {
        Ok(Text { text: value.to_string().into(), unquoted: true })
    }
    fn visit_f64<E>(self, value: f64) -> Result<Text, E> {
        Ok(Text { text: value.to_string().into(), unquoted: true })
    }
    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text { text: "".into(), unquoted: false })
    }
}
