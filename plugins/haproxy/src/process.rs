//! The program: finding, checking, starting, reloading and ending it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lbex_plugin_sdk::{Call, Ended, Error, find_program};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

use crate::control::{Control, Info, Processes};

/// How often something is looked at that nobody tells of.
const STEP: Duration = Duration::from_millis(10);

/// How long one command may take.
pub(crate) const COMMAND: Duration = Duration::from_secs(2);

/// A socket's path takes 107 bytes, and HAProxy binds it under a longer name first.
const LONGEST_PATH: usize = 90;

/// An HAProxy that belongs to LBEX.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    /// What `haproxy -v` says: `2.6.12-1+deb12u4`.
    pub version: String,
    dir: PathBuf,
    /// Its sockets.
    pub control: Control,
}

impl Program {
    /// Finds the program, and makes its folder.
    pub fn find(program: &Path, dir: &Path) -> Result<Self, Error> {
        let path = find(program)?;
        let output = Command::new(&path).arg("-v").stdin(Stdio::null()).output();
        let output =
            output.map_err(|error| Error::invalid(format_args!("failed to run {}: {error}", path.display())))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().find_map(|line| line.strip_prefix("HAProxy version ")?.split(' ').next());
        let Some(version) = version else {
            return Err(Error::invalid(format_args!("{} -v does not say that it is HAProxy", path.display())));
        };
        let number = |index: usize| version.split(['.', '-']).nth(index).and_then(|part| part.parse::<u32>().ok());
        if (number(0), number(1)) < (Some(2), Some(6)) {
            let path = path.display();
            return Err(Error::invalid(format_args!("{path} is HAProxy {version}, and 2.6 or later is needed")));
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| Error::invalid(format_args!("failed to create {}: {error}", dir.display())))?;
        let text = dir.to_str().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@,:=".contains(c);
        if text.len() > LONGEST_PATH - 2 || text.is_empty() || !text.chars().all(plain) {
            return Err(Error::invalid(format_args!(
                "HAProxy's sockets cannot be in {}: a path of {} bytes at the most, of letters, digits and /._-+@,:= is needed; \
                 give one as run_dir in the file of --backend-config",
                dir.display(),
                LONGEST_PATH - 2
            )));
        }
        let control = Control { worker: dir.join("s"), master: dir.join("m") };
        Ok(Self { version: version.to_owned(), path, dir: dir.to_owned(), control })
    }

    /// The configuration that HAProxy starts and reloads with.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("haproxy.cfg")
    }

    /// What HAProxy finds wrong with a configuration, in its words; `None`: nothing.
    pub fn check(&self, text: &str, call: &Call) -> Result<Option<String>, Error> {
        let path = self.dir.join("check.cfg");
        fs::write(&path, text)?;
        let mut command = self.command();
        command.arg("-c").arg("-f").arg(&path);
        let Ended { status, said } = call.run(command)?;
        Ok((!status.success()).then_some(said))
    }

    /// Puts a configuration in place, for the next start or reload.
    pub fn write(&self, text: &str) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_data()?;
        file.persist(self.config_path())?;
        Ok(())
    }

    /// Starts HAProxy, as a daemon that has nothing of LBEX, and waits until it serves this layout.
    pub fn start(&self, layout: &str, call: &Call) -> Result<Info, Error> {
        self.clean_up(call)?;
        let mut command = self.command();
        command.args(["-W", "-D", "-S"]).arg(format!("{},mode,600", self.control.master.display()));
        command.arg("-p").arg(self.pid_path()).arg("-f").arg(self.config_path());
        let Ended { status, said } = call.run(command)?;
        if !status.success() {
            return Err(Error::retry(format_args!("HAProxy does not start: {}", alerts(&said))));
        }
        self.wait_for(layout, None, call)
    }

    /// Reloads HAProxy, and waits until it serves this layout.
    pub fn reload(&self, layout: &str, call: &Call) -> Result<Info, Error> {
        let before = self.processes(call)?;
        signal(before.master, Signal::SIGUSR2)?;
        self.wait_for(layout, Some(&before), call)
    }

    /// The processes. The master begins anew after each start and reload, and does not answer for that moment.
    pub(crate) fn processes(&self, call: &Call) -> Result<Processes, Error> {
        let until = Instant::now() + COMMAND;
        loop {
            match self.control.processes(COMMAND.min(call.remaining())) {
                Ok(processes) => return Ok(processes),
                Err(error) if Instant::now() > until || !call.sleep(STEP) => {
                    return Err(Error::retry(format_args!("HAProxy's master does not answer: {error}")));
                }
                Err(_) => {}
            }
        }
    }

    fn wait_for(&self, layout: &str, before: Option<&Processes>, call: &Call) -> Result<Info, Error> {
        loop {
            // Nobody answers for a moment while the master begins anew.
            if let Ok(info) = self.control.info(COMMAND.min(call.remaining()))
                && info.layout.as_deref() == Some(layout)
            {
                return Ok(info);
            }
            if let Some(before) = before
                && let Ok(now) = self.control.processes(COMMAND.min(call.remaining()))
                && now.failed > before.failed
            {
                return Err(Error::retry("HAProxy could not be reloaded, and serves on as it was"));
            }
            if !call.sleep(STEP) {
                return Err(Error::retry("HAProxy did not say in time that it serves the new configuration"));
            }
        }
    }

    /// Ends HAProxy: old connections may go on for `drain`.
    pub fn stop(&self, drain: Duration, call: &Call) -> Result<(), Error> {
        let Some(master) = self.master() else { return Ok(()) };
        // A master that begins anew takes no signal yet. One that never answers is ended all the same.
        if let Err(error) = self.processes(call) {
            tracing::debug!("{error}");
        }
        signal(master, Signal::SIGUSR1)?;
        let until = Instant::now() + drain;
        while self.is_ours(master) && Instant::now() < until && call.sleep(STEP) {}
        for last in [Signal::SIGTERM, Signal::SIGKILL] {
            if !self.is_ours(master) {
                return Ok(());
            }
            signal(master, last)?;
            let until = Instant::now() + COMMAND;
            while self.is_ours(master) && Instant::now() < until && call.sleep(STEP) {}
        }
        if self.is_ours(master) {
            Err(Error::retry(format_args!("HAProxy (process {master}) does not end")))
        } else {
            Ok(())
        }
    }

    /// Ends a master whose worker is gone.
    fn clean_up(&self, call: &Call) -> Result<(), Error> {
        match self.control.info(COMMAND.min(call.remaining())) {
            Err(error) if is_gone(&error) => self.stop(Duration::ZERO, call),
            Err(error) => Err(Error::retry(format_args!("HAProxy runs and does not answer: {error}"))),
            Ok(_) => self.stop(Duration::ZERO, call),
        }
    }

    /// The master, if it runs.
    fn master(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.pid_path()).ok()?.trim().parse().ok()?;
        self.is_ours(pid).then_some(pid)
    }

    /// Whether this process is an HAProxy with our configuration. A process id may be somebody else's by now.
    fn is_ours(&self, pid: u32) -> bool {
        let process = i32::try_from(pid).ok().and_then(|pid| procfs::process::Process::new(pid).ok());
        let zombie = |process: &procfs::process::Process| process.stat().is_ok_and(|stat| stat.state == 'Z');
        let arguments = process.filter(|process| !zombie(process)).and_then(|process| process.cmdline().ok());
        let config = self.config_path();
        arguments.is_some_and(|arguments| arguments.iter().any(|argument| Path::new(argument) == config))
    }

    fn pid_path(&self) -> PathBuf {
        self.dir.join("pid")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.dir).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null());
        command
    }
}

/// Whether it says that nobody is at the other end of a socket.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn signal(pid: u32, signal: Signal) -> Result<(), Error> {
    let pid = i32::try_from(pid).map_err(Error::retry)?;
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(Error::retry(format_args!("failed to signal HAProxy (process {pid}): {error}"))),
    }
}

fn find(program: &Path) -> Result<PathBuf, Error> {
    find_program(program).ok_or_else(|| {
        Error::invalid(format_args!(
            "no program {} in PATH: install the package haproxy (2.6 or later), or give its path as haproxy in the file of --backend-config",
            program.display()
        ))
    })
}

/// User and group of HAProxy's workers. `None`: those that LBEX runs as, which is not root.
pub fn owner(user: Option<&str>) -> Result<Option<(u32, u32)>, Error> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let named = |name: &str| {
        let found = User::from_name(name).map_err(|error| Error::invalid(format_args!("user {name}: {error}")))?;
        Ok::<_, Error>(found.map(|user| (user.uid.as_raw(), user.gid.as_raw())))
    };
    if let Some(name) = user {
        let found = named(name)?;
        return if found.is_some() { Ok(found) } else { Err(Error::invalid(format_args!("there is no user {name}"))) };
    }
    match named("haproxy")? {
        Some(owner) => Ok(Some(owner)),
        None => named("nobody"),
    }
}

/// What is wrong, of all that HAProxy says, on one line.
pub(crate) fn alerts(words: &str) -> String {
    let alerts = words.lines().filter(|line| line.starts_with("[ALERT]")).map(said);
    let alerts: Vec<&str> = alerts.take(3).collect();
    if alerts.is_empty() { words.trim().replace('\n', "; ") } else { alerts.join("; ") }
}

/// `[ALERT]    (123) : config : words`, without what stands before the words.
fn said(line: &str) -> &str {
    let line = line.split_once(") : ").map_or(line, |(_, rest)| rest);
    line.strip_prefix("config : ").unwrap_or(line)
}

/// The lines that HAProxy finds wrong, with why: `parsing [PATH:LINE] : why`.
pub(crate) fn wrong_lines(words: &str) -> Vec<(usize, String)> {
    let wrong = |line: &str| {
        let (place, why) = said(line).strip_prefix("parsing [")?.split_once("] : ")?;
        Some((place.rsplit_once(':')?.1.parse().ok()?, why.trim_end_matches('.').to_owned()))
    };
    words.lines().filter(|line| line.starts_with("[ALERT]")).filter_map(wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_haproxy_finds_wrong_is_read() {
        let words = "[NOTICE]   (32296) : haproxy version is 2.6.12-1+deb12u4\n\
            [ALERT]    (32296) : config : parsing [/a/check.cfg:3] : timer overflow in argument '3000000000' to 'timeout client'\n\
            [ALERT]    (32296) : config : Error(s) found in configuration file : /a/check.cfg\n";
        let line = (3, "timer overflow in argument '3000000000' to 'timeout client'".to_owned());
        assert_eq!(wrong_lines(words), [line]);
        assert!(alerts(words).starts_with("parsing [/a/check.cfg:3] : timer"), "{}", alerts(words));
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Program::find(Path::new("no-such-haproxy"), dir.path()).unwrap_err().to_string();
        assert!(error.contains("no program no-such-haproxy in PATH: install the package haproxy"), "{error}");
        let error = Program::find(Path::new("/bin/true"), dir.path()).unwrap_err().to_string();
        assert_eq!(error, "/bin/true -v does not say that it is HAProxy");
        let long = dir.path().join("x".repeat(80));
        let error = Program::find(Path::new("haproxy"), &long).unwrap_err().to_string();
        assert!(error.contains("give one as run_dir"), "{error}");
    }
}
