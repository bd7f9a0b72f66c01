//! Where the programs are that tests run: `KUBEBUILDER_ASSETS`, then what `tests/tools/install.sh` built, then `PATH`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The version of Kubernetes that `tests/tools/install.sh` builds, for instance `1.36.3`.
pub fn kubernetes_version() -> Result<&'static str> {
    include_str!("../../tools/kube/go.mod")
        .lines()
        .find_map(|line| line.split_once("k8s.io/kubernetes v").map(|(_, version)| version))
        .and_then(|version| version.split_ascii_whitespace().next())
        .context("tests/tools/kube/go.mod names no version of k8s.io/kubernetes")
}

/// The path of a program by its name, for instance `kube-apiserver`, `etcd`, `nginx`, `ip`.
///
/// Fails with what to do about it: run `tests/tools/install.sh`.
pub fn find(name: &str) -> Result<PathBuf> {
    let folders = folders()?;
    folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()).with_context(|| {
        let places: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        format!("{name} is missing (looked in {}): run tests/tools/install.sh", places.join(", "))
    })
}

/// Copies a program to where everybody may run it. Another process does that: a file that this one writes is open in the programs that
/// other tests start, too, until they are executed, and nobody can run it meanwhile.
pub fn copy(program: &Path, to: &Path) -> Result<()> {
    let output = Command::new(find("install")?).args(["-m", "755"]).arg(program).arg(to).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "failed to copy {} to {}: {said}", program.display(), to.display());
    Ok(())
}

/// The path of the NGINX that is the embedded one without LBEX's changes.
pub(crate) fn stock_nginx() -> Result<PathBuf> {
    let cache = cache().context("neither LBEX_CACHE nor HOME is set")?;
    let path = cache.join(format!("nginx-stock-{}/nginx", lbex_embedded_nginx::VERSION));
    ensure!(path.is_file(), "{} is missing: run tests/tools/install.sh stock-nginx", path.display());
    Ok(path)
}

/// The library that shows programs another time than it is.
pub(crate) fn libfaketime() -> Result<PathBuf> {
    let folders = [format!("/usr/lib/{}-linux-gnu/faketime", std::env::consts::ARCH), "/usr/lib64/faketime".to_owned()];
    let paths = folders.iter().map(|folder| PathBuf::from(folder).join("libfaketimeMT.so.1"));
    paths.into_iter().find(|path| path.is_file()).with_context(|| {
        format!("libfaketimeMT.so.1 is missing (looked in {}): run tests/tools/install.sh", folders.join(", "))
    })
}

/// Where `tests/tools/install.sh` puts what it builds.
fn cache() -> Option<PathBuf> {
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".cache/lbex"));
    variable("LBEX_CACHE").map(PathBuf::from).or_else(home)
}

fn folders() -> Result<Vec<PathBuf>> {
    let built = format!("kube-v{}/bin", kubernetes_version()?);
    let cache = cache();
    let path = variable("PATH").unwrap_or_default();
    Ok(variable("KUBEBUILDER_ASSETS")
        .map(PathBuf::from)
        .into_iter()
        .chain(cache.map(|cache| cache.join(built)))
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .collect())
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
