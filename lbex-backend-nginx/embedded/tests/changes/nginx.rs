//! The embedded NGINX in a folder of its own.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::dns::PATIENCE;

/// Runs a program that was written just now. A process that another test starts at that time has the file open for writing until it
/// runs its own program, and the kernel refuses to run it ('text file busy').
fn once_written<T>(run: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match run() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

pub(crate) struct Nginx {
    folder: tempfile::TempDir,
    master: Child,
}

impl Nginx {
    /// Starts it; `stream` is what stands inside the block `stream`.
    pub(crate) fn start(stream: &str) -> Self {
        let folder = prepared(stream);
        let master = once_written(|| command(&folder).stdin(Stdio::null()).spawn()).expect("NGINX starts");
        Self { folder, master }
    }

    /// What `nginx -t` says to a configuration.
    pub(crate) fn test(stream: &str) -> Output {
        let folder = prepared(stream);
        once_written(|| command(&folder).arg("-t").output()).expect("NGINX runs")
    }

    /// Gives it another configuration.
    pub(crate) fn reload(&self, stream: &str) {
        write_configuration(&self.folder, stream);
        self.signal(Signal::SIGHUP);
    }

    /// The same, with another number of workers than the two that there are otherwise.
    pub(crate) fn reload_with_workers(&self, stream: &str, workers: u8) {
        write_configuration_with_workers(&self.folder, stream, workers);
        self.signal(Signal::SIGHUP);
    }

    /// Has it finish: no new clients.
    pub(crate) fn finish(&self) {
        self.signal(Signal::SIGQUIT);
    }

    /// Lines of `logs/error.log`, at level notice and above, that have `text` in them.
    pub(crate) fn errors(&self, text: &str) -> Vec<String> {
        self.lines("error.log", text)
    }

    /// Waits until `logs/info.log`, at level info and above, has so many lines with `text` in them.
    pub(crate) fn await_info(&self, text: &str, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.lines("info.log", text).len() < count {
            assert!(Instant::now() < deadline, "fewer than {count} lines with {text:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn lines(&self, file: &str, text: &str) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("logs").join(file)).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    fn signal(&self, signal: Signal) {
        let master = i32::try_from(self.master.id()).expect("a process id");
        kill(Pid::from_raw(master), signal).expect("a signal");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        let _ = self.master.wait();
        if std::thread::panicking() {
            for line in self.errors("").iter().rev().take(20).rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// An address where nothing listens, on a part of loopback that no other test uses.
pub(crate) fn free_address() -> SocketAddr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 100 + COUNT.fetch_add(1, Ordering::Relaxed), high, low);
    TcpListener::bind((ip, 0)).and_then(|listener| listener.local_addr()).expect("a free port")
}

fn prepared(stream: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["bin", "conf", "logs", "run"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    let path = executable(&folder);
    fs::write(&path, lbex_embedded_nginx::NGINX).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    write_configuration(&folder, stream);
    folder
}

fn executable(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("bin/nginx")
}

fn command(folder: &tempfile::TempDir) -> Command {
    let mut command = Command::new(executable(folder));
    command.arg("-p").arg(folder.path()).args(["-c", "conf/nginx.conf"]);
    command
}

fn write_configuration(folder: &tempfile::TempDir, stream: &str) {
    write_configuration_with_workers(folder, stream, 2);
}

fn write_configuration_with_workers(folder: &tempfile::TempDir, stream: &str, workers: u8) {
    let text = format!(
        "daemon off;\nworker_processes {workers};\nerror_log logs/error.log notice;\nerror_log logs/info.log info;\n\
         events {{ worker_connections 4096; }}\nstream {{\n{stream}\n}}\n"
    );
    fs::write(folder.path().join("conf/nginx.conf"), text).expect("written");
}
