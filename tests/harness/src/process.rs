//! Programs that end when the test does.
//!
//! A program runs below a small supervising shell (`supervisor.sh`), in a session and process group of its
//! own. The shell reads from a pipe whose other end this process alone holds: when it closes, because the
//! [`Process`] is dropped or because the test process ended in whatever way, the group is killed.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::sync::watch;

/// How long a supervising shell may take to end after it was told to, before it is killed itself.
const REAP_DEADLINE: Duration = Duration::from_secs(10);

/// How many bytes at the end of a log an error message quotes.
const TAIL_BYTES: u64 = 4096;

/// A running program. Dropping it kills the program with its process group and waits until it is gone.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    started: Option<u64>,
    log: PathBuf,
    exit: watch::Receiver<Option<ExitStatus>>,
    supervisor: Supervisor,
}

impl Process {
    /// Starts `command`, with standard output and standard error appended to the file `log`.
    ///
    /// Of `command`, the program (an absolute path), the arguments, the variables set and removed and the
    /// working folder count. `name` is for messages. A program that cannot be executed ends at once with
    /// status 126 or 127 and says so in the log.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let program = Path::new(command.get_program());
        if !program.is_absolute() {
            bail!("failed to start {name}: {} is not an absolute path", program.display());
        }
        let mut arguments = vec![log.as_os_str().to_owned()];
        arguments.extend(under_env(command));
        let (supervisor, stdout) = Supervisor::start(include_str!("supervisor.sh"), arguments)
            .with_context(|| format!("failed to start the supervisor of {name}"))?;
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        lines.read_line(&mut line).with_context(|| format!("failed to read the process id of {name}"))?;
        let pid = line
            .trim()
            .parse()
            .map(Pid::from_raw)
            .with_context(|| format!("the supervisor of {name} reported no process id but {line:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            pid,
            started: start_time(pid),
            log: log.to_owned(),
            exit: report_exit(lines),
            supervisor,
        })
    }

    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// How the program ended, or `None` while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits until the program has ended.
    ///
    /// Fails when it has not within `deadline`.
    pub async fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        let mut exit = self.exit.clone();
        let ended = tokio::time::timeout(deadline, exit.wait_for(Option::is_some)).await;
        match ended {
            Ok(Ok(status)) => status.with_context(|| format!("{} ended without a status", self.name)),
            Ok(Err(_)) => bail!("{}: the supervisor ended before it told the exit status", self.name),
            Err(_) => bail!("{} still runs after {deadline:?}; its log ends with:\n{}", self.name, self.log_tail()),
        }
    }

    /// Sends a signal to the program alone.
    ///
    /// Fails when it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.check_alive(signal)?;
        kill(self.pid, signal).with_context(|| format!("failed to send {signal} to {}", self.name))
    }

    /// Sends a signal to the program and everything it started in its process group.
    ///
    /// Fails when it has ended already.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        self.check_alive(signal)?;
        killpg(self.pid, signal).with_context(|| format!("failed to send {signal} to the group of {}", self.name))
    }

    // Process ids are used again: the start time tells whether it is still ours.
    fn check_alive(&self, signal: Signal) -> Result<()> {
        if let Some(status) = self.exit_status() {
            bail!("{signal} not sent: {} has ended ({status}); its log ends with:\n{}", self.name, self.log_tail());
        }
        if self.started.is_none() || start_time(self.pid) != self.started {
            bail!("{signal} not sent: process {} is no longer {}", self.pid, self.name);
        }
        Ok(())
    }

    /// The file with the program's output.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The end of the program's output, for error messages.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// Fails, with the end of its log, if the program has ended.
    pub fn check_running(&self) -> Result<()> {
        match self.exit_status() {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}); its log ends with:\n{}", self.name, self.log_tail()),
        }
    }

    /// Kills the program and its process group and waits until they are gone, as dropping does.
    pub fn kill(&mut self) {
        self.supervisor.end();
    }
}

/// The end of a text file: its last lines, up to 4 KiB. Says so in place of them if it cannot be read.
pub fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("({} cannot be read: {error})", path.display()))
}

/// A shell that acts when its standard input ends.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shell: Child,
    input: Option<ChildStdin>,
}

impl Supervisor {
    /// Starts `sh -c script` with `arguments`; returns it with its standard output.
    pub(crate) fn start(script: &str, arguments: Vec<OsString>) -> Result<(Self, ChildStdout)> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", script, "lbex-test-supervisor"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("failed to run /bin/sh")?;
        let input = shell.stdin.take();
        let output = shell.stdout.take().context("no standard output of /bin/sh")?;
        Ok((Self { shell, input }, output))
    }

    /// Lets go of the shell's standard input, and waits until it has done its work.
    pub(crate) fn end(&mut self) {
        drop(self.input.take());
        let since = Instant::now();
        while since.elapsed() < REAP_DEADLINE {
            match self.shell.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Ok(Some(_)) => return,
                Err(error) => {
                    eprintln!("test harness: failed to wait for a supervising shell: {error}");
                    return;
                }
            }
        }
        eprintln!("test harness: a supervising shell did not end within {REAP_DEADLINE:?} and is killed");
        if let Err(error) = self.shell.kill().and_then(|()| self.shell.wait()) {
            eprintln!("test harness: failed to kill a supervising shell: {error}");
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if self.input.is_some() {
            self.end();
        }
    }
}

/// The words for `env` that run `command` with its variables and its working folder.
fn under_env(command: &Command) -> Vec<OsString> {
    let mut words = Vec::new();
    if let Some(folder) = command.get_current_dir() {
        words.extend(["-C".into(), folder.as_os_str().to_owned()]);
    }
    for (name, _) in command.get_envs().filter(|(_, value)| value.is_none()) {
        words.extend(["-u".into(), name.to_owned()]);
    }
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            let mut word = name.to_owned();
            word.push("=");
            word.push(value);
            words.push(word);
        }
    }
    words.push(command.get_program().to_owned());
    words.extend(command.get_args().map(ToOwned::to_owned));
    words
}

/// Follows a supervisor's output for the line that tells how the program ended.
fn report_exit(lines: BufReader<ChildStdout>) -> watch::Receiver<Option<ExitStatus>> {
    let (sender, receiver) = watch::channel(None);
    std::thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            if let Some(status) = line.strip_prefix("exit ").and_then(|code| code.parse().ok()) {
                sender.send_replace(Some(exit_status(status)));
            }
        }
    });
    receiver
}

/// A shell's exit code as a status: above 128 it means a signal.
fn exit_status(code: i32) -> ExitStatus {
    if code > 128 { ExitStatus::from_raw(code - 128) } else { ExitStatus::from_raw(code << 8) }
}

/// When a process started, in clock ticks since boot: with its id, this identifies it.
fn start_time(pid: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in brackets, which may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}
