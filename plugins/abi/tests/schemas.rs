//! `plugins/schemas` is what the types say. `LBEX_WRITE_SCHEMAS=1` writes it anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn the_schemas_that_are_checked_in_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas");
    let write = std::env::var_os("LBEX_WRITE_SCHEMAS").is_some_and(|value| value == "1");
    let mut names = BTreeSet::new();
    for (name, schema) in lbex_plugin_abi::schemas::all() {
        let path = folder.join(&name);
        let wanted = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if write {
            fs::write(&path, &wanted).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, wanted, "{name} is not current: run this test with LBEX_WRITE_SCHEMAS=1");
        names.insert(name);
    }
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), names, "files in plugins/schemas");
}
