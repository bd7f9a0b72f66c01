//! The NGINX builds that end-to-end tests run on, and the NGINX processes of a folder.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::programs;

/// Which NGINX LBEX runs: tests of traffic run on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nginx {
    /// The one inside the LBEX binary.
    Embedded,
    /// The machine's, for instance `/usr/sbin/nginx` of the Debian package.
    System,
    /// The embedded one's version and configuration without LBEX's changes: an NGINX that takes pushed endpoints as any other does.
    Stock,
}

impl Nginx {
    /// The value for LBEX's `--nginx`: `embedded`, or a path.
    ///
    /// Fails where the machine has none: run `tests/tools/install.sh`.
    pub fn flag(self) -> Result<String> {
        Ok(match self {
            Self::Embedded => "embedded".to_owned(),
            Self::System => Self::system_path()?.display().to_string(),
            Self::Stock => Self::stock_path()?.display().to_string(),
        })
    }

    /// The path of the machine's NGINX.
    ///
    /// Fails where there is none: run `tests/tools/install.sh`.
    pub fn system_path() -> Result<PathBuf> {
        programs::find("nginx")
    }

    /// The path of an NGINX of the embedded one's version and configuration, without LBEX's changes.
    ///
    /// Fails where it was not built yet: run `tests/tools/install.sh stock-nginx`.
    pub fn stock_path() -> Result<PathBuf> {
        programs::stock_nginx()
    }
}

/// Makes two tests of one function, `NAME::embedded` and `NAME::system`.
///
/// The function is `async fn NAME(nginx: Nginx) -> anyhow::Result<()>`, in the same module.
///
/// ```
/// use lbex_test_harness::{nginx::Nginx, on_each_nginx};
///
/// async fn carries_tcp(nginx: Nginx) -> anyhow::Result<()> {
///     // start LBEX with `--nginx` and `nginx.flag()?`, send packets, look at who answers
/// #   let _ = nginx;
///     Ok(())
/// }
/// on_each_nginx!(carries_tcp);
/// ```
#[macro_export]
macro_rules! on_each_nginx {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn embedded() -> ::anyhow::Result<()> {
                super::$name($crate::nginx::Nginx::Embedded).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn system() -> ::anyhow::Result<()> {
                super::$name($crate::nginx::Nginx::System).await
            }
        }
    )+};
}

/// An NGINX process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NginxProcess {
    /// Its process id.
    pub pid: u32,
    /// Its title: `nginx: master process ...`, `nginx: worker process`, `nginx: worker process is shutting down`.
    pub title: String,
}

impl NginxProcess {
    /// Whether it is a master.
    pub fn is_master(&self) -> bool {
        self.title.starts_with("nginx: master process")
    }

    /// Whether it is a worker that takes no new connections any more.
    pub fn is_shutting_down(&self) -> bool {
        self.title.contains("is shutting down")
    }

    /// Whether it only checks a configuration (`nginx -t`) or says what it is (`nginx -V`), and serves nobody.
    pub fn is_check(&self) -> bool {
        self.title.split(' ').any(|word| ["-t", "-V"].contains(&word))
    }
}

/// The NGINX processes that run from a folder or have a file of it open, masters and workers, in the order of
/// their ids. Workers whose master was killed are found too.
pub fn processes_of(folder: &Path) -> Vec<NginxProcess> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut processes: Vec<_> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| is_nginx(*pid) && uses(*pid, folder))
        .map(|pid| NginxProcess { pid, title: title(pid) })
        // One that has just ended has none any more, one that just begins has none yet.
        .filter(|process| !process.title.is_empty())
        .collect();
    processes.sort_by_key(|process| process.pid);
    processes
}

fn is_nginx(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.to_string_lossy().contains("nginx"))
}

fn uses(pid: u32, folder: &Path) -> bool {
    let is_inside = |link: PathBuf| std::fs::read_link(link).is_ok_and(|target| target.starts_with(folder));
    let process = PathBuf::from(format!("/proc/{pid}"));
    is_inside(process.join("exe"))
        || is_inside(process.join("cwd"))
        || std::fs::read_dir(process.join("fd")).is_ok_and(|files| files.flatten().any(|file| is_inside(file.path())))
}

fn title(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}
