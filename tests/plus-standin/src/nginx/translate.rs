//! From a configuration of NGINX Plus to one of the open-source NGINX, line by line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::conf::Directive;
use super::config::{Config, File, included, told};
use crate::api::State;
use crate::traffic::server_directives;

/// What the open-source NGINX gets: its main file, and the others by where they are to be written.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) main: String,
    pub(super) files: BTreeMap<PathBuf, String>,
}

/// Where a file's translation is: below `mirror`, with its whole path.
pub(super) fn mirrored(mirror: &Path, file: &Path) -> PathBuf {
    mirror.join(file.strip_prefix("/").unwrap_or(file))
}

/// Translates a configuration; `pid` and `told` are the [`Engine`](crate::traffic::Engine)'s directives.
pub(super) fn translate(config: &Config, state: &State, mirror: &Path, pid: &str, told: &str) -> Translated {
    let mut files = BTreeMap::new();
    let mut main = String::new();
    for (path, file) in &config.files {
        let mut translator = Translator { config, state, mirror, pid, told, edits: Vec::new() };
        file.directives.iter().for_each(|directive| translator.directive(directive));
        let text = translator.apply(file);
        if *path == config.main {
            main = text;
        } else {
            files.insert(mirrored(mirror, path), text);
        }
    }
    Translated { main, files }
}

struct Translator<'a> {
    config: &'a Config,
    state: &'a State,
    mirror: &'a Path,
    pid: &'a str,
    told: &'a str,
    edits: Vec<(Range<usize>, String)>,
}

impl Translator<'_> {
    fn replace(&mut self, directive: &Directive, by: impl Into<String>) {
        self.edits.push((directive.span.clone(), by.into()));
    }

    fn directive(&mut self, directive: &Directive) {
        match directive.name() {
            "http" | "status_zone" => self.replace(directive, ""),
            // The stand-in says it itself: workers of the open-source NGINX that only finish would say what was before.
            "server" if told(directive).is_some() => self.replace(directive, ""),
            "pid" => self.replace(directive, self.pid),
            "least_time" => self.replace(directive, "least_conn;"),
            "include" => {
                let path = mirrored(self.mirror, &included(&self.config.main, directive.argument()));
                self.replace(directive, format!("include {};", path.display()));
            }
            "upstream" => {
                let servers = self.state.servers(directive.argument()).unwrap_or_default();
                let lines = server_directives(servers);
                let mut lines = Some(lines);
                for inner in directive.block.iter().flatten() {
                    match inner.name() {
                        // An upstream that the API can change: its servers stand where the first of them, or the state, stood.
                        "server" if Self::is_dynamic(directive) => {
                            self.replace(inner, lines.take().unwrap_or_default());
                        }
                        "state" => self.replace(inner, lines.take().unwrap_or_default()),
                        _ => self.directive(inner),
                    }
                }
            }
            _ => {
                if directive.name() == "stream" {
                    self.edits.push((directive.inside..directive.inside, format!(" {} ", self.told)));
                }
                directive.block.iter().flatten().for_each(|inner| self.directive(inner));
            }
        }
    }

    /// Whether all servers of an upstream are the API's: with a zone, and by address.
    fn is_dynamic(upstream: &Directive) -> bool {
        let has_zone = upstream.all("zone").next().is_some();
        has_zone && upstream.all("server").all(|server| super::statefile::server(&server.words).is_some())
    }

    /// The text after the edits, with every line where it was.
    fn apply(mut self, file: &File) -> String {
        self.edits.sort_by_key(|(range, _)| range.start);
        let (mut text, mut end) = (String::new(), 0);
        for (range, by) in self.edits {
            text.push_str(&file.text[end..range.start]);
            text.push_str(&by);
            text.extend(file.text[range.clone()].chars().filter(|c| *c == '\n'));
            end = range.end;
        }
        text.push_str(&file.text[end..]);
        text
    }
}
