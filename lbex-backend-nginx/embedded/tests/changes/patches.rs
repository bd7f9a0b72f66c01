//! How the build script applies patches.

use std::fs;
use std::path::Path;

#[path = "../../patches.rs"]
mod applying;

use applying::{Change, apply, changes_in};

const SOURCE: &str = "one\ntwo\nthree\nfour\nfive\n";

fn applied(patch: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("src")).expect("a folder");
    fs::write(folder.path().join("src/file.c"), SOURCE).expect("written");
    let path = folder.path().join("07-some-change.patch");
    fs::write(&path, patch).expect("written");
    apply(&Change { path, name: "some-change".to_owned() }, folder.path())?;
    Ok(fs::read_to_string(folder.path().join("src/file.c")).expect("read"))
}

fn diff(context: &str) -> String {
    format!("Why: a reason\n\n--- a/src/file.c\n+++ b/src/file.c\n@@ -1,3 +1,4 @@\n {context}\n+new\n three\n four\n")
}

#[test]
fn a_patch_that_fits_is_applied_and_its_text_is_skipped() {
    assert_eq!(applied(&diff("two")).expect("it fits"), "one\ntwo\nnew\nthree\nfour\nfive\n");
}

#[test]
fn a_patch_that_does_not_fit_is_named_with_the_file() {
    for context in ["2", "two ", "Two"] {
        let error = applied(&diff(context)).expect_err("it does not fit");
        assert!(error.contains("07-some-change.patch does not apply to src/file.c"), "{error}");
    }
    let error = applied(&diff("two").replace("file.c", "gone.c")).expect_err("no such file");
    assert!(error.contains("07-some-change.patch changes src/gone.c"), "{error}");
}

#[test]
fn a_patch_without_a_change_is_refused() {
    assert!(applied("Why: a reason\n").is_err());
}

#[test]
fn the_changes_are_ordered_and_a_file_with_another_name_is_refused() {
    let names =
        |folder: &Path| changes_in(folder).map(|changes| changes.into_iter().map(|c| c.name).collect::<Vec<_>>());
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("patches");
    let all = [
        "immediate-push",
        "hash-by-address",
        "retry-after-change",
        "quiet-when-empty",
        "move-udp-sessions",
        "answer-on-exit",
    ];
    assert_eq!(names(&own).expect("LBEX's own"), all);

    for name in ["1-x.patch", "01-x.diff", "01-.patch", "01-a b.patch", "README"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join(name), "").expect("written");
        let error = names(folder.path()).expect_err(name);
        assert!(error.contains("NN-NAME.patch"), "{error}");
    }
}

#[test]
fn each_patch_says_why_and_what_fails_without_it() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("patches");
    for change in changes_in(&own).expect("LBEX's own") {
        let text = fs::read_to_string(&change.path).expect("read");
        for heading in ["\nWhy: ", "\nStock NGINX: ", "\nWith it", "\nUpstream: ", "\nFails without it: "] {
            assert!(text.contains(heading), "{} lacks {heading:?}", change.path.display());
        }
    }
}
