//! The command line, as NGINX has it.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use lbex_backend_nginx::binary::{NginxChoice, find};
use lbex_backend_nginx::prefix::Layout;

use super::config::Config;
use super::{master, translate};
use crate::api::State;

/// Set for the process that becomes the master.
const MASTER: &str = "LBEX_PLUS_STANDIN_MASTER";

/// What it says of itself. The banner's `nginx-plus` is what NGINX Plus is known by.
const REPORT: &str = "nginx version: nginx/1.29.4 (nginx-plus-r36-standin-for-tests)\n\
    this is not NGINX Plus: it is a stand-in for LBEX's tests\n\
    configure arguments: --with-stream --with-stream_realip_module --with-threads\n";

/// What it is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// `-V` or `-v`.
    Version,
    /// `-t`: prefix and main file.
    Check(PathBuf, PathBuf),
    /// No word of what to do: prefix and main file.
    Serve(PathBuf, PathBuf),
}

impl Invocation {
    /// Reads the arguments after the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut arguments = arguments.into_iter();
        let (mut check, mut prefix, mut main) = (false, None, PathBuf::from("conf/nginx.conf"));
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().map(PathBuf::from).with_context(|| format!("{} needs a value", argument.display()));
            match argument.to_str() {
                Some("-V" | "-v") => return Ok(Self::Version),
                Some("-t") => check = true,
                Some("-q") => {}
                Some("-p") => prefix = Some(value()?),
                Some("-c") => main = value()?,
                // Where errors go before the configuration is read: standard error is enough.
                Some("-e") => drop(value()?),
                _ => bail!("invalid option: {} (the stand-in has -V, -t, -q, -p, -c, -e)", argument.display()),
            }
        }
        let prefix = std::path::absolute(prefix.context("the stand-in needs -p")?)?;
        let main = prefix.join(main);
        Ok(if check { Self::Check(prefix, main) } else { Self::Serve(prefix, main) })
    }
}

/// The program.
pub fn main() -> ExitCode {
    let result = Invocation::parse(std::env::args_os().skip(1)).and_then(|invocation| match invocation {
        Invocation::Version => {
            eprint!("{REPORT}");
            Ok(())
        }
        Invocation::Check(prefix, main) => check(&prefix, &main),
        Invocation::Serve(prefix, main) if std::env::var_os(MASTER).is_some() => master::run(&prefix, &main),
        Invocation::Serve(prefix, main) => daemonize(&prefix, &main),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("{error:#}");
            // What NGINX itself has said has its form already.
            let text = if text.starts_with("nginx: ") { text } else { format!("nginx: [emerg] {text}") };
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// Checks what is NGINX Plus's, then lets the open-source NGINX check the rest.
fn check(prefix: &Path, main: &Path) -> Result<()> {
    let config = Config::read(main, prefix).map_err(|complaint| anyhow::anyhow!("{complaint}"))?;
    let mut state = State::default();
    config.load(&mut state)?;
    let own = Layout::new(prefix.join("standin"));
    let mirror = prefix.join(format!("standin/check-{}", std::process::id()));
    let result = check_in(&config, &state, &own, &mirror);
    std::fs::remove_dir_all(&mirror).with_context(|| format!("failed to remove {}", mirror.display()))?;
    result
}

fn check_in(config: &Config, state: &State, own: &Layout, mirror: &Path) -> Result<()> {
    for folder in [own.bin_dir(), own.run_dir(), own.logs_dir(), mirror.to_owned()] {
        std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let binary = runtime.block_on(async { anyhow::Ok(find(&NginxChoice::Embedded).await?.install(own).await?) })?;
    let translated = translate::translate(config, state, mirror, "pid run/nginx.pid;", "");
    let main = translate::mirrored(mirror, &config.main);
    translated.write(&main)?;
    let mut command = Command::new(&binary.path);
    command.args(["-t", "-q", "-e", "logs/error.log", "-p"]).arg(own.root()).arg("-c").arg(main);
    let output = command.current_dir(own.root()).output()?;
    let text = String::from_utf8_lossy(&output.stderr).replace(&mirror.display().to_string(), "");
    if output.status.success() { Ok(()) } else { bail!("{}", text.trim_end()) }
}

impl translate::Translated {
    /// Writes every file, the main one to this path.
    pub(super) fn write(&self, main: &Path) -> Result<()> {
        for (path, text) in self.files.iter().map(|(path, text)| (path.as_path(), text)).chain([(main, &self.main)]) {
            let folder = path.parent().unwrap_or(Path::new("/"));
            std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
            std::fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Starts the master with the title that NGINX gives its own, and returns when it serves. Its standard output is the way it says so.
fn daemonize(prefix: &Path, main: &Path) -> Result<()> {
    let itself = std::env::current_exe().context("the program does not find itself")?;
    let log = prefix.join("logs/error.log");
    let log = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&log)
        .with_context(|| format!("failed to open {}", log.display()))?;
    let mut command = Command::new(&itself);
    command.arg0(format!("nginx: master process {}", itself.display()));
    command.arg("-p").arg(prefix).arg("-c").arg(main).env(MASTER, "1").current_dir(prefix).process_group(0);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().context("failed to run the master")?;
    let mut told = String::new();
    child.stdout.take().context("no standard output")?.read_to_string(&mut told)?;
    match told.strip_prefix(master::SERVES) {
        Some(_) => Ok(()),
        None => bail!("{}", if told.is_empty() { "the master has ended" } else { told.trim_end() }),
    }
}

/// Says over standard output that the master serves, or why not, and closes it.
pub(super) fn tell(text: &str) -> Result<()> {
    let mut output = std::io::stdout();
    output.write_all(text.as_bytes())?;
    output.flush()?;
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(nowhere)?;
    Ok(())
}
