//! Everything in LBEX that reads what others wrote, each as a function that takes any bytes and panics where something is wrong.
//! `fuzz_targets` hands them to libFuzzer; `tests/fuzz.rs` runs them over the seeds and what comes of changing those.

pub mod annotations;
pub mod manifests;
pub mod plugin_documents;
pub mod push_question;
pub mod push_table;
pub mod settings;
pub mod state;

use std::path::{Path, PathBuf};

/// A target: what it is called, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 7] = [
    ("annotations", annotations::annotations),
    ("manifests", manifests::manifests),
    ("plugin_documents", plugin_documents::plugin_documents),
    ("push_question", push_question::push_question),
    ("push_table", push_table::push_table),
    ("settings", settings::settings),
    ("state", state::state),
];

thread_local! {
    /// A folder in memory, gone with the thread.
    static SCRATCH: tempfile::TempDir = {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        folder.expect("a folder for inputs")
    };
}

/// This thread's folder for inputs that have to be files.
fn scratch() -> PathBuf {
    SCRATCH.with(|folder| folder.path().to_owned())
}

/// Writes a file into it; its path.
fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch().join(name);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    std::fs::write(&path, bytes).expect("a file");
    path
}

/// Takes values out of an input, one after the other.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    /// The next byte; `None`: that was all.
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}
