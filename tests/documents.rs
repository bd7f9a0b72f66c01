//! README.md and ARCHITECTURE.md say what is so: every flag and annotation is listed, every test that is named exists. The workflows of
//! GitHub Actions do what the Makefile says, and nothing else.

use std::path::Path;

use config::{Config, File, FileFormat};
use lbex::settings::SETTINGS;
use serde_json::Value;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The part of `text` below the heading `## title`.
fn section<'a>(text: &'a str, title: &str) -> &'a str {
    let heading = format!("\n## {title}\n");
    let (_, rest) = text.split_once(&heading).unwrap_or_else(|| panic!("no section {title}"));
    rest.split("\n## ").next().unwrap_or(rest)
}

/// What stands in backquotes in `line`.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn the_readme_lists_every_flag_with_its_default_and_no_other() {
    let readme = read("README.md");
    let rows: Vec<&str> = section(&readme, "Flags").lines().filter(|l| l.starts_with("| `-")).collect();
    let name = |flag: &str| flag.trim_start_matches('-').split([' ', '=']).next().unwrap_or_default().to_owned();
    let mut missing: Vec<&str> = Vec::new();
    for setting in SETTINGS {
        let first_cell = |row: &&&str| quoted(row.split(" | ").next().unwrap_or(row)).any(|f| name(f) == setting.name);
        let Some(row) = rows.iter().find(first_cell) else {
            missing.push(setting.name);
            continue;
        };
        if let Some(default) = setting.default {
            assert!(
                row.contains(&format!("`{default}`")),
                "README.md: --{} has the default {default}: {row}",
                setting.name
            );
        }
    }
    assert!(missing.is_empty(), "README.md lacks {missing:?}");
    for flag in rows.iter().flat_map(|row| quoted(row.split(" | ").next().unwrap_or(row))) {
        assert!(SETTINGS.iter().any(|s| s.name == name(flag)), "README.md lists {flag}, which does not exist");
    }
}

#[test]
fn the_readme_lists_every_annotation() {
    let readme = read("README.md");
    let table = section(&readme, "Annotations");
    let known = lbex_core::annotations::KNOWN.into_iter().chain([lbex_core::annotations::CLASS]);
    for annotation in known {
        assert!(table.contains(&format!("| `{annotation}`")), "README.md lacks {annotation}");
    }
    assert!(table.contains(&format!("| `{}PORTNAME`", lbex_core::annotations::PORT_PREFIX)));
}

#[test]
fn the_tests_that_hold_the_invariants_exist() {
    let text = read("ARCHITECTURE.md");
    let mut count = 0;
    for row in section(&text, "Invariants").lines().filter(|l| l.starts_with("| ")) {
        let mut source = None;
        for word in quoted(row.rsplit(" | ").next().unwrap_or(row)) {
            if word.contains('/') {
                source = Some((word, read(word)));
            } else if let Some((file, code)) = &source {
                assert!(code.contains(&format!("fn {word}(")), "ARCHITECTURE.md: {file} has no test {word}");
                count += 1;
            }
        }
    }
    assert!(count > 10, "only {count} tests are named");
}

#[test]
fn files_and_folders_that_documents_link_to_exist() {
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = read(document);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|l| !l.starts_with("http") && !l.starts_with('#')) {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(link).exists(), "{document} links to {link}");
        }
    }
}

/// What the steps of a workflow's jobs run, once for each target of a matrix.
fn commands(workflow: &Value) -> Vec<String> {
    let mut commands = Vec::new();
    for job in workflow["jobs"].as_object().expect("jobs").values() {
        let targets = job["strategy"]["matrix"]["target"].as_array();
        for step in job["steps"].as_array().expect("steps") {
            let Some(run) = step["run"].as_str() else {
                // Only GitHub's own, which fetches the commit.
                assert!(step["uses"].as_str().is_some_and(|uses| uses.starts_with("actions/checkout@")), "{step}");
                continue;
            };
            let of_target = |target: &Value| run.replace("${{ matrix.target }}", target.as_str().expect("a name"));
            match targets {
                Some(targets) => commands.extend(targets.iter().map(of_target)),
                None => commands.push(run.to_owned()),
            }
        }
    }
    commands
}

#[test]
fn workflows_call_make_alone_and_the_targets_exist() {
    let makefile = read("Makefile");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows");
    let mut all = Vec::new();
    for file in std::fs::read_dir(folder).expect("workflows").flatten() {
        let text = std::fs::read_to_string(file.path()).expect("text");
        let workflow = Config::builder().add_source(File::from_str(&text, FileFormat::Yaml)).build().expect("YAML");
        let commands = commands(&workflow.try_deserialize::<Value>().expect("a document"));
        assert!(!commands.is_empty(), "{}", file.path().display());
        all.extend(commands);
    }
    for command in &all {
        let target = command.strip_prefix("make ").unwrap_or_else(|| panic!("not make: {command}"));
        assert!(makefile.contains(&format!("\n{target}:")), "the Makefile has no target {target}");
    }
    for target in ["test", "lint", "release", "test-install", "test-release"] {
        assert!(all.contains(&format!("make {target}")), "no workflow calls make {target}");
    }
}
