//! Which document is which: each has the member `schema`, and a reader refuses any other than the one it expects.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A document that crosses the border.
pub trait Document: Serialize + DeserializeOwned {
    /// Its schema id: a name, a slash and a number. The number changes with the ABI's major version only; until then members are added
    /// and none is removed or gets another meaning.
    const SCHEMA: &'static str;
}

/// The member `schema` of the document `D`.
pub struct SchemaId<D>(PhantomData<fn() -> D>);

impl<D> SchemaId<D> {
    /// The member.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<D> Default for SchemaId<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<D> Clone for SchemaId<D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D> Copy for SchemaId<D> {}

impl<D> PartialEq for SchemaId<D> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<D> Eq for SchemaId<D> {}

impl<D: Document> fmt::Debug for SchemaId<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(D::SCHEMA)
    }
}

impl<D: Document> Serialize for SchemaId<D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(D::SCHEMA)
    }
}

impl<'de, D: Document> Deserialize<'de> for SchemaId<D> {
    fn deserialize<S: Deserializer<'de>>(deserializer: S) -> Result<Self, S::Error> {
        struct Expected<D>(PhantomData<D>);
        impl<D: Document> Visitor<'_> for Expected<D> {
            type Value = SchemaId<D>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "the schema id {:?}", D::SCHEMA)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                if text == D::SCHEMA {
                    return Ok(SchemaId::new());
                }
                let found: String = text.chars().take(80).collect();
                Err(E::custom(format_args!("the document has the schema {found:?}, and {:?} is expected", D::SCHEMA)))
            }
        }
        deserializer.deserialize_str(Expected(PhantomData))
    }
}

#[cfg(feature = "schemas")]
impl<D: Document> schemars::JsonSchema for SchemaId<D> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("SchemaId of {}", D::SCHEMA).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "const": D::SCHEMA })
    }
}

/// Why bytes are not the document that is expected.
#[derive(Debug, thiserror::Error)]
#[error("not a document {schema}: {why}")]
pub struct DocumentError {
    schema: &'static str,
    why: String,
}

/// How much of an error is shown, in characters: it quotes what the other side wrote.
const LONGEST_ERROR: usize = 500;

impl DocumentError {
    fn new<D: Document>(error: &serde_json::Error) -> Self {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        Self { schema: D::SCHEMA, why: error.to_string().chars().take(LONGEST_ERROR).map(plain).collect() }
    }
}

/// Reads a document. Members that this version does not know are ignored; one that stands twice is an error.
pub fn read<D: Document>(bytes: &[u8]) -> Result<D, DocumentError> {
    serde_json::from_slice(bytes).map_err(|error| DocumentError::new::<D>(&error))
}

/// Writes a document.
pub fn write<D: Document>(document: &D) -> Result<Vec<u8>, DocumentError> {
    serde_json::to_vec(document).map_err(|error| DocumentError::new::<D>(&error))
}

/// A duration as a whole number of milliseconds.
pub(crate) mod millis {
    use super::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// The same, where it may be absent.
pub(crate) mod maybe_millis {
    use super::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    #[allow(clippy::ref_option)]
    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::millis::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

/// Lists of words: those that this version does not know are left out, so that a later one may have more.
pub(crate) fn known_words<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let words = Vec::<String>::deserialize(deserializer).map_err(D::Error::custom)?;
    let known = |word: String| serde_json::from_value(serde_json::Value::String(word)).ok();
    Ok(words.into_iter().filter_map(known).collect())
}
