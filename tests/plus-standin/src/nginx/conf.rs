//! NGINX's configuration syntax: words, `;`, `{ }`, quotes, comments.

use std::iter::Peekable;
use std::ops::Range;
use std::path::PathBuf;
use std::str::CharIndices;

/// What is wrong with a configuration, in the words of `nginx -t`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) text: String,
    pub(super) file: PathBuf,
    pub(super) line: usize,
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}:{}", self.text, self.file.display(), self.line)
    }
}

/// A directive with its place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    /// Name and arguments, without quotes.
    pub(super) words: Vec<String>,
    /// From its first character to after its `;` or `}`.
    pub(super) span: Range<usize>,
    /// From 1.
    pub(super) line: usize,
    /// What is inside its braces.
    pub(super) block: Option<Vec<Directive>>,
    /// After its `{`.
    pub(super) inside: usize,
}

impl Directive {
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The first argument.
    pub(super) fn argument(&self) -> &str {
        self.words.get(1).map_or("", String::as_str)
    }

    /// The directives of that name inside.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Directive> {
        self.block.iter().flatten().filter(move |directive| directive.name() == name)
    }
}

/// Reads a text. The error is what is wrong, and the line.
pub(super) fn parse(text: &str) -> Result<Vec<Directive>, (String, usize)> {
    let mut parser = Parser { text, rest: text.char_indices().peekable() };
    let all = parser.block(false)?;
    Ok(all)
}

struct Parser<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl Parser<'_> {
    fn position(&mut self) -> usize {
        self.rest.peek().map_or(self.text.len(), |(index, _)| *index)
    }

    fn line(&self, position: usize) -> usize {
        1 + self.text[..position].matches('\n').count()
    }

    fn skip_blank(&mut self) {
        while let Some((_, c)) = self.rest.peek() {
            match c {
                '#' => while self.rest.next_if(|(_, c)| *c != '\n').is_some() {},
                c if c.is_whitespace() => drop(self.rest.next()),
                _ => return,
            }
        }
    }

    fn block(&mut self, nested: bool) -> Result<Vec<Directive>, (String, usize)> {
        let mut all = Vec::new();
        loop {
            self.skip_blank();
            let start = self.position();
            match self.rest.peek() {
                None if nested => return Err(("unexpected end of file, expecting \"}\"".to_owned(), self.line(start))),
                None => return Ok(all),
                Some((_, '}')) if nested => return Ok(all),
                Some((_, c @ ('}' | ';' | '{'))) => return Err((format!("unexpected \"{c}\""), self.line(start))),
                Some(_) => all.push(self.directive(start)?),
            }
        }
    }

    fn directive(&mut self, start: usize) -> Result<Directive, (String, usize)> {
        let line = self.line(start);
        let mut words = Vec::new();
        loop {
            self.skip_blank();
            let here = self.position();
            match self.rest.peek() {
                None => return Err(("unexpected end of file, expecting \";\" or \"}\"".to_owned(), self.line(here))),
                Some((_, ';')) => {
                    self.rest.next();
                    return Ok(Directive { words, span: start..here + 1, line, block: None, inside: here + 1 });
                }
                Some((_, '{')) => {
                    self.rest.next();
                    let block = Some(self.block(true)?);
                    let end = self.position() + 1;
                    self.rest.next();
                    return Ok(Directive { words, span: start..end, line, block, inside: here + 1 });
                }
                Some((_, '}')) => return Err(("unexpected \"}\"".to_owned(), self.line(here))),
                Some(_) => words.push(self.word()),
            }
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        if let Some((_, quote)) = self.rest.next_if(|(_, c)| matches!(c, '"' | '\'')) {
            while let Some((_, c)) = self.rest.next().filter(|(_, c)| *c != quote) {
                word.push(c);
            }
            return word;
        }
        while let Some((_, c)) = self.rest.next_if(|(_, c)| !c.is_whitespace() && !matches!(c, ';' | '{' | '}')) {
            word.push(c);
        }
        word
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn directives_have_words_places_and_blocks() {
        let text = "a b 'c d'; # no { here\nx {\n  y \"1;2\"; z {}\n}\n";
        let all = parse(text).expect("it parses");
        assert_eq!(all[0].words, ["a", "b", "c d"]);
        assert_eq!((&text[all[0].span.clone()], all[0].line), ("a b 'c d';", 1));
        let inside = all[1].block.as_ref().expect("a block");
        assert_eq!((inside[0].argument(), inside[0].line), ("1;2", 3));
        assert_eq!(inside[1].block, Some(vec![]));
        assert_eq!(&text[all[1].inside..all[1].span.end], "\n  y \"1;2\"; z {}\n}");
    }

    #[test]
    fn what_is_no_configuration_is_told_with_its_line() {
        for (text, line) in [("a;\n}", 2), ("a {\nb;\n", 3), ("a\nb", 2), ("a;\n\n;", 3), ("x { y }", 1)] {
            assert_eq!(parse(text).expect_err(text).1, line, "{text}");
        }
    }
}
