//! Prometheus' text format, as far as tests need it.

use std::collections::BTreeMap;

/// The samples of a `/metrics` page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(Vec<Sample>);

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Samples {
    /// Reads a page. Lines that are not samples are left out.
    pub fn parse(page: &str) -> Self {
        Self(page.lines().filter(|line| !line.starts_with('#')).filter_map(parse_line).collect())
    }

    /// The sum of the samples of that name whose labels include `labels`; `None` if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let matches = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|have| have == value))
        };
        let mut values = self.0.iter().filter(matches).map(|sample| sample.value).peekable();
        values.peek().is_some().then(|| values.sum())
    }
}

fn parse_line(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = unquote(after)?;
            labels.insert(label.to_owned(), value);
            rest = after;
        }
        rest = &rest[1..];
    }
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Reads up to the closing quote; returns the text and what follows the quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((position, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[position + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Samples;

    const PAGE: &str = "# HELP a_total Things.\n# TYPE a_total counter\n\
        a_total{kind=\"x\",text=\"a \\\"b\\\", {c}\\n\"} 3\na_total{kind=\"y\"} 4.5\nplain 1e3\nempty{} 2 1700000000\n";

    #[test]
    fn finds_samples_by_labels_and_adds_them_up() {
        let samples = Samples::parse(PAGE);
        assert_eq!(samples.sum("a_total", &[]), Some(7.5));
        assert_eq!(samples.sum("a_total", &[("kind", "y")]), Some(4.5));
        assert_eq!(samples.sum("a_total", &[("text", "a \"b\", {c}\n")]), Some(3.0));
        assert_eq!(samples.sum("plain", &[]), Some(1000.0));
        assert_eq!(samples.sum("empty", &[]), Some(2.0));
        assert_eq!(samples.sum("a_total", &[("kind", "z")]), None);
        assert_eq!(samples.sum("b_total", &[]), None);
    }
}
