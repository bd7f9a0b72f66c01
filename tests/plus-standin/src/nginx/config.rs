//! What a configuration of NGINX Plus says, as far as the stand-in looks at it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::conf::{Complaint, Directive, parse};
use super::statefile;
use crate::access::Place;
use crate::api::{Server, State, Upstream, Zone};

/// A file of a configuration.
#[derive(Debug)]
pub(super) struct File {
    pub(super) text: String,
    pub(super) directives: Vec<Directive>,
}

/// An upstream of `stream`.
#[derive(Debug)]
pub(super) struct StreamUpstream {
    pub(super) zone: Option<String>,
    pub(super) state: Option<PathBuf>,
    servers: Vec<Server>,
}

/// A configuration.
#[derive(Debug)]
pub(super) struct Config {
    /// The absolute path of the main file.
    pub(super) main: PathBuf,
    /// Every file by its absolute path.
    pub(super) files: BTreeMap<PathBuf, File>,
    pub(super) upstreams: BTreeMap<String, StreamUpstream>,
    /// Where the API is, and whether it may write there.
    pub(super) api: Vec<(Place, bool)>,
    /// Where NGINX tells what it serves, and in which words: a stream `server` on a UNIX socket that does nothing but `return`.
    pub(super) told: Option<(PathBuf, String)>,
    zones: Vec<String>,
    /// `pid`.
    pub(super) pid: PathBuf,
}

type Result<T> = std::result::Result<T, Complaint>;

impl Config {
    /// Reads a main file and what it includes. Relative paths in directives are below `prefix`.
    pub(super) fn read(main: &Path, prefix: &Path) -> Result<Self> {
        let mut this = Self {
            main: main.to_owned(),
            files: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            api: Vec::new(),
            told: None,
            zones: Vec::new(),
            pid: prefix.join("run/nginx.pid"),
        };
        let mut reader = Reader { config: &mut this, prefix, file: main.to_owned() };
        reader.file(main, 0, Reader::at_the_top)?;
        Ok(this)
    }

    /// The state after this configuration was loaded: upstreams with a state keep the servers that they have, or get those of
    /// their file.
    pub(super) fn load(&self, state: &mut State) -> std::io::Result<()> {
        let before = std::mem::take(&mut state.upstreams);
        for (name, of) in &self.upstreams {
            let kept = of.state.as_ref().and_then(|_| before.get(name));
            let mut upstream = match (kept, &of.state) {
                (Some(kept), _) => kept.clone(),
                (None, Some(path)) => Upstream::with(name, statefile::read(path)?),
                (None, None) => Upstream::with(name, of.servers.iter().cloned()),
            };
            upstream.zone.clone_from(&of.zone);
            // A zone that upstreams share has room for what LBEX has given it: that is not counted here.
            upstream.room = usize::MAX;
            state.upstreams.insert(name.clone(), upstream);
        }
        let zone = |name: &String| (name.clone(), state.zones.get(name).cloned().unwrap_or_default());
        state.zones = self.zones.iter().map(zone).collect::<BTreeMap<String, Zone>>();
        state.write = self.api.iter().all(|(_, write)| *write);
        Ok(())
    }

    /// Writes the servers of upstreams with a state to their files.
    pub(super) fn save(&self, state: &State) -> std::io::Result<()> {
        for (name, of) in &self.upstreams {
            if let (Some(path), Some(servers)) = (&of.state, state.servers(name)) {
                statefile::write(path, servers)?;
            }
        }
        Ok(())
    }
}

struct Reader<'a> {
    config: &'a mut Config,
    prefix: &'a Path,
    file: PathBuf,
}

impl Reader<'_> {
    fn complain<T>(&self, line: usize, text: impl Into<String>) -> Result<T> {
        Err(Complaint { text: text.into(), file: self.file.clone(), line })
    }

    /// Reads a file and looks at each directive.
    fn file(&mut self, path: &Path, line: usize, look: fn(&mut Self, &Directive) -> Result<()>) -> Result<()> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.complain(line, format!("open() \"{}\" failed ({error})", path.display())),
        };
        let includer = std::mem::replace(&mut self.file, path.to_owned());
        let directives = match parse(&text) {
            Ok(directives) => directives,
            Err((text, line)) => return self.complain(line, text),
        };
        for directive in &directives {
            look(self, directive)?;
        }
        self.file = includer;
        self.config.files.insert(path.to_owned(), File { text, directives });
        Ok(())
    }

    fn at_the_top(&mut self, directive: &Directive) -> Result<()> {
        match directive.name() {
            "http" => self.http(directive),
            "pid" => {
                self.config.pid = self.prefix.join(directive.argument());
                Ok(())
            }
            "stream" => directive.block.iter().flatten().try_for_each(|inner| self.in_stream(inner)),
            _ => Ok(()),
        }
    }

    fn in_stream(&mut self, directive: &Directive) -> Result<()> {
        match directive.name() {
            "include" => {
                let path = included(&self.config.main, directive.argument());
                self.file(&path, directive.line, Self::in_stream)
            }
            "upstream" => self.upstream(directive),
            "server" => {
                self.config.told = told(directive).or(self.config.told.take());
                for zone in directive.all("status_zone") {
                    self.config.zones.push(zone.argument().to_owned());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn upstream(&mut self, directive: &Directive) -> Result<()> {
        let (mut zone, mut state, mut servers) = (None, None, Vec::new());
        for inner in directive.block.iter().flatten() {
            match inner.name() {
                "zone" => zone = Some(inner.argument().to_owned()),
                "state" => state = Some((self.prefix.join(inner.argument()), inner.line)),
                "server" => match statefile::server(&inner.words) {
                    Some(server) => servers.push(server),
                    // A name: the API knows it by other means, the stand-in not at all.
                    None if inner.argument().parse::<SocketAddr>().is_err() => {}
                    None => return self.complain(inner.line, format!("invalid parameter in {:?}", inner.words)),
                },
                "least_time" => self.least_time(inner)?,
                _ => {}
            }
        }
        if let Some((_, line)) = &state {
            if !servers.is_empty() {
                return self.complain(*line, "\"state\" directive is not allowed in an upstream with \"server\"");
            }
            if zone.is_none() {
                return self.complain(*line, "\"state\" directive needs a \"zone\"");
            }
        }
        let upstream = StreamUpstream { zone, state: state.map(|(path, _)| path), servers };
        if self.config.upstreams.insert(directive.argument().to_owned(), upstream).is_some() {
            return self.complain(directive.line, format!("duplicate upstream \"{}\"", directive.argument()));
        }
        Ok(())
    }

    fn least_time(&self, directive: &Directive) -> Result<()> {
        let words: Vec<&str> = directive.words[1..].iter().map(String::as_str).collect();
        match words[..] {
            ["connect" | "first_byte" | "last_byte"] | ["connect" | "first_byte" | "last_byte", "inflight"] => Ok(()),
            _ => self.complain(directive.line, format!("invalid parameters of \"least_time\": {words:?}")),
        }
    }

    fn http(&mut self, http: &Directive) -> Result<()> {
        for server in http.all("server") {
            let Some(api) = server.all("location").flat_map(|location| location.all("api")).next() else { continue };
            let write = api.argument() == "write=on";
            for listen in server.all("listen") {
                let place = match listen.argument().strip_prefix("unix:") {
                    Some(path) => Place::Unix(path.into()),
                    None => match listen.argument().parse::<SocketAddr>() {
                        Ok(address) if address.ip() == Place::loopback(0).ip() => Place::Tcp(address.port()),
                        _ => {
                            return self
                                .complain(listen.line, "the stand-in's API is on a UNIX socket or on 127.0.0.1 only");
                        }
                    },
                };
                self.config.api.push((place, write));
            }
        }
        Ok(())
    }
}

/// The socket and the words of a `server` that says something on a UNIX socket.
pub(super) fn told(server: &Directive) -> Option<(PathBuf, String)> {
    let socket = server.all("listen").next()?.argument().strip_prefix("unix:")?;
    Some((socket.into(), server.all("return").next()?.argument().to_owned()))
}

/// The path of an included file, which is relative to the main file's folder.
pub(super) fn included(main: &Path, argument: &str) -> PathBuf {
    main.parent().unwrap_or(Path::new("/")).join(argument)
}
