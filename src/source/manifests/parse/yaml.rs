//! YAML documents to trees.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};

use super::scalar as plain;
use super::tree::{self, Document, Node, Position, Value};
use super::{MOST_DEPTH, SyntaxError};

/// How much aliases may stand for in one document, in bytes of text plus [`NODE_WEIGHT`] per value: a small file must not
/// become a large tree ("YAML bomb").
const MOST_ALIASED: usize = 64 << 20;
/// What one value counts.
const NODE_WEIGHT: usize = 16;

pub(super) fn read(text: &str, each: &mut dyn FnMut(Document<'_>)) -> Result<(), SyntaxError> {
    let options = granit_parser::options! {
        flow_nesting_limit: MOST_DEPTH,
        block_nesting_limit: MOST_DEPTH,
    };
    let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder::default();
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let reason = error.to_string();
            // The position that the parser adds to its text is told apart from it.
            let reason = reason.split(" at char ").next().unwrap_or_default().to_owned();
            SyntaxError::new(position(error.marker()), reason)
        })?;
        if let Some(document) = builder.take(event, position(&span.start))? {
            each(document);
        }
    }
    Ok(())
}

fn position(marker: &Marker) -> Position {
    Position::of(marker.line(), marker.col() + 1)
}

/// A list or mapping that is not complete yet.
struct Open<'t> {
    at: Position,
    anchor: usize,
    weight: usize,
    content: Content<'t>,
}

enum Content<'t> {
    List(Vec<Node<'t>>),
    Map(Vec<(Node<'t>, Node<'t>)>, Option<Node<'t>>),
}

/// Builds one document after the other from the parser's events.
#[derive(Default)]
struct Builder<'t> {
    open: Vec<Open<'t>>,
    anchors: HashMap<usize, (Rc<Node<'t>>, usize)>,
    aliased: usize,
    repeated: Vec<(Position, String)>,
    root: Option<Node<'t>>,
}

impl<'t> Builder<'t> {
    /// Takes the next event in; at the end of a document with content returns that.
    fn take(&mut self, event: Event<'t>, at: Position) -> Result<Option<Document<'t>>, SyntaxError> {
        match event {
            Event::DocumentStart(..) => *self = Self::default(),
            Event::DocumentEnd => {
                let repeated = std::mem::take(&mut self.repeated);
                let root =
                    self.root.take().filter(|root| !matches!(root.value(), Value::Plain(text) if plain::is_null(text)));
                return Ok(root.map(|root| Document { root, repeated }));
            }
            Event::Scalar(text, style, anchor, tag) => {
                let weight = NODE_WEIGHT + text.len();
                self.done(Node { at, value: scalar(text, style, tag.as_deref()) }, anchor, weight)?;
            }
            Event::SequenceStart(_, anchor, _) => self.begin(at, anchor, Content::List(Vec::new()))?,
            Event::MappingStart(_, anchor, _) => self.begin(at, anchor, Content::Map(Vec::new(), None))?,
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::Alias(anchor) => self.alias(anchor, at)?,
            _ => {}
        }
        Ok(None)
    }

    fn begin(&mut self, at: Position, anchor: usize, content: Content<'t>) -> Result<(), SyntaxError> {
        if self.open.len() >= MOST_DEPTH {
            return Err(SyntaxError::new(at, format!("nested deeper than {MOST_DEPTH} levels")));
        }
        self.open.push(Open { at, anchor, weight: NODE_WEIGHT, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), SyntaxError> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map(entries, _) => tree::map(merged(entries), &mut self.repeated),
        };
        self.done(Node { at: open.at, value }, open.anchor, open.weight)
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), SyntaxError> {
        let Some((node, weight)) = self.anchors.get(&anchor) else {
            return Err(SyntaxError::new(at, "an alias of something that it is itself a part of"));
        };
        let (node, weight) = (Rc::clone(node), *weight);
        self.aliased = self.aliased.saturating_add(weight);
        if self.aliased > MOST_ALIASED {
            let text = format!("the aliases of this document stand for more than {} MiB", MOST_ALIASED >> 20);
            return Err(SyntaxError::new(at, text));
        }
        self.done(Node { at, value: Value::Shared(node) }, 0, weight)
    }

    /// Puts a complete value where it belongs.
    fn done(&mut self, mut node: Node<'t>, anchor: usize, weight: usize) -> Result<(), SyntaxError> {
        if anchor > 0 {
            let at = node.at;
            let shared = Rc::new(node);
            self.anchors.insert(anchor, (Rc::clone(&shared), weight));
            node = Node { at, value: Value::Shared(shared) };
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.weight = open.weight.saturating_add(weight);
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map(entries, key) => match key.take() {
                Some(key) => entries.push((key, node)),
                None if node.text().is_some() => *key = Some(node),
                None => {
                    return Err(SyntaxError::new(
                        node.at,
                        "a key is a list or a mapping; Kubernetes knows only text keys",
                    ));
                }
            },
        }
        Ok(())
    }
}

fn scalar<'t>(text: Cow<'t, str>, style: ScalarStyle, tag: Option<&Tag>) -> Value<'t> {
    let plain = match tag.and_then(Tag::core_suffix) {
        Some(core) => core != "str",
        None => style == ScalarStyle::Plain,
    };
    if plain { Value::Plain(text) } else { Value::Quoted(text) }
}

/// Resolves merge keys (`<<: *alias`): what the mapping itself has wins, then the earlier of several merged ones.
fn merged<'t>(entries: Vec<(Node<'t>, Node<'t>)>) -> Vec<(Node<'t>, Node<'t>)> {
    let is_merge = |key: &Node<'_>| matches!(key.value(), Value::Plain(text) if text == "<<");
    if !entries.iter().any(|(key, _)| is_merge(key)) {
        return entries;
    }
    let (merges, own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| is_merge(key));
    let mut known: std::collections::HashSet<String> =
        own.iter().filter_map(|(key, _)| key.text().map(str::to_owned)).collect();
    let mut all = own;
    for (_, value) in merges {
        let sources = match value.value() {
            Value::List(items) => items.iter().collect(),
            _ => vec![&value],
        };
        for source in sources {
            let Value::Map(entries) = source.value() else { continue };
            let new = entries.iter().filter(|(key, _)| key.text().is_some_and(|text| known.insert(text.to_owned())));
            all.extend(new.cloned());
        }
    }
    all
}
