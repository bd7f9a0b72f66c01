//! The command line (contract section 2): arguments and environment in, a [`Command`] out. Nothing here reads the process's own
//! arguments or environment, prints, or exits.

mod definition;
mod failure;
mod normalize;
mod version;

#[cfg(all(test, feature = "backend-nginx"))]
mod tests;

#[cfg(test)]
mod absent_tests;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::error::ErrorKind;

pub(crate) use self::definition::END_PROXY;
pub use self::failure::{DEFECT, Failure};
pub use self::normalize::normalize;
pub use self::version::{COMMIT, text as version};
use crate::registry::Backends;
use crate::settings::{
    Environment, Host, Origin, PluginsSettings, RawSettings, RawValue, SETTINGS, Settings, ValidateSettings, layers,
    lower, lower_for_plugins, lower_for_validate,
};

/// What LBEX is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Run the controller.
    Run(Box<Settings>),
    /// `lbex proxy`: start NGINX for the controller, and stop it at the end.
    #[cfg(feature = "backend-nginx")]
    Proxy(Box<Settings>),
    /// `lbex end-proxy`: drain the proxy and end it, and nothing else. For LBEX itself, where it is the first process of a container.
    EndProxy(Box<Settings>),
    /// `lbex render`: print the configuration, touch nothing.
    Render(Box<Settings>),
    /// `lbex validate`: say what would become of Services.
    Validate(Box<ValidateSettings>),
    /// `lbex backends`: say which backends there are.
    Backends(Box<PluginsSettings>),
    /// `lbex plugin check PATH`: find out whether a library is a plugin that does as it should.
    #[cfg(feature = "plugins")]
    CheckPlugin(PathBuf, Box<PluginsSettings>),
    /// Print this to standard output and exit with code 0: help, version, completions, manual page.
    Print(String),
}

/// Parses the arguments (the program's name is the first, and is not looked at) and the environment into what to do with one of
/// `backends`.
///
/// A [`Failure`] has exit code 2 and a message of one or more lines.
pub fn parse<A, K, V>(
    args: A,
    environment: impl IntoIterator<Item = (K, V)>,
    backends: &Backends,
) -> Result<Command, Failure>
where
    A: IntoIterator,
    A::Item: Into<OsString>,
    K: Into<OsString>,
    V: Into<OsString>,
{
    let environment = environment.into_iter().collect();
    parse_on(args, Around { environment: &environment, host: Host::look(), backends })
}

/// What the arguments stand in.
#[derive(Clone, Copy)]
struct Around<'a> {
    environment: &'a Environment,
    host: Host,
    backends: &'a Backends,
}

fn parse_on<A>(args: A, around: Around<'_>) -> Result<Command, Failure>
where
    A: IntoIterator,
    A::Item: Into<OsString>,
{
    let args = texts(args.into_iter().skip(1).map(Into::into))?;
    let args = std::iter::once("lbex".to_owned()).chain(normalize(args));
    let matches = match definition::command(around.backends).try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(e) if e.kind() == ErrorKind::DisplayHelp => return Ok(Command::Print(e.render().to_string())),
        Err(e) => return Err(usage(&e)),
    };
    match matches.subcommand() {
        None => run(&matches, around),
        Some((name, _)) if !around.backends.has(definition::part_of(name)) => {
            let missing = definition::part_of(name).is_missing();
            Err(Failure::usage(anyhow::anyhow!("lbex {name} is of no use: {missing}")))
        }
        #[cfg(feature = "backend-nginx")]
        Some(("proxy", matches)) => Ok(Command::Proxy(Box::new(around.settings(matches)?))),
        Some((END_PROXY, matches)) => Ok(Command::EndProxy(Box::new(around.settings(matches)?))),
        Some(("render", matches)) => Ok(Command::Render(Box::new(around.settings(matches)?))),
        Some(("validate", matches)) => around.validate(matches),
        Some(("backends", matches)) => Ok(Command::Backends(Box::new(around.plugins(matches)?))),
        #[cfg(feature = "plugins")]
        Some(("plugin", matches)) => around.plugin(matches),
        Some(("completions", matches)) => completions(matches, around.backends),
        Some(("man", _)) => man(around.backends),
        Some((other, _)) => Err(Failure::usage(anyhow::anyhow!(
            "lbex {other} is not in this version yet; lbex validate says what becomes of the Services in manifest files"
        ))),
    }
}

fn run(matches: &ArgMatches, around: Around<'_>) -> Result<Command, Failure> {
    let version = matches.get_many::<String>("version").and_then(|mut values| values.next_back());
    if let Some(value) = version {
        let wanted = crate::settings::values::switch(value)
            .map_err(|_| Failure::usage(anyhow::anyhow!("--version takes true or false, not {value:?}")))?;
        if wanted {
            return Ok(Command::Print(version::text(around.backends)));
        }
    }
    Ok(Command::Run(Box::new(around.settings(matches)?)))
}

impl Around<'_> {
    fn settings(self, matches: &ArgMatches) -> Result<Settings, Failure> {
        let Self { environment, host, backends } = self;
        let (raw, warnings) = layers(flags(matches), environment)?;
        Ok(lower(&raw, environment, host, backends, warnings)?)
    }

    fn plugins(self, matches: &ArgMatches) -> Result<PluginsSettings, Failure> {
        let Self { environment, host, backends } = self;
        let (raw, warnings) = layers(flags(matches), environment)?;
        Ok(lower_for_plugins(&raw, environment, host, backends, warnings)?)
    }

    fn validate(self, matches: &ArgMatches) -> Result<Command, Failure> {
        let Self { environment, host, backends } = self;
        let files = matches.get_many::<String>(definition::FILES).unwrap_or_default().map(PathBuf::from).collect();
        let (raw, warnings) = layers(flags(matches), environment)?;
        let settings = lower_for_validate(files, &raw, environment, host, backends, warnings)?;
        Ok(Command::Validate(Box::new(settings)))
    }

    #[cfg(feature = "plugins")]
    fn plugin(self, matches: &ArgMatches) -> Result<Command, Failure> {
        match matches.subcommand() {
            Some(("check", matches)) => {
                let library = matches.get_one::<String>(definition::LIBRARY).map(PathBuf::from).unwrap_or_default();
                Ok(Command::CheckPlugin(library, Box::new(self.plugins(matches)?)))
            }
            _ => Err(Failure::usage(anyhow::anyhow!("lbex plugin takes one command: check PATH"))),
        }
    }
}

/// Arguments as text: a name, an address or a path that is not Unicode would be of no use later.
fn texts(args: impl Iterator<Item = OsString>) -> Result<Vec<String>, Failure> {
    let text = |(index, arg): (usize, OsString)| {
        arg.into_string().map_err(|arg| {
            Failure::usage(anyhow::anyhow!("argument {} ({:?}) is not valid UTF-8", index + 1, arg.to_string_lossy()))
        })
    };
    args.enumerate().map(text).collect()
}

/// The layer of settings that the command line is.
fn flags(matches: &ArgMatches) -> RawSettings {
    let mut layer = RawSettings::default();
    for setting in SETTINGS {
        // A subcommand may be without this flag.
        let values = matches.try_get_many::<String>(setting.name).ok().flatten().unwrap_or_default();
        for value in values {
            layer.add(setting, RawValue::new(value, Origin::CommandLine));
        }
    }
    layer
}

/// clap's message, without the word that whoever prints it adds.
fn usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    match error.kind() {
        // The only conflict that there is: a word behind a BOOL flag is none of its values, and so a subcommand.
        ErrorKind::ArgumentConflict => Failure::usage(anyhow::anyhow!(
            "{text}\n\n  tip: a subcommand comes before its flags; the value of a BOOL flag is true or false"
        )),
        _ => Failure::usage(anyhow::anyhow!("{text}")),
    }
}

fn completions(matches: &ArgMatches, backends: &Backends) -> Result<Command, Failure> {
    use clap_complete::Shell;
    let shell = match matches.get_one::<String>(definition::SHELL).map(String::as_str) {
        Some("bash") => Shell::Bash,
        Some("zsh") => Shell::Zsh,
        Some("fish") => Shell::Fish,
        other => return Err(Failure::usage(anyhow::anyhow!("no completions for the shell {other:?}"))),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition::shown(backends), "lbex", &mut script);
    printed(script)
}

fn man(backends: &Backends) -> Result<Command, Failure> {
    let mut page = Vec::new();
    let source = concat!("lbex ", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(definition::shown(backends)).source(source).render(&mut page).map_err(Failure::usage)?;
    printed(page)
}

fn printed(bytes: Vec<u8>) -> Result<Command, Failure> {
    String::from_utf8(bytes).map(Command::Print).map_err(Failure::usage)
}
