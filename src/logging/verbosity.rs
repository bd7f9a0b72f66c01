//! `-v` and `--vmodule`: how much is logged, by source file.

use std::fmt;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// `--vmodule`: verbosities of single files and modules. The first pattern that matches counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VModule(Vec<(Pattern, i32)>);

impl VModule {
    /// Parses `PATTERN=N,...`; the error is what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entry = |part: &str| {
            let (pattern, level) = part.split_once('=').ok_or_else(|| format!("'{part}' has no =N"))?;
            let level = level.parse().map_err(|_| format!("'{level}' is no number"))?;
            Ok((Pattern::parse(pattern)?, level))
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        Ok(Self(parts.map(entry).collect::<Result<_, String>>()?))
    }
}

/// A pattern of `--vmodule`. With `::` it is matched against the whole module path, with `/` against the end of the file's path,
/// else against the file's name; always without `.rs`. For `NAME/mod.rs` the name is `NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(String);

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_suffix(".rs").unwrap_or(text);
        match text {
            "" => Err("a pattern is empty".to_owned()),
            text if text.contains(['[', ']', '\\']) => Err(format!("'{text}': patterns know * and ? only")),
            text => Ok(Self(text.to_owned())),
        }
    }

    fn matches(&self, module: &str, file: &str) -> bool {
        let file = file.strip_suffix(".rs").unwrap_or(file);
        let file = file.strip_suffix("/mod").unwrap_or(file);
        if self.0.contains("::") {
            return matches_glob(&self.0, module);
        }
        let depth = self.0.matches('/').count();
        let tail = file.rmatch_indices('/').nth(depth).map_or(file, |(at, _)| &file[at + 1..]);
        matches_glob(&self.0, tail)
    }
}

/// Whether `text` is what `glob` describes: `*` is any text, `?` any one character.
fn matches_glob(glob: &str, text: &str) -> bool {
    let mut glob = glob.chars();
    match glob.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = glob.as_str();
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches_glob(rest, &text[at..]))
        }
        Some(wanted) => {
            let mut text = text.chars();
            text.next().is_some_and(|found| wanted == '?' || wanted == found)
                && matches_glob(glob.as_str(), text.as_str())
        }
    }
}

/// Decides by callsite what is logged, so that what is not costs nothing.
///
/// `-v` is glog's: `INFO` and what is more severe is always logged; 1 to 3 add debug lines, 4 and more trace lines. Libraries
/// and backends of others have their debug lines logged from 4, their trace lines from 6.
pub(super) struct Verbosity {
    verbosity: i32,
    vmodule: VModule,
}

impl Verbosity {
    pub(super) fn new(verbosity: i32, vmodule: VModule) -> Self {
        Self { verbosity, vmodule }
    }

    fn level(&self, metadata: &Metadata<'_>) -> Level {
        let module = metadata.module_path().unwrap_or_else(|| metadata.target());
        let file = metadata.file().unwrap_or_default();
        match self.vmodule.0.iter().find(|(pattern, _)| pattern.matches(module, file)) {
            Some((_, verbosity)) => own(*verbosity),
            None if is_own(module) => own(self.verbosity),
            None => library(self.verbosity),
        }
    }

    fn allows(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level(metadata)
    }
}

impl fmt::Debug for Verbosity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-v {} --vmodule {:?}", self.verbosity, self.vmodule)
    }
}

/// Whether a module is LBEX's own: of a crate called `lbex` or `lbex_something`.
fn is_own(module: &str) -> bool {
    let name = module.split("::").next().unwrap_or_default();
    name == "lbex" || name.starts_with("lbex_")
}

fn own(verbosity: i32) -> Level {
    match verbosity {
        ..=0 => Level::INFO,
        1..=3 => Level::DEBUG,
        4.. => Level::TRACE,
    }
}

fn library(verbosity: i32) -> Level {
    match verbosity {
        ..=3 => Level::INFO,
        4..=5 => Level::DEBUG,
        6.. => Level::TRACE,
    }
}

impl<S: Subscriber> Layer<S> for Verbosity {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.allows(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.allows(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let all = self.vmodule.0.iter().map(|(_, verbosity)| *verbosity).chain([self.verbosity]);
        all.map(own).max().map(LevelFilter::from_level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_files_and_modules_as_globs() {
        for (pattern, module, file, matches) in [
            ("engine", "lbex::engine", "src/engine.rs", true),
            ("engine.rs", "lbex::engine", "src/engine.rs", true),
            ("engine", "lbex::engine", "src/engine/mod.rs", true),
            ("engine", "lbex::engine::queue", "src/engine/queue.rs", false),
            ("eng*", "lbex::engine", "src/engine.rs", true),
            ("*", "kube::client", "client.rs", true),
            ("e?gine", "lbex::engine", "src/engine.rs", true),
            ("Engine", "lbex::engine", "src/engine.rs", false),
            ("engine/queue", "lbex::engine::queue", "src/engine/queue.rs", true),
            ("engine/*", "lbex::engine::queue", "lbex/src/engine/queue.rs", true),
            ("lbex::engine", "lbex::engine", "src/engine.rs", true),
            ("lbex::engine", "lbex::engine::queue", "src/engine/queue.rs", false),
            ("lbex::*", "lbex::engine::queue", "src/engine/queue.rs", true),
            ("kube*::*", "kube_client::client", "x/src/client/mod.rs", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(module, file), matches, "{pattern} {module} {file}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (text, reason) in [
            ("engine", "'engine' has no =N"),
            ("engine=", "'' is no number"),
            ("engine=x", "'x' is no number"),
            ("=2", "a pattern is empty"),
            ("a[b]=1", "'a[b]': patterns know * and ? only"),
        ] {
            assert_eq!(VModule::parse(text), Err(reason.to_owned()), "{text}");
        }
        assert_eq!(VModule::parse("a=1, b=2,").unwrap().0.len(), 2);
    }
}
