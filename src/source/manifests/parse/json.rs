//! JSON documents to trees. Own code, as a general JSON reader keeps neither positions nor the spelling of numbers.

use std::borrow::Cow;

use super::tree::{self, Document, Node, Position, Value};
use super::{MOST_DEPTH, SyntaxError};

/// Reads one value after the other until the end of the file.
pub(super) fn read(text: &str, each: &mut dyn FnMut(Document<'_>)) -> Result<(), SyntaxError> {
    let mut reader = Reader { text, offset: 0, line: 1, column: 0, counted: 0, repeated: Vec::new() };
    loop {
        reader.skip_space();
        if reader.peek().is_none() {
            return Ok(());
        }
        let root = reader.value(0)?;
        let repeated = std::mem::take(&mut reader.repeated);
        if !matches!(&root.value, Value::Plain(text) if text == "null") {
            each(Document { root, repeated });
        }
    }
}

/// Whether a text is JSON.
pub(super) fn check(text: &str) -> Result<(), SyntaxError> {
    read(text, &mut |_| {})
}

struct Reader<'t> {
    text: &'t str,
    offset: usize,
    line: usize,
    /// Characters of this line before `counted`: counted on as positions are asked for, as a file may be one long line.
    column: usize,
    counted: usize,
    repeated: Vec<(Position, String)>,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset).copied()
    }

    fn at(&mut self) -> Position {
        self.column += self.text.get(self.counted..self.offset).map_or(0, |text| text.chars().count());
        self.counted = self.offset.max(self.counted);
        Position::of(self.line, self.column + 1)
    }

    fn error(&mut self, wanted: &str) -> SyntaxError {
        let found = match self.text.get(self.offset..).and_then(|rest| rest.chars().next()) {
            Some(c) => format!("'{}'", c.escape_debug()),
            None => "the end of the file".to_owned(),
        };
        SyntaxError::new(self.at(), format!("{wanted} is expected, not {found}"))
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => {
                    self.line += 1;
                    self.column = 0;
                    self.counted = self.offset + 1;
                }
                b' ' | b'\t' | b'\r' => {}
                _ => return,
            }
            self.offset += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'t>, SyntaxError> {
        let at = self.at();
        let value = match self.peek() {
            Some(b'{' | b'[') if depth >= MOST_DEPTH => {
                return Err(SyntaxError::new(at, format!("nested deeper than {MOST_DEPTH} levels")));
            }
            Some(b'{') => {
                let entries = self.items(b'}', |reader| reader.entry(depth))?;
                tree::map(entries, &mut self.repeated)
            }
            Some(b'[') => Value::List(self.items(b']', |reader| reader.value(depth + 1))?),
            Some(b'"') => Value::Quoted(self.string()?),
            _ => Value::Plain(self.word()?),
        };
        Ok(Node { at, value })
    }

    /// What stands between brackets, up to `end`, with commas between.
    fn items<T>(
        &mut self,
        end: u8,
        mut item: impl FnMut(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<Vec<T>, SyntaxError> {
        self.offset += 1;
        let mut items = Vec::new();
        loop {
            self.skip_space();
            if items.is_empty() && self.peek() == Some(end) {
                break;
            }
            items.push(item(self)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.offset += 1,
                Some(byte) if byte == end => break,
                _ => return Err(self.error(&format!("',' or '{}'", char::from(end)))),
            }
        }
        self.offset += 1;
        Ok(items)
    }

    fn entry(&mut self, depth: usize) -> Result<(Node<'t>, Node<'t>), SyntaxError> {
        let at = self.at();
        if self.peek() != Some(b'"') {
            return Err(self.error("a key in double quotes"));
        }
        let key = Node { at, value: Value::Quoted(self.string()?) };
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.error("':'"));
        }
        self.offset += 1;
        self.skip_space();
        Ok((key, self.value(depth + 1)?))
    }

    fn string(&mut self) -> Result<Cow<'t, str>, SyntaxError> {
        let bytes = self.text.as_bytes();
        let start = self.offset;
        let mut end = start + 1;
        let mut escaped = false;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    end += 2;
                }
                Some(0..=0x1f) | None => {
                    self.offset = end.min(self.text.len());
                    return Err(self.error("'\"' (the end of the text)"));
                }
                Some(_) => end += 1,
            }
        }
        if !escaped {
            self.offset = end + 1;
            return Ok(Cow::Borrowed(&self.text[start + 1..end]));
        }
        let text = serde_json::from_str::<String>(&self.text[start..=end])
            .map_err(|_| SyntaxError::new(self.at(), "a text with an escape sequence that JSON does not have"))?;
        self.offset = end + 1;
        Ok(Cow::Owned(text))
    }

    /// A number, `true`, `false` or `null`, as written.
    fn word(&mut self) -> Result<Cow<'t, str>, SyntaxError> {
        let rest = &self.text[self.offset..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        let number = || word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && is_json_number(word);
        if matches!(word, "true" | "false" | "null") || number() {
            self.offset += end;
            Ok(Cow::Borrowed(word))
        } else {
            Err(self.error("a JSON value"))
        }
    }
}

fn is_json_number(word: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(word).is_ok()
}
