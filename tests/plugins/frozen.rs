//! What was built with an older minor version of the ABI: `abi-1.N` holds the header and the example in C as they were then. They are
//! driven by this LBEX as its own plugins are, and this LBEX's header is compared with theirs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex::plugin::{ABI, check};
use lbex_core::backend::{Action, ProxyBackend};
use lbex_core::desired::Delta;
use lbex_test_harness::Scratch;
use serde_json::Value;

use crate::support::{Bench, PATIENT, example_of, root};

/// The folders of versions that are frozen, with their minor version.
fn frozen() -> Result<Vec<(u16, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root("tests/plugins"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(minor) = name.strip_prefix(&format!("abi-{}.", ABI.0)) {
            found.push((minor.parse()?, path));
        }
    }
    found.sort();
    let minors: Vec<u16> = found.iter().map(|(minor, _)| *minor).collect();
    let wanted: Vec<u16> = (0..=ABI.1).collect();
    ensure!(minors == wanted, "of ABI {} the minor versions {wanted:?} have to be frozen, and {minors:?} are", ABI.0);
    Ok(found)
}

fn server_of(file: &Path, service: &str) -> Result<Option<String>> {
    let written: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let address = &written["services"][service]["listeners"][0]["servers"][0]["address"];
    Ok(address.as_str().map(ToOwned::to_owned))
}

/// What LBEX does with a plugin, once: a whole state, deltas, a look, the same again, an end, and another beginning.
pub(crate) async fn drive(minor: u16, folder: &Path) -> Result<()> {
    let scratch = Scratch::new("frozen")?;
    let target = scratch.join("desired.json");
    let library = |into: &Path, _: &[&str]| example_of(into, folder);
    let mut bench = Bench::open(library, &target.display().to_string()).await??;
    ensure!(bench.backend.info().abi == (ABI.0, minor), "{}", bench.backend.info());
    ensure!(!bench.backend.observe().await?.healthy, "nothing is applied yet");

    let delta = bench.change("web", 7);
    let report = bench.backend.apply(&bench.desired, &delta).await?;
    ensure!(report.action == Action::Started && report.generation == 1, "{report:?}");
    ensure!(server_of(&target, "default/web")?.as_deref() == Some("10.0.0.7"));
    let delta = bench.change("api", 9);
    let report = bench.backend.apply(&bench.desired, &delta).await?;
    ensure!(report.action == Action::Reloaded && report.refused.is_empty(), "{report:?}");
    ensure!(server_of(&target, "default/api")?.as_deref() == Some("10.0.0.9"));
    ensure!(server_of(&target, "default/web")?.as_deref() == Some("10.0.0.7"), "a delta leaves the rest alone");

    // Somebody else changes the file: it is seen, and put right by a delta without Services.
    std::fs::remove_file(&target)?;
    ensure!(!bench.backend.observe().await?.in_step);
    let nothing = Delta { from: bench.desired.generation, to: bench.desired.generation, changes: BTreeMap::new() };
    bench.backend.apply(&bench.desired, &nothing).await?;
    let observed = bench.backend.observe().await?;
    ensure!(observed.healthy && observed.in_step, "{observed:?}");
    ensure!(server_of(&target, "default/api")?.as_deref() == Some("10.0.0.9"));
    // The example cannot end what it has, and LBEX goes on without it.
    bench.backend.stop(std::time::Duration::ZERO).await?;

    let config = scratch.join("config");
    std::fs::write(&config, format!("{}\n", target.display()))?;
    let library = example_of(scratch.path(), folder)?;
    let checked = check::run(&library, Some(&config), PATIENT).await?;
    ensure!(checked.passed(), "{checked}");
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_was_built_with_a_frozen_header_is_driven_as_any_other() -> Result<()> {
    // That of 1.0 has a test of its own, in `versions`.
    for (minor, folder) in frozen()?.into_iter().filter(|(minor, _)| *minor > 0) {
        drive(minor, &folder).await.with_context(|| format!("ABI {}.{minor}", ABI.0))?;
    }
    Ok(())
}

/// A header: its numbers by name, and the members of its tables in their order, each as it is declared.
struct Header {
    numbers: BTreeMap<String, String>,
    tables: BTreeMap<String, Vec<String>>,
}

impl Header {
    fn read(folder: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(folder.join("lbex_plugin.h"))?;
        let mut plain = String::new();
        let mut rest = text.as_str();
        while let Some((code, comment)) = rest.split_once("/*") {
            plain += code;
            rest = comment.split_once("*/").context("a comment that ends")?.1;
        }
        plain += rest;
        let define = |line: &str| {
            let (name, value) = line.strip_prefix("#define LBEX_")?.split_once(' ')?;
            Some((format!("LBEX_{name}"), value.trim().to_owned()))
        };
        let numbers = plain.lines().filter_map(define).filter(|(name, _)| name != "LBEX_EXPORT").collect();
        let tables = plain.split("\nstruct ").skip(1).filter_map(|table| {
            let (name, rest) = table.split_once(" {")?;
            let (body, _) = rest.split_once("\n};")?;
            let words = |member: &str| member.split_whitespace().collect::<Vec<_>>().join(" ");
            Some((name.to_owned(), body.split(';').map(words).filter(|member| !member.is_empty()).collect()))
        });
        Ok(Self { numbers, tables: tables.collect() })
    }
}

#[test]
fn the_header_has_grown_at_the_tails_of_its_tables_only() -> Result<()> {
    let now = Header::read(&root("plugins/include"))?;
    for (minor, folder) in frozen()? {
        let then = Header::read(&folder)?;
        ensure!(then.tables.len() == 4 && then.numbers.len() > 12, "ABI 1.{minor}: the header is not understood");
        ensure!(then.numbers["LBEX_ABI_MINOR"] == minor.to_string());
        for (name, value) in then.numbers.iter().filter(|(name, _)| *name != "LBEX_ABI_MINOR") {
            ensure!(now.numbers.get(name) == Some(value), "{name} was {value} in ABI 1.{minor}");
        }
        for (table, members) in &then.tables {
            let found = now.tables.get(table).with_context(|| format!("struct {table} of ABI 1.{minor}"))?;
            ensure!(found.starts_with(members), "struct {table} was {members:#?} in ABI 1.{minor}, and is {found:#?}");
            let may_grow = table != "lbex_buf" && minor < ABI.1;
            ensure!(may_grow || found.len() == members.len(), "struct {table} has grown without a minor version");
        }
    }
    Ok(())
}

/// The name of a member, of a function too: `void *ctx`, `void (*cancel)(void *ctx)`.
fn member_name(member: &str) -> &str {
    let name =
        member.split_once("(*").map_or_else(|| member.rsplit([' ', '*']).next(), |(_, rest)| rest.split(')').next());
    name.unwrap_or_default()
}

/// Compiles a program that has both headers, and leaves it to C to compare them.
#[test]
fn a_compiler_lays_the_frozen_tables_out_as_those_of_today() -> Result<()> {
    for (minor, folder) in frozen()? {
        let then = Header::read(&folder)?;
        let mut source = String::new();
        then.tables.keys().for_each(|table| writeln!(source, "#define {table} frozen_{table}").unwrap_or_default());
        for function in ["lbex_plugin_query", "lbex_plugin_open"] {
            writeln!(source, "#define {function} frozen_{function}")?;
        }
        writeln!(source, "#include \"{}/lbex_plugin.h\"", folder.display())?;
        for name in then.tables.keys().map(String::as_str).chain(["lbex_plugin_query", "lbex_plugin_open"]) {
            writeln!(source, "#undef {name}")?;
        }
        then.numbers.keys().for_each(|number| writeln!(source, "#undef {number}").unwrap_or_default());
        writeln!(source, "#undef LBEX_PLUGIN_H\n#undef LBEX_EXPORT")?;
        writeln!(source, "#include \"{}/lbex_plugin.h\"", root("plugins/include").display())?;
        writeln!(source, "#define SAME(a, b) _Static_assert((a) == (b), #a \" is not \" #b)")?;
        for (table, members) in &then.tables {
            writeln!(source, "_Static_assert(sizeof(struct {table}) >= sizeof(struct frozen_{table}), \"{table}\");")?;
            for member in members.iter().map(|member| member_name(member)) {
                writeln!(
                    source,
                    "SAME(offsetof(struct frozen_{table}, {member}), offsetof(struct {table}, {member}));"
                )?;
                let size = |kind: &str| format!("sizeof(((struct {kind}{table} *)0)->{member})");
                writeln!(source, "SAME({}, {});", size("frozen_"), size(""))?;
            }
        }
        let scratch = Scratch::new("headers")?;
        std::fs::write(scratch.join("both.c"), &source)?;
        let strict = ["-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"];
        let output =
            Command::new("cc").args(strict).arg(scratch.join("both.c")).output().context("failed to run cc")?;
        ensure!(output.status.success(), "ABI 1.{minor}: {}\n{source}", String::from_utf8_lossy(&output.stderr));
        ensure!(source.contains("offsetof(struct frozen_lbex_backend, cancel)"), "{source}");
    }
    Ok(())
}
