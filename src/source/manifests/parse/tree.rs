//! A document as a tree that knows where everything stands.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

/// A line and a column, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(in super::super) struct Position {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl Position {
    /// The position of what follows `text`.
    pub(super) fn after(text: &str) -> Self {
        let line = text.rsplit('\n').next().unwrap_or_default();
        Self::of(text.bytes().filter(|&b| b == b'\n').count() + 1, line.chars().count() + 1)
    }

    /// Numbers beyond 4 billion are cut: files are far smaller.
    pub(super) fn of(line: usize, column: usize) -> Self {
        let cut = |n| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: cut(line), column: cut(column) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One value, and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Node<'t> {
    /// Where it begins.
    pub at: Position,
    /// What it is.
    pub value: Value<'t>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Value<'t> {
    /// Text that was in quotes (or a block, or tagged `!!str`): text and nothing else.
    Quoted(Cow<'t, str>),
    /// Text that stood without quotes, as written: a number, a boolean, `null`, or text.
    Plain(Cow<'t, str>),
    /// A list.
    List(Vec<Node<'t>>),
    /// A mapping, in its order, each key once.
    Map(Vec<(Node<'t>, Node<'t>)>),
    /// Something with an anchor, or an alias of it.
    Shared(Rc<Node<'t>>),
}

impl<'t> Node<'t> {
    /// The value, aliases followed.
    pub(in super::super) fn value(&self) -> &Value<'t> {
        let mut value = &self.value;
        while let Value::Shared(node) = value {
            value = &node.value;
        }
        value
    }

    /// The text of a scalar.
    pub(in super::super) fn text(&self) -> Option<&str> {
        match self.value() {
            Value::Quoted(text) | Value::Plain(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a key of a mapping.
    pub(in super::super) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = self.value() else { return None };
        entries.iter().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value)
    }

    /// Where the field of a path such as `spec.ports[1].port` stands; where it is missing, the nearest thing around it.
    pub(in super::super) fn locate(&self, path: &str) -> Position {
        let mut node = self;
        let mut rest = path;
        while !rest.is_empty() {
            let (step, after) = if let Some(inner) = rest.strip_prefix('[') {
                let (inside, after) = inner.split_once(']').unwrap_or((inner, ""));
                (node.item(inside), after)
            } else {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                (node.get(&rest[..end]), &rest[end..])
            };
            let Some(step) = step else { return node.at };
            node = step;
            rest = after.strip_prefix('.').unwrap_or(after);
        }
        node.at
    }

    fn item(&self, inside: &str) -> Option<&Self> {
        match (self.value(), inside.parse::<usize>()) {
            (Value::List(items), Ok(index)) => items.get(index),
            _ => self.get(inside),
        }
    }
}

/// One document of a file.
#[derive(Debug)]
pub(in super::super) struct Document<'t> {
    /// Its content.
    pub root: Node<'t>,
    /// Keys that stand twice in one mapping; the last one counts.
    pub repeated: Vec<(Position, String)>,
}

/// The most repeated keys that are told of one document.
const MOST_REPEATED: usize = 10;

/// Makes a mapping of its entries. Of a key that stands twice the last counts, as for `kubectl`; `told` learns of it.
/// What no part of LBEX reads is dropped here already where it is large.
pub(super) fn map<'t>(entries: Vec<(Node<'t>, Node<'t>)>, told: &mut Vec<(Position, String)>) -> Value<'t> {
    let mut kept: Vec<(Node<'t>, Node<'t>)> = Vec::with_capacity(entries.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for (key, mut value) in entries {
        let Some(text) = key.text() else { continue };
        if text == "managedFields" {
            value.value = Value::Plain(Cow::Borrowed(""));
        }
        // Looking through a few is cheaper than an index of them.
        let place = if kept.len() < 16 {
            kept.iter().position(|(k, _)| k.text() == Some(text))
        } else {
            if places.is_empty() {
                let texts = kept.iter().enumerate().filter_map(|(n, (k, _))| Some((k.text()?.to_owned(), n)));
                places.extend(texts);
            }
            places.get(text).copied()
        };
        if let Some(place) = place {
            if told.len() < MOST_REPEATED {
                told.push((key.at, text.to_owned()));
            }
            kept[place] = (key, value);
            continue;
        }
        if !places.is_empty() {
            places.insert(text.to_owned(), kept.len());
        }
        kept.push((key, value));
    }
    kept.shrink_to_fit();
    Value::Map(kept)
}
