//! Programs that a plugin runs.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::{Call, Error};

/// How often a program that runs is looked at.
const STEP: Duration = Duration::from_millis(2);

/// Where a system's programs are that are not everybody's, whatever `PATH` says.
const SYSTEM: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A program that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it wrote to its standard output and its standard error, in the order in which it did.
    pub said: String,
}

impl Ended {
    /// What it said, on one line of 500 characters at the most; `nothing` where it said nothing.
    pub fn in_short(&self) -> String {
        let said = self.said.split_whitespace().collect::<Vec<_>>().join(" ");
        if said.is_empty() { "nothing".to_owned() } else { said.chars().take(500).collect() }
    }
}

impl Call {
    /// Runs a program to its end, or until the call [is over](Self::is_over): then it is killed.
    ///
    /// What it says goes through a file. It may leave a daemon behind, which would keep a pipe open.
    ///
    /// # Errors
    /// [`Error::Retry`], with its name: it cannot be run, or took longer than the call.
    pub fn run(&self, mut command: Command) -> Result<Ended, Error> {
        let name = Path::new(command.get_program()).display().to_string();
        let failed = |what: &str, error: std::io::Error| Error::retry(format_args!("failed to {what} {name}: {error}"));
        let mut said = tempfile::tempfile().map_err(|error| failed("make a temporary file for", error))?;
        let clones = said.try_clone().and_then(|out| Ok((out, said.try_clone()?)));
        let (out, err) = clones.map_err(|error| failed("share a file with", error))?;
        let mut child = command.stdout(out).stderr(err).spawn().map_err(|error| failed("run", error))?;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| failed("wait for", error))? {
                break status;
            }
            if !self.sleep(STEP) {
                child.kill().and_then(|()| child.wait()).map_err(|error| failed("end", error))?;
                return Err(Error::retry(format_args!("{name} took too long")));
            }
        };
        let mut text = Vec::new();
        said.rewind()
            .and_then(|()| said.read_to_end(&mut text))
            .map_err(|error| failed("read what was said by", error))?;
        Ok(Ended { status, said: String::from_utf8_lossy(&text).into_owned() })
    }
}

/// Where a program is: an absolute path as it is, anything else in `PATH` and where a system's programs are. `None`: nowhere.
pub fn find_program(program: &Path) -> Option<PathBuf> {
    if program.is_absolute() {
        return Some(program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM.map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_it_says_is_told_in_its_order_and_a_daemon_that_it_leaves_is_not_waited_for() {
        let call = Call::with_timeout(Duration::from_secs(60));
        let ended = call.run(shell("echo one; echo two >&2; sleep 0.3 & exit 3")).unwrap();
        assert_eq!((ended.said.as_str(), ended.in_short().as_str()), ("one\ntwo\n", "one two"));
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(call.run(shell("exit 0")).unwrap().in_short(), "nothing");
    }

    #[test]
    fn what_takes_longer_than_the_call_is_ended_and_what_cannot_be_run_is_named() {
        let call = Call::with_timeout(Duration::from_millis(50));
        assert_eq!(call.run(shell("exec sleep 60")).unwrap_err().to_string(), "/bin/sh took too long");
        let error = call.run(Command::new("/no/such")).unwrap_err().to_string();
        assert!(error.starts_with("failed to run /no/such: "), "{error}");
    }

    #[test]
    fn programs_are_found_in_path_and_absolute_ones_are_believed() {
        assert!(find_program(Path::new("sh")).is_some_and(|path| path.is_absolute()));
        assert_eq!(find_program(Path::new("no-such-program")), None);
        assert_eq!(find_program(Path::new("/no/such")), Some(PathBuf::from("/no/such")));
    }
}
