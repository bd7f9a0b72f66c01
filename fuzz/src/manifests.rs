//! A manifest file with anything in it: what cannot be used is told, in one line each, and the rest can be planned.

use lbex::source::manifests::load;
use lbex_core::snapshot::Snapshot;

use super::write;

/// A manifest file with these contents.
pub fn manifests(bytes: &[u8]) {
    let name = if bytes.first() == Some(&b'{') { "objects.json" } else { "objects.yaml" };
    let path = write(name, bytes);
    let loaded = load(&[path], &[]);
    for problem in &loaded.problems {
        let told = problem.to_string();
        assert!(!told.contains(char::is_control) && told.len() < 4000, "{told:?}");
    }
    let mut cluster = Snapshot::default();
    loaded.into_changes().into_iter().for_each(|change| drop(cluster.apply(change)));
}
