//! The main file, `conf/nginx.conf`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::part::hash;
use super::service_file::time;
use super::{Dialect, MAIN, Part, RenderError, Templates};
use crate::limits::Limits;

/// Stands for the generation while the text is hashed.
const PLACEHOLDER: &str = "GENERATION";

/// What is the same for every main file of one LBEX.
#[derive(Debug, Clone)]
pub struct MainInput {
    /// The binary, as one that is different has to be: a comment, so that another binary makes another generation.
    pub made_for: String,
    /// Modules to load, absolute paths.
    pub modules: Vec<PathBuf>,
    /// The directive `user`, where there is one ([`worker_user`](super::worker_user)).
    pub user: Option<String>,
    /// How long old workers may finish their connections after a reload; `None`: as long as it takes.
    pub worker_shutdown_timeout: Option<Duration>,
    /// The UNIX socket on which NGINX tells the generation.
    pub generation_socket: PathBuf,
    /// What NGINX understands.
    pub dialect: Dialect,
    /// Where LBEX answers for the names of servers, if it does.
    pub resolver: Option<SocketAddr>,
    /// The UNIX socket of the API of NGINX Plus, on which LBEX changes servers; `None`: an open-source NGINX, which has none.
    pub api_socket: Option<PathBuf>,
}

#[derive(Serialize)]
struct View<'a> {
    made_for: &'a str,
    modules: Vec<String>,
    user: Option<&'a str>,
    workers: u32,
    worker_rlimit_nofile: u64,
    worker_connections: u64,
    worker_shutdown_timeout: Option<String>,
    half_close: bool,
    resolver: Option<String>,
    api_socket: Option<String>,
    zone: String,
    generation_socket: String,
    generation: &'static str,
    services: Vec<&'a str>,
}

/// A main file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MainFile {
    /// Its text.
    pub text: String,
    /// What NGINX answers with when it serves it: a hash of all the rest of the text, and so, through the names of the
    /// included files, of everything. 16 hexadecimal digits.
    pub generation: String,
}

impl MainFile {
    /// Renders the main file that includes `parts`, which are in the order of their Services. `zone`: the size of the zone that
    /// all upstreams share, in KiB.
    pub fn render<'a>(
        templates: &Templates,
        input: &MainInput,
        limits: &Limits,
        zone: u64,
        parts: impl IntoIterator<Item = &'a Part>,
    ) -> Result<Self, RenderError> {
        let services = parts.into_iter().map(|part| part.file.as_str()).collect();
        let push = if input.dialect.push.is_some_and(|push| push.immediate) { " push=on" } else { "" };
        let view = View {
            made_for: &input.made_for,
            modules: input.modules.iter().map(|path| path.display().to_string()).collect(),
            user: input.user.as_deref(),
            workers: limits.workers,
            worker_rlimit_nofile: limits.worker_rlimit_nofile,
            worker_connections: limits.worker_connections,
            worker_shutdown_timeout: input.worker_shutdown_timeout.map(time),
            half_close: input.dialect.half_close,
            resolver: input.resolver.map(|address| format!("{address}{push}")),
            api_socket: input.api_socket.as_ref().map(|path| path.display().to_string()),
            zone: size(zone),
            generation_socket: input.generation_socket.display().to_string(),
            generation: PLACEHOLDER,
            services,
        };
        Ok(Self::named(&templates.render(MAIN, "the main file", &view)?))
    }

    /// Gives a text with a placeholder its generation.
    fn named(text: &str) -> Self {
        let generation = hash(text, 8);
        Self { text: text.replacen(&format!("\"{PLACEHOLDER}\""), &format!("\"{generation}\""), 1), generation }
    }

    /// The same on other UNIX sockets, each in place of one, with a generation of its own.
    #[must_use]
    pub fn on_sockets<'a>(&self, moves: impl IntoIterator<Item = (&'a Path, &'a Path)>) -> Self {
        let text =
            self.text.replacen(&format!("return \"{}\"", self.generation), &format!("return \"{PLACEHOLDER}\""), 1);
        let moved = |text: String, (from, to): (&Path, &Path)| {
            text.replacen(&format!("unix:{};", from.display()), &format!("unix:{};", to.display()), 1)
        };
        Self::named(&moves.into_iter().fold(text, moved))
    }

    /// The generation that a main file's text answers with.
    pub fn generation_in(text: &str) -> Option<&str> {
        let (_, rest) = text.split_once("return \"")?;
        Some(rest.split_once('"')?.0)
    }

    /// Where NGINX asks for the addresses of servers, by a main file's text.
    pub fn resolver_in(text: &str) -> Option<SocketAddr> {
        let words = text.lines().find_map(|line| line.strip_prefix("    resolver "))?;
        words.split([' ', ';']).next()?.parse().ok()
    }

    /// The size of the zone that all upstreams share, in KiB, by a main file's text.
    pub fn zone_in(text: &str) -> Option<u64> {
        let size = text.lines().find_map(|line| line.strip_prefix("        zone lbex "))?.strip_suffix(';')?;
        let number = |digits: &str| digits.parse::<u64>().ok();
        match size.strip_suffix('m') {
            Some(mib) => number(mib)?.checked_mul(1024),
            None => number(size.strip_suffix('k')?),
        }
    }

    /// The names of the files below `services/` that a main file's text includes.
    pub fn includes_in(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter_map(|line| line.trim().strip_prefix("include ../services/")?.strip_suffix(';'))
    }
}

/// KiB as NGINX writes sizes.
fn size(kib: u64) -> String {
    if kib.is_multiple_of(1024) { format!("{}m", kib / 1024) } else { format!("{kib}k") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_another_socket_everything_else_is_the_same() {
        let (here, there) = (Path::new("/p/run/generation.sock"), Path::new("/p/run/spare.sock"));
        let main =
            MainFile::named("listen unix:/p/run/generation.sock;\nreturn \"GENERATION\";\ninclude ../services/a;\n");
        let other = main.on_sockets([(here, there)]);
        assert_ne!(other.generation, main.generation);
        assert_eq!(MainFile::generation_in(&other.text), Some(other.generation.as_str()));
        assert!(other.text.starts_with("listen unix:/p/run/spare.sock;\n"), "{}", other.text);
        assert_eq!(other.on_sockets([(there, here)]), main);
    }
}
