//! What is wrong with one object.

use std::fmt;

use lbex_core::names::Quoted;

/// An object that is not valid. Its text is one short line, whatever the object holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ObjectError {
    /// `Service`, `Node`, `EndpointSlice` or `Endpoints`.
    pub kind: &'static str,
    /// `NAMESPACE/NAME` (a Node: its name), cut and escaped.
    pub object: String,
    /// The field, as a path: `spec.ports[1].nodePort`.
    pub field: String,
    /// What stands there, cut and escaped; `None`: nothing.
    pub value: Option<String>,
    /// What may stand there.
    pub allowed: &'static str,
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.kind, self.object, self.reason())
    }
}

impl ObjectError {
    /// The text without kind and name: field, value, what is allowed and what happens instead.
    pub fn reason(&self) -> String {
        let found = match &self.value {
            Some(value) => format!("{value} is not valid"),
            None => "is missing".to_owned(),
        };
        format!("{} {found}; allowed: {}; the object is left out", self.field, self.allowed)
    }
}

/// A field that is not valid, before it is known whose it is.
#[derive(Debug)]
pub(super) struct FieldError {
    field: String,
    value: Option<String>,
    allowed: &'static str,
}

impl FieldError {
    /// `value` is not one of what is `allowed` in `field`.
    pub(super) fn invalid(field: impl Into<String>, value: &str, allowed: &'static str) -> Self {
        Self { field: field.into(), value: Some(Quoted(value).to_string()), allowed }
    }

    /// The same for a number, which needs no quotes.
    pub(super) fn number(field: impl Into<String>, value: i64, allowed: &'static str) -> Self {
        Self { field: field.into(), value: Some(value.to_string()), allowed }
    }

    /// `field` is needed.
    pub(super) fn missing(field: impl Into<String>, allowed: &'static str) -> Self {
        Self { field: field.into(), value: None, allowed }
    }

    /// Puts the path of the surrounding field in front.
    pub(super) fn within(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }

    /// Says whose field it is.
    pub(super) fn of(self, kind: &'static str, object: &str) -> ObjectError {
        let Self { field, value, allowed } = self;
        ObjectError { kind, object: object.to_owned(), field, value, allowed }
    }
}
