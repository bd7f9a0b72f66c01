//! HAProxy's command sockets: the worker's, for what it serves, and the master's, for its processes.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::render::DESCRIPTION;

/// A line of commands may be as long as a buffer of HAProxy, 16 KiB.
const LINE: usize = 12 * 1024;

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its process.
    pub pid: u32,
    /// HAProxy's version.
    pub version: String,
    /// Which layout of LBEX's it serves; `None`: it serves something else.
    pub layout: Option<String>,
    /// Clients' connections.
    pub connections: u64,
    /// How many it takes.
    pub max_connections: u64,
}

/// The processes of an HAProxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processes {
    /// The master.
    pub master: u32,
    /// How often it was reloaded.
    pub reloads: u32,
    /// How many reloads of these failed since the last that did not.
    pub failed: u32,
    /// Workers that take clients.
    pub workers: Vec<u32>,
    /// Workers that finish their connections.
    pub old: Vec<u32>,
}

/// Both sockets of an HAProxy that may run or not.
#[derive(Debug, Clone)]
pub struct Control {
    /// The worker's.
    pub worker: PathBuf,
    /// The master's.
    pub master: PathBuf,
}

impl Control {
    /// Asks the worker for several things, in as few lines as they fit in. Each answer ends with an empty line.
    pub fn ask(&self, commands: &[String], timeout: Duration) -> io::Result<String> {
        let mut answers = String::new();
        let mut line = String::new();
        for command in commands {
            if !line.is_empty() && line.len() + command.len() > LINE {
                answers += &ask(&self.worker, &line, timeout)?;
                line.clear();
            }
            if !line.is_empty() {
                line.push(';');
            }
            line.push_str(command);
        }
        if !line.is_empty() {
            answers += &ask(&self.worker, &line, timeout)?;
        }
        Ok(answers)
    }

    /// What the worker that takes clients says of itself.
    pub fn info(&self, timeout: Duration) -> io::Result<Info> {
        info(&ask(&self.worker, "show info", timeout)?).ok_or_else(|| unexpected("show info"))
    }

    /// The processes, as the master knows them.
    pub fn processes(&self, timeout: Duration) -> io::Result<Processes> {
        processes(&ask(&self.master, "show proc\nquit", timeout)?).ok_or_else(|| unexpected("show proc"))
    }

    /// The clients' connections of an old worker.
    pub fn old_connections(&self, pid: u32, timeout: Duration) -> io::Result<u64> {
        let answer = ask(&self.master, &format!("@!{pid} show info\nquit"), timeout)?;
        info(&answer).map(|info| info.connections).ok_or_else(|| unexpected("show info"))
    }
}

fn unexpected(command: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("HAProxy answers {command:?} with something else"))
}

/// A worker closes after one line, the master when it is told to.
fn ask(socket: &Path, line: &str, timeout: Duration) -> io::Result<String> {
    let timeout = timeout.max(Duration::from_millis(1));
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn info(text: &str) -> Option<Info> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    Some(Info {
        pid: value("Pid")?.parse().ok()?,
        version: value("Version")?.to_owned(),
        layout: value("description").and_then(|text| text.strip_prefix(DESCRIPTION)).map(ToOwned::to_owned),
        connections: value("CurrConns")?.parse().ok()?,
        max_connections: value("Maxconn")?.parse().ok()?,
    })
}

fn processes(text: &str) -> Option<Processes> {
    let mut found = Processes::default();
    let mut old = false;
    for line in text.lines() {
        if line.starts_with('#') {
            old = line.starts_with("# old");
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [pid, "master", reloads, "[failed:", failed, ..] => {
                found.master = pid.parse().ok()?;
                found.reloads = reloads.parse().ok()?;
                found.failed = failed.trim_end_matches(']').parse().ok()?;
            }
            [pid, "worker", ..] => {
                let list = if old { &mut found.old } else { &mut found.workers };
                list.push(pid.parse().ok()?);
            }
            _ => {}
        }
    }
    (found.master != 0).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_says_is_read() {
        let text = "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nPid: 28279\nMaxconn: 9979\nCurrConns: 3\nnode: vm\ndescription: lbex 0a1b\n\n";
        let expected = Info {
            pid: 28279,
            version: "2.6.12-1+deb12u4".to_owned(),
            layout: Some("0a1b".to_owned()),
            connections: 3,
            max_connections: 9979,
        };
        assert_eq!(info(text), Some(expected));
        assert_eq!(info(&text.replace("lbex ", "web ")).unwrap().layout, None);
        assert_eq!(info("Unknown command.\n"), None);
    }

    #[test]
    fn processes_are_read() {
        let text = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
            10471           master          2 [failed: 1]   0d00h10m16s     2.6.12-1+deb12u4\n\
            # workers\n28279           worker          0               0d00h00m01s     2.6.12-1+deb12u4\n\
            # old workers\n10473           worker          1               0d00h10m12s     2.6.12-1+deb12u4\n# programs\n\n";
        let expected = Processes { master: 10471, reloads: 2, failed: 1, workers: vec![28279], old: vec![10473] };
        assert_eq!(processes(text), Some(expected));
        assert_eq!(processes(""), None);
    }
}
