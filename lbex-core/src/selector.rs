//! Which Services this instance serves (contract section 3): small selectors, composed.

use std::fmt;

use crate::annotations;
use crate::model::Service;
use crate::names::{Label, NameError, PoolName};
use crate::rejection::Reason;

/// A selector's answer about a Service that asks for LBEX.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// This instance serves it.
    Selected,
    /// It does not; why.
    Ignored(Reason),
}

/// Decides whether this instance serves a Service that asks for LBEX. Pure.
pub trait ServiceSelector: Send + Sync {
    /// The answer for one Service.
    fn select(&self, service: &Service) -> Selection;
}

/// Selects what all of its parts select; the first that does not gives the reason. Empty: everything.
#[derive(Default)]
pub struct All(pub Vec<Box<dyn ServiceSelector>>);

impl ServiceSelector for All {
    fn select(&self, service: &Service) -> Selection {
        let answers = self.0.iter().map(|part| part.select(service));
        answers.into_iter().find(|a| *a != Selection::Selected).unwrap_or(Selection::Selected)
    }
}

/// `--service-name`: one Service by name, in one namespace or in every one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByName {
    namespace: Option<Label>,
    name: Label,
}

impl ByName {
    /// Parses `NAME` or `NAMESPACE/NAME`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            Some((namespace, name)) => Ok(Self { namespace: Some(Label::new(namespace)?), name: Label::new(name)? }),
            None => Ok(Self { namespace: None, name: Label::new(text)? }),
        }
    }
}

impl fmt::Display for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl ServiceSelector for ByName {
    fn select(&self, service: &Service) -> Selection {
        let in_namespace = self.namespace.as_ref().is_none_or(|n| *n == service.key.namespace);
        if in_namespace && self.name == service.key.name {
            return Selection::Selected;
        }
        Selection::Ignored(Reason::OtherServiceName { wanted: self.to_string() })
    }
}

/// The pool annotation of a Service: absent (or empty), valid, or not.
fn pool(service: &Service) -> Result<Option<PoolName>, Reason> {
    let text = service.annotations.get(annotations::POOL).map_or("", |t| t.trim());
    if text.is_empty() {
        return Ok(None);
    }
    PoolName::new(text).map(Some).map_err(|_| Reason::InvalidPool { value: text.to_owned() })
}

fn decide(service: &Service, instance: &str, served: impl FnOnce(Option<&PoolName>) -> bool) -> Selection {
    match pool(service) {
        Err(reason) => Selection::Ignored(reason),
        Ok(pool) if served(pool.as_ref()) => Selection::Selected,
        Ok(pool) => {
            Selection::Ignored(Reason::OtherPool { pool: pool.map(|p| p.to_string()), instance: instance.to_owned() })
        }
    }
}

/// `--service-pool` without affinity flags: Services of the pool, and those of none.
#[derive(Debug, Clone)]
pub struct InPool(pub Option<PoolName>);

impl ServiceSelector for InPool {
    fn select(&self, service: &Service) -> Selection {
        let instance =
            self.0.as_ref().map_or_else(|| "no --service-pool".to_owned(), |p| format!("--service-pool={p}"));
        decide(service, &instance, |pool| pool.is_none_or(|p| Some(p) == self.0.as_ref()))
    }
}

/// `--strict-affinity`: Services of exactly the pool; without `--service-pool`, those of none.
#[derive(Debug, Clone)]
pub struct Strict(pub Option<PoolName>);

impl ServiceSelector for Strict {
    fn select(&self, service: &Service) -> Selection {
        let flag = "--strict-affinity";
        let instance = self.0.as_ref().map_or_else(|| flag.to_owned(), |p| format!("--service-pool={p} {flag}"));
        decide(service, &instance, |pool| pool == self.0.as_ref())
    }
}

/// `--anti-affinity`: Services whose pool is not the instance's.
#[derive(Debug, Clone)]
pub struct Anti(pub Option<PoolName>);

impl ServiceSelector for Anti {
    fn select(&self, service: &Service) -> Selection {
        let flag = "--anti-affinity";
        let instance = self.0.as_ref().map_or_else(|| flag.to_owned(), |p| format!("--service-pool={p} {flag}"));
        decide(service, &instance, |pool| pool != self.0.as_ref())
    }
}

#[cfg(test)]
mod tests;
