//! `make quickstart` does what it says: it ends well, and leaves neither processes nor files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The example, which `cargo test` builds beside the binary.
fn quickstart() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_lbex"));
    binary.parent().expect("the binary is in a folder").join("examples/quickstart")
}

/// Processes that have to do with `folder`: their program, working folder, or an argument is in it.
fn processes_of(folder: &Path) -> Vec<String> {
    let text = folder.to_str().expect("a temporary folder has a plain path");
    let concerned = |process: &Path| {
        let link = |name| std::fs::read_link(process.join(name)).is_ok_and(|target| target.starts_with(folder));
        let arguments = std::fs::read(process.join("cmdline")).unwrap_or_default();
        link("exe") || link("cwd") || String::from_utf8_lossy(&arguments).contains(text)
    };
    let processes = std::fs::read_dir("/proc").expect("there is a /proc").flatten().map(|entry| entry.path());
    let numbered = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
    processes.filter(numbered).filter(|path| concerned(path)).map(|path| path.display().to_string()).collect()
}

#[test]
fn the_quickstart_ends_well_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(quickstart())
        .arg(env!("CARGO_BIN_EXE_lbex"))
        .env("TMPDIR", folder.path())
        // Settings of whoever runs the tests make no difference.
        .env("LBEX_SERVICE_POOL", "elsewhere")
        .stdin(Stdio::null())
        .output()
        .expect("cargo test builds the examples");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    for answer in ["web-1", "web-2", "web-3", "ntp on node-1", "ntp on node-2"] {
        assert!(said.contains(answer), "{answer} has answered nothing:\n{said}");
    }
    assert_eq!(processes_of(folder.path()), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "files are left in the temporary folder");
}
