//! LBEX's changes to NGINX: one file each, `patches/NN-NAME.patch`, applied in the order of the numbers.
//!
//! A patch is a text that says why, then a unified diff. What it removes and what lies around that has to be in
//! the source exactly so (line numbers may differ): a patch that does not fit fails the build. `NAME` is the word
//! by which `nginx -V` says that the change is in.

use std::fs;
use std::path::{Path, PathBuf};

use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};

/// One change.
pub(crate) struct Change {
    /// Its patch file.
    pub(crate) path: PathBuf,
    /// What lies between the number and `.patch`, for instance `hash-by-address`.
    pub(crate) name: String,
}

/// The changes of a folder, in order. A file whose name is not `NN-NAME.patch` is an error: it would be left out unseen.
pub(crate) fn changes_in(folder: &Path) -> Result<Vec<Change>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("failed to read {}: {e}", folder.display()))?;
    let mut changes = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| format!("failed to read {}: {e}", folder.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(word);
        let name = name.ok_or_else(|| format!("{} is not named NN-NAME.patch", path.display()))?.to_owned();
        changes.push(Change { path, name });
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

fn word(file_name: &str) -> Option<&str> {
    let (number, name) = file_name.strip_suffix(".patch")?.split_once('-')?;
    let fits = |c: char| c.is_ascii_lowercase() || c == '-';
    (number.len() == 2 && number.parse::<u8>().is_ok() && !name.is_empty() && name.chars().all(fits)).then_some(name)
}

/// Applies a change to the source in `work`. The error names the patch, and the file that it does not fit.
pub(crate) fn apply(change: &Change, work: &Path) -> Result<(), String> {
    let text =
        fs::read_to_string(&change.path).map_err(|e| format!("failed to read {}: {e}", change.path.display()))?;
    let failed = |what: String| format!("the patch {} {what}", change.path.display());
    let mut files = 0;
    for file in PatchSet::parse(&text, ParseOptions::unidiff()) {
        let file = file.map_err(|e| failed(format!("cannot be read: {e}")))?;
        let operation = file.operation().strip_prefix(1);
        let (FileOperation::Modify { original, .. }, Some(patch)) = (operation, file.patch().as_text()) else {
            return Err(failed("does something else than changing the text of a file".to_owned()));
        };
        let target = work.join(original.as_ref());
        let source = fs::read_to_string(&target)
            .map_err(|e| failed(format!("changes {original}, which cannot be read: {e}")))?;
        let changed = diffy::apply(&source, patch)
            .map_err(|e| failed(format!("does not apply to {original} of this NGINX ({e}): it has to be adapted")))?;
        fs::write(&target, changed).map_err(|e| format!("failed to write {}: {e}", target.display()))?;
        files += 1;
    }
    if files == 0 { Err(failed("changes nothing".to_owned())) } else { Ok(()) }
}
