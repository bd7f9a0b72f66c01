//! Deserializes an object from its part of a tree, with the path and position of what does not fit.
//!
//! Text fields take any scalar as it is written: `name: 80` is the name "80" (an API server would want quotes). Numbers must
//! be unquoted decimal ones, booleans also `yes` and `on`, as in Kubernetes. Where a visitor asks for whatever there is, a number
//! or boolean without quotes comes as a newtype around its text.

use std::fmt;

use lbex_core::names::Quoted;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::scalar;
use super::tree::{Node, Position, Value};

/// Deserializes `T` from `node`.
pub(in super::super) fn from_node<'a, T: serde::Deserialize<'a>>(node: &'a Node<'_>) -> Result<T, FieldProblem> {
    T::deserialize(De(node)).map_err(|problem| problem.or_at(node.at))
}

/// A value of the wrong shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct FieldProblem {
    /// Where it stands.
    pub at: Option<Position>,
    /// The field, as a path; empty: the object itself.
    pub field: String,
    /// What is wrong, one short line.
    pub text: String,
}

impl FieldProblem {
    fn or_at(mut self, at: Position) -> Self {
        self.at.get_or_insert(at);
        self
    }

    fn within(mut self, step: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => step.to_owned(),
            inner if inner.starts_with('[') => format!("{step}{inner}"),
            inner => format!("{step}.{inner}"),
        };
        self
    }
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.field, self.text) }
    }
}

impl std::error::Error for FieldProblem {}

impl de::Error for FieldProblem {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self { at: None, field: String::new(), text: super::short_line(&text.to_string()) }
    }
}

/// A node as something to deserialize from.
struct De<'a, 't>(&'a Node<'t>);

impl De<'_, '_> {
    fn problem(&self, wanted: &str) -> FieldProblem {
        let found = match self.0.value() {
            Value::Quoted(text) => format!("the text {}", Quoted(text)),
            Value::Plain(text) if scalar::is_null(text) => "empty".to_owned(),
            Value::Plain(text) => Quoted(text).to_string(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) | Value::Shared(_) => "a mapping".to_owned(),
        };
        FieldProblem { at: Some(self.0.at), field: String::new(), text: format!("is {found}; {wanted} is needed") }
    }

    fn plain(&self) -> Option<&str> {
        match self.0.value() {
            Value::Plain(text) => Some(text),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        self.plain().is_some_and(scalar::is_null)
    }
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldProblem> {
            let number = self.plain().and_then(scalar::integer);
            visitor.visit_i64(number.ok_or_else(|| self.problem("a whole number (without quotes)"))?)
        }
    )*};
}

impl<'de> Deserializer<'de> for De<'de, '_> {
    type Error = FieldProblem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldProblem> {
        match self.0.value() {
            Value::Quoted(text) => visitor.visit_str(text),
            Value::Plain(text) if scalar::is_null(text) => visitor.visit_unit(),
            Value::Plain(text) if scalar::is_text(text) => visitor.visit_str(text),
            Value::Plain(text) => visitor.visit_newtype_struct(StrDeserializer::new(text)),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) | Value::Shared(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldProblem> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldProblem> {
        let boolean = self.plain().and_then(scalar::boolean);
        visitor.visit_bool(boolean.ok_or_else(|| self.problem("true or false (without quotes)"))?)
    }

    integers! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldProblem> {
        match self.0.text().filter(|_| !self.is_null()) {
            Some(text) => visitor.visit_str(text),
            None => Err(self.problem("text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldProblem> {
        self.deserialize_str(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, FieldProblem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldProblem> {
        match self.0.value() {
            Value::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            _ => Err(self.problem("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldProblem> {
        match self.0.value() {
            Value::Map(entries) => visitor.visit_map(Entries { entries, next: 0 }),
            _ => Err(self.problem("a mapping")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldProblem> {
        self.deserialize_map(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldProblem> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

struct Items<'a, 't> {
    items: &'a [Node<'t>],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = FieldProblem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, FieldProblem> {
        let Some(node) = self.items.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        let within = |problem: FieldProblem| problem.or_at(node.at).within(&format!("[{index}]"));
        seed.deserialize(De(node)).map(Some).map_err(within)
    }
}

struct Entries<'a, 't> {
    entries: &'a [(Node<'t>, Node<'t>)],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'de, '_> {
    type Error = FieldProblem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, FieldProblem> {
        let Some((key, _)) = self.entries.get(self.next) else { return Ok(None) };
        let text: StrDeserializer<'_, FieldProblem> = StrDeserializer::new(key.text().unwrap_or_default());
        seed.deserialize(text).map(Some).map_err(|problem| problem.or_at(key.at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, FieldProblem> {
        let Some((key, value)) = self.entries.get(self.next) else {
            return Err(de::Error::custom("a value is missing"));
        };
        self.next += 1;
        let within = |problem: FieldProblem| problem.or_at(value.at).within(&step(key.text().unwrap_or_default()));
        seed.deserialize(De(value)).map_err(within)
    }
}

/// A key as part of a path: short and on one line, whatever it is.
fn step(key: &str) -> String {
    let plain = key.len() <= 100 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    if plain { key.to_owned() } else { Quoted(key).to_string() }
}
