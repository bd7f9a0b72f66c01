//! Looks for an NGINX, and at what it can do. Nothing is written.

use std::env;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::version::StreamBuild;
use super::{
    BinaryError, NginxBinary, NginxCapabilities, NginxChoice, NginxVersion, OLDEST_VERSION, Origin, StreamSupport,
    VersionReport,
};
use crate::embedded::{Embedded, embedded};

/// Where packages put NGINX; an ordinary user's `PATH` often lacks these.
const USUAL_FOLDERS: &[&str] = &["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/bin", "/usr/local/nginx/sbin"];

/// How long `nginx -V` may take.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// How long a program that was just written may be open for writing: whatever this process started meanwhile has the file too, until
/// it is executed.
const BUSY: Duration = Duration::from_secs(2);

/// An NGINX that was found and not yet installed: [`Candidate::install`] makes it ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// The one inside LBEX.
    Embedded {
        /// Its bytes and version.
        embedded: Embedded,
        /// Whether the system's may be taken if this one does not run on this host (`--nginx auto`).
        or_system: bool,
    },
    /// One that is installed on the host.
    System(NginxBinary),
}

impl Candidate {
    /// Its version.
    pub fn version(&self) -> NginxVersion {
        match self {
            Self::Embedded { embedded, .. } => embedded_report(embedded).version,
            Self::System(binary) => binary.version,
        }
    }

    /// What it can do.
    pub fn capabilities(&self) -> NginxCapabilities {
        match self {
            Self::Embedded { embedded, .. } => embedded_report(embedded).capabilities(),
            Self::System(binary) => binary.capabilities,
        }
    }

    /// How it has the stream module.
    pub fn stream(&self) -> StreamSupport {
        match self {
            Self::Embedded { .. } => StreamSupport::BuiltIn,
            Self::System(binary) => binary.stream.clone(),
        }
    }
}

/// What the embedded NGINX said of itself when it was built. One whose text cannot be read is taken for the least.
fn embedded_report(embedded: &Embedded) -> VersionReport {
    VersionReport::parse(embedded.report).unwrap_or_else(|| VersionReport {
        version: embedded.version.parse().unwrap_or(OLDEST_VERSION),
        banner: format!("nginx/{}", embedded.version),
        configure_arguments: Vec::new(),
    })
}

/// Finds the NGINX of `--nginx`; an installed one is asked for its version and modules (`nginx -V`).
pub async fn find(choice: &NginxChoice) -> Result<Candidate, BinaryError> {
    match (choice, embedded()) {
        (NginxChoice::Auto, Some(embedded)) => Ok(Candidate::Embedded { embedded, or_system: true }),
        (NginxChoice::Embedded, Some(embedded)) => Ok(Candidate::Embedded { embedded, or_system: false }),
        (NginxChoice::Embedded, None) => Err(BinaryError::NotEmbedded),
        (NginxChoice::Auto | NginxChoice::System, _) => Ok(Candidate::System(find_system().await?)),
        (NginxChoice::Path(path), _) => Ok(Candidate::System(inspect(&program(path)?, Origin::System).await?)),
    }
}

/// The system's NGINX.
pub(super) async fn find_system() -> Result<NginxBinary, BinaryError> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let path = env::var_os("PATH").unwrap_or_default();
    for folder in env::split_paths(&path).chain(USUAL_FOLDERS.iter().map(PathBuf::from)) {
        if folder.is_absolute() && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    match folders.iter().map(|folder| folder.join("nginx")).find(|path| is_program(path)) {
        Some(path) => inspect(&path, Origin::System).await,
        None => Err(BinaryError::NotFound { looked_in: folders }),
    }
}

/// Runs `nginx -V` and judges the answer.
pub(super) async fn inspect(path: &Path, origin: Origin) -> Result<NginxBinary, BinaryError> {
    let report = read_version(path).await?;
    let path = path.to_owned();
    if report.version < OLDEST_VERSION {
        return Err(BinaryError::TooOld { path, version: report.version });
    }
    let stream = match report.stream() {
        StreamBuild::BuiltIn => StreamSupport::BuiltIn,
        StreamBuild::Absent => {
            return Err(BinaryError::NoStream { path, version: report.version });
        }
        StreamBuild::Dynamic(module) if module.is_file() => StreamSupport::Dynamic { module },
        StreamBuild::Dynamic(module) => return Err(BinaryError::ModuleMissing { path, module }),
    };
    Ok(NginxBinary {
        path,
        origin,
        version: report.version,
        capabilities: report.capabilities(),
        banner: report.banner,
        configure_arguments: report.configure_arguments,
        stream,
    })
}

async fn read_version(path: &Path) -> Result<VersionReport, BinaryError> {
    let mut command = tokio::process::Command::new(path);
    command.arg("-V").env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let begin = Instant::now();
    let answer = async {
        loop {
            let output = command.output().await;
            let is_busy = output.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ExecutableFileBusy);
            if !is_busy || begin.elapsed() >= BUSY {
                return output;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let output = tokio::time::timeout(VERSION_LIMIT, answer)
        .await
        .map_err(|_| BinaryError::TimedOut { path: path.to_owned(), limit: VERSION_LIMIT })?
        .map_err(|source| BinaryError::Run { path: path.to_owned(), source })?;
    let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stdout));
    VersionReport::parse(&text)
        .ok_or_else(|| BinaryError::NotNginx { path: path.to_owned(), output: text.chars().take(400).collect() })
}

/// The path of `--nginx PATH`, absolute, if a program is there.
fn program(path: &Path) -> Result<PathBuf, BinaryError> {
    let refuse = |reason: String| BinaryError::NotAProgram { path: path.to_owned(), reason };
    let metadata = path.metadata().map_err(|e| refuse(e.to_string()))?;
    if !metadata.is_file() {
        return Err(refuse("it is not a file".to_owned()));
    }
    if !is_program(path) {
        return Err(refuse("it is not executable".to_owned()));
    }
    std::path::absolute(path).map_err(|e| refuse(e.to_string()))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A program that prints `text` where NGINX prints its version.
    fn pretender(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("nginx");
        fs::write(&path, format!("#!/bin/sh\ncat >&2 <<'END'\n{text}\nEND\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        (folder, path)
    }

    async fn error_of(text: &str) -> String {
        let (_folder, path) = pretender(text);
        find(&NginxChoice::Path(path)).await.expect_err("it is refused").to_string()
    }

    #[tokio::test]
    async fn what_is_missing_is_named_with_the_package_that_has_it() {
        let version = "nginx version: nginx/1.22.1\nconfigure arguments: --prefix=/nowhere";
        let missing = error_of(&format!("{version} --with-stream=dynamic")).await;
        assert!(missing.contains("/nowhere/modules/ngx_stream_module.so is missing"), "{missing}");
        assert!(missing.contains("libnginx-mod-stream"), "{missing}");
        let absent = error_of(version).await;
        assert!(absent.contains("without the stream module"), "{absent}");
    }

    #[tokio::test]
    async fn an_old_nginx_and_another_program_are_refused() {
        let old = error_of("nginx version: nginx/1.14.2\nconfigure arguments: --with-stream").await;
        assert!(old.contains("NGINX 1.14.2; LBEX needs 1.18.0 or later"), "{old}");
        let other = error_of("Apache/2.4").await;
        assert!(other.contains("does not answer as NGINX does"), "{other}");
    }

    #[tokio::test]
    async fn a_path_that_is_no_program_is_refused_with_the_flag_and_the_reason() {
        let missing = find(&NginxChoice::Path("/nowhere/nginx".into())).await.expect_err("not there").to_string();
        assert!(missing.starts_with("--nginx /nowhere/nginx: "), "{missing}");
        let folder = find(&NginxChoice::Path("/tmp".into())).await.expect_err("a folder").to_string();
        assert!(folder.contains("not a file"), "{folder}");
    }

    #[test]
    fn least_time_and_resolve_depend_on_version_or_plus() {
        let of = |major, minor, patch, plus: bool| {
            let plus = if plus { " (nginx-plus-r36)" } else { "" };
            let output = format!("nginx version: nginx/{major}.{minor}.{patch}{plus}");
            VersionReport::parse(&output).expect("it is NGINX").capabilities()
        };
        assert!(!of(1, 30, 9, false).least_time && of(1, 31, 0, false).least_time && of(1, 21, 0, true).least_time);
        assert!(!of(1, 27, 2, false).upstream_resolve && of(1, 27, 3, false).upstream_resolve);
        assert!(!of(1, 19, 4, false).error_log_flag && of(1, 19, 5, false).error_log_flag);
    }
}
