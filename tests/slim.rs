//! What a binary has, and says of what it is without, is what its Cargo features brought: run with any set of them.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// Each feature, whether this binary has it, what it brings (a word of `lbex backends`, a flag, a command), and how one asks for it.
const PARTS: [(&str, bool, &str, &str, &[&str]); 3] = [
    (
        "backend-nginx",
        cfg!(feature = "backend-nginx"),
        "nginx    built in",
        "--start-nginx",
        &["render", "--manifests=/"],
    ),
    (
        "backend-nginx-plus",
        cfg!(feature = "backend-nginx-plus"),
        "nginx-plus built in",
        "--nginx-plus-api",
        &["--backend=nginx-plus", "--nginx-plus-api=127.0.0.1"],
    ),
    ("plugins", cfg!(feature = "plugins"), "plugins  ", "--plugin-dir", &["plugin", "check", "/dev/null"]),
];

fn run(arguments: &[&str]) -> Result<Output> {
    let mut lbex = Command::new(env!("CARGO_BIN_EXE_lbex"));
    lbex.env_clear().env("PATH", "/nowhere").env("HOME", "/nowhere");
    lbex.args(arguments).output().context("the binary can be run")
}

#[test]
fn a_binary_shows_what_its_features_brought_and_nothing_else() -> Result<()> {
    let listed = String::from_utf8(run(&["backends"])?.stdout)?;
    let help = String::from_utf8(run(&["--help"])?.stdout)?;
    for (feature, there, backend, flag, _) in PARTS {
        ensure!(listed.contains(backend) == there, "{feature}: {there}, but `lbex backends` says:\n{listed}");
        ensure!(help.contains(&format!("{flag} ")) == there, "{feature}: {there}, but `lbex --help` says:\n{help}");
    }
    Ok(())
}

#[test]
fn what_a_binary_is_without_is_refused_by_the_name_of_its_feature() -> Result<()> {
    for (feature, there, _, flag, asked) in PARTS {
        let missing = format!("which the Cargo feature {feature} brings");
        let refused = run(asked)?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(said.contains(&missing) != there, "{asked:?}: {feature}: {there}, but it says: {said}");
        let with_flag = run(&["validate", "/dev/null", flag, "unheard-of"])?;
        let said = String::from_utf8_lossy(&with_flag.stderr).into_owned();
        ensure!(said.contains(&missing) != there, "{flag}: {feature}: {there}, but it says: {said}");
        for output in [refused, with_flag].iter().filter(|_| !there) {
            ensure!(output.status.code() == Some(2), "{feature}: {output:?}");
        }
    }
    Ok(())
}
