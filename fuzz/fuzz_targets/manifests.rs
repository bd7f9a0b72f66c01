//! A manifest file with anything in it: what cannot be used is told, in one line each, and the rest can be planned.
#![no_main]

use std::sync::LazyLock;

use lbex::source::manifests::load;
use lbex_core::snapshot::Snapshot;
use lbex_fuzz::Scratch;
use libfuzzer_sys::fuzz_target;

static SCRATCH: LazyLock<Scratch> = LazyLock::new(|| Scratch::new().expect("a folder"));

fuzz_target!(|bytes: &[u8]| {
    let name = if bytes.first() == Some(&b'{') { "objects.json" } else { "objects.yaml" };
    let path = SCRATCH.write(name, bytes).expect("a file");
    let loaded = load(&[path], &[]);
    for problem in &loaded.problems {
        let told = problem.to_string();
        assert!(!told.contains(char::is_control) && told.len() < 4000, "{told:?}");
    }
    let mut cluster = Snapshot::default();
    loaded.into_changes().into_iter().for_each(|change| drop(cluster.apply(change)));
});
