//! Tells the binary which commit it is built from: that of the git repository whose top level this folder is, or what
//! `LBEX_BUILD_COMMIT` says (for packagers). Anywhere else, such as in an unpacked archive, there is none.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LBEX_BUILD_COMMIT");
    if std::env::var_os("LBEX_BUILD_COMMIT").is_some_and(|commit| !commit.is_empty()) {
        return; // the compiler sees it as it is
    }
    let Some(root) = std::env::var_os("CARGO_MANIFEST_DIR") else { return };
    let root = Path::new(&root);
    // An archive may have been unpacked inside some other repository, whose commits say nothing about it.
    if !root.join(".git").exists() {
        return;
    }
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(root, &["rev-parse", "--git-path", name]) {
            let path = root.join(path);
            if path.exists() {
                println!("cargo::rerun-if-changed={}", path.display());
            }
        }
    }
    if let Some(commit) = git(root, &["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo::rustc-env=LBEX_BUILD_COMMIT={commit}");
    }
}

fn git(root: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(root).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
