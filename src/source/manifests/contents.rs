//! The objects of one file.

use std::sync::Arc;

use lbex_core::model::{EndpointList, Node as ClusterNode, Service};
use lbex_core::names::Quoted;

use super::kinds::{Kind, Recognized, recognize};
use super::parse::de::{self, FieldProblem};
use super::parse::{self, Document, Node, Position, SyntaxError, Value};
use super::problem::ProblemKind;
use crate::source::objects::{EndpointSliceObject, EndpointsObject, Meta, NodeObject, ObjectError, ServiceObject};

/// How many problems of one file are kept; more are only counted.
const MOST_PROBLEMS: usize = 100;
/// How many objects one file may hold; aliases could make many of few lines.
const MOST_OBJECTS: usize = 1_000_000;

/// One object, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object {
    Service(Arc<Service>),
    Node(ClusterNode),
    Endpoints(EndpointList),
}

/// A problem within a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) at: Position,
    pub(super) kind: ProblemKind,
    pub(super) object: Option<String>,
    pub(super) text: String,
}

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// The objects in their order, with where they stand.
    pub(super) objects: Vec<(Position, Object)>,
    /// The first problems.
    pub(super) problems: Vec<Problem>,
    /// How many more there are.
    pub(super) more_problems: usize,
}

/// What an object of a list inherits from it where it does not say so itself.
#[derive(Clone, Copy, Default)]
struct Inherited<'a> {
    api_version: Option<&'a str>,
    kind: Option<&'a str>,
}

impl Contents {
    /// Reads a file's bytes; an error means that it does not parse and nothing of it counts.
    pub(super) fn parse(bytes: &[u8], named_json: bool) -> Result<Self, SyntaxError> {
        let mut contents = Self::default();
        parse::documents(bytes, named_json, &mut |document| contents.document(&document))?;
        contents.objects.shrink_to_fit();
        Ok(contents)
    }

    fn document(&mut self, document: &Document<'_>) {
        let before = (self.objects.len(), self.problems.len());
        self.object(&document.root, Inherited::default(), 0);
        // Other kinds' repeated keys are nobody's business here.
        if before == (self.objects.len(), self.problems.len()) {
            return;
        }
        for (at, key) in &document.repeated {
            let text = format!("the key {} stands twice in one mapping; the last one counts", Quoted(key));
            self.problem(*at, ProblemKind::Hint, None, text);
        }
    }

    fn problem(&mut self, at: Position, kind: ProblemKind, object: Option<String>, text: String) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(Problem { at, kind, object, text });
        } else {
            self.more_problems += 1;
        }
    }

    fn object(&mut self, node: &Node<'_>, inherited: Inherited<'_>, depth: usize) {
        if !matches!(node.value(), Value::Map(_)) {
            let text = "it is no Kubernetes object but a list or plain text; it is left out".to_owned();
            return self.problem(node.at, ProblemKind::Hint, None, text);
        }
        let field = |name| node.get(name).and_then(Node::text).filter(|text| !text.is_empty());
        let api_version = field("apiVersion").or(inherited.api_version);
        let Some(kind) = field("kind").or(inherited.kind) else {
            let text = "it has no kind, so it is no Kubernetes object; it is left out".to_owned();
            return self.problem(node.at, ProblemKind::Hint, None, text);
        };
        if let (Some(of), Some(items)) = (kind.strip_suffix("List"), node.get("items")) {
            return self.list(items, api_version, of, depth);
        }
        match recognize(api_version, kind) {
            Recognized::Read(kind) => self.read(node, kind),
            Recognized::Mistake(text) => self.problem(node.at, ProblemKind::Hint, Some(shown(kind, node)), text),
            Recognized::Other => {
                tracing::debug!(kind = %Quoted(kind), line = node.at.line, "a manifest of another kind is ignored");
            }
        }
    }

    /// `kind: List`, or that of one kind (`ServiceList`), whose items need not say what they are.
    fn list(&mut self, items: &Node<'_>, api_version: Option<&str>, of: &str, depth: usize) {
        const DEEPEST: usize = 3;
        let Value::List(items) = items.value() else { return };
        if depth >= DEEPEST {
            let text = format!("lists in lists are read to a depth of {DEEPEST}; it is left out");
            let at = items.first().map(|item| item.at).unwrap_or_default();
            return self.problem(at, ProblemKind::Hint, None, text);
        }
        let inherited = match of {
            "" => Inherited::default(),
            kind => Inherited { api_version, kind: Some(kind) },
        };
        for item in items {
            self.object(item, inherited, depth + 1);
        }
    }

    fn read(&mut self, node: &Node<'_>, kind: Kind) {
        if self.objects.len() >= MOST_OBJECTS {
            let text = format!("a file may hold {MOST_OBJECTS} objects; it is left out");
            return self.problem(node.at, ProblemKind::InvalidObject, None, text);
        }
        match checked(node, kind) {
            Ok(Some(object)) => self.objects.push((node.at, object)),
            Ok(None) => {
                let object = shown(kind.name(), node);
                tracing::debug!(%object, line = node.at.line, "an EndpointSlice without Service or addresses is ignored");
            }
            Err(Invalid::Shape(problem)) => {
                let text = format!("{problem}; the object is left out");
                let at = problem.at.unwrap_or(node.at);
                self.problem(at, ProblemKind::InvalidObject, Some(shown(kind.name(), node)), text);
            }
            Err(Invalid::Value(error)) => {
                let at = node.locate(&error.field);
                let object = format!("{} {}", error.kind, error.object);
                self.problem(at, ProblemKind::InvalidObject, Some(object), error.reason());
            }
        }
    }
}

/// Why an object cannot be read.
enum Invalid {
    Shape(FieldProblem),
    Value(ObjectError),
}

impl From<FieldProblem> for Invalid {
    fn from(problem: FieldProblem) -> Self {
        Self::Shape(problem)
    }
}

impl From<ObjectError> for Invalid {
    fn from(error: ObjectError) -> Self {
        Self::Value(error)
    }
}

fn checked(node: &Node<'_>, kind: Kind) -> Result<Option<Object>, Invalid> {
    Ok(match kind {
        Kind::Service => Some(Object::Service(de::from_node::<ServiceObject>(node)?.into_model()?.into())),
        Kind::Node => Some(Object::Node(de::from_node::<NodeObject>(node)?.into_model()?)),
        Kind::EndpointSlice => de::from_node::<EndpointSliceObject>(node)?.into_model()?.map(Object::Endpoints),
        Kind::Endpoints => Some(Object::Endpoints(de::from_node::<EndpointsObject>(node)?.into_model()?)),
    })
}

/// An object for messages, as far as it can be read.
fn shown(kind: &str, node: &Node<'_>) -> String {
    let field = |name| node.get("metadata").and_then(|m| m.get(name)).and_then(Node::text).map(str::to_owned);
    let mut meta = Meta::default();
    meta.standard.name = field("name");
    meta.standard.namespace = field("namespace");
    let plain = kind.len() <= 63 && kind.bytes().all(|b| b.is_ascii_alphanumeric());
    let kind = if plain { kind.to_owned() } else { Quoted(kind).to_string() };
    let name = if kind == "Node" { meta.shown_name() } else { meta.shown() };
    format!("{kind} {name}")
}
