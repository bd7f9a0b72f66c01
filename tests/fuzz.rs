//! The fuzz targets over their seeds and over thousands of inputs that come of changing those; `make fuzz` looks for more with
//! libFuzzer. What crashed a target once is kept among the seeds.

use std::panic::catch_unwind;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fastrand::Rng;

#[path = "../fuzz/src/lib.rs"]
#[allow(missing_docs, unreachable_pub)]
mod targets;

/// How many inputs are made of the seeds of each target, and for how long at the most.
const MADE: u64 = 4000;
const MOST: Duration = Duration::from_secs(3);
/// The longest input that is made.
const LONGEST: usize = 4096;

/// Words that mean something in what is read, and numbers at borders.
const WORDS: [&[u8]; 24] = [
    b"0",
    b"-1",
    b"65535",
    b"65536",
    b"4294967296",
    b"1e999",
    b"null",
    b"true",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b"\n",
    b"\0",
    b"\\u0000",
    b"\xff",
    "\u{2028}".as_bytes(),
    b"127.0.0.1",
    b"::1",
    b"10.0.0.0/8",
    b"---\n",
    b"&a [*a]",
];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no seeds", folder.display());
    files.iter().map(|file| std::fs::read(file).expect("a seed")).collect()
}

/// Somewhere in it.
fn place(input: &[u8], dice: &mut Rng) -> usize {
    dice.usize(0..=input.len())
}

/// An input that comes of a seed by some changes.
fn make(seeds: &[Vec<u8>], dice: &mut Rng) -> Vec<u8> {
    let mut input = seeds[dice.usize(0..seeds.len())].clone();
    for _ in 0..dice.usize(1..=8) {
        let (a, b) = (place(&input, dice), place(&input, dice));
        let (from, to) = (a.min(b), a.max(b));
        match dice.u8(0..7) {
            0 if from < input.len() => input[from] ^= 1 << dice.u8(0..8),
            1 if from < input.len() => input[from] = dice.u8(..),
            2 => drop(input.drain(from..to.min(from + 16))),
            3 => {
                let part = input[from..to].to_vec();
                let at = place(&input, dice);
                input.splice(at..at, part);
            }
            4 => {
                let other = &seeds[dice.usize(0..seeds.len())];
                let (a, b) = (place(other, dice), place(other, dice));
                input.splice(from..from, other[a.min(b)..a.max(b)].iter().copied());
            }
            5 => drop(input.splice(from..from, (0..dice.usize(1..40)).map(|_| dice.u8(..)).collect::<Vec<_>>())),
            _ => drop(input.splice(from..from, WORDS[dice.usize(0..WORDS.len())].iter().copied())),
        }
    }
    input.truncate(LONGEST);
    input
}

fn check(target: &str, run: fn(&[u8]), input: &[u8]) {
    assert!(
        catch_unwind(|| run(input)).is_ok(),
        "{target} fails on b\"{}\"; keep it in fuzz/seeds/{target}",
        input.escape_ascii()
    );
}

/// Runs one target. Its inputs are the same each time.
fn fuzz(name: &str) {
    let (_, run) = *targets::TARGETS.iter().find(|(target, _)| *target == name).expect("a target");
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| check(name, run, seed));
    let (mut dice, begin) = (Rng::with_seed(1), Instant::now());
    let made =
        (0..MADE).take_while(|_| begin.elapsed() < MOST).map(|_| check(name, run, &make(&seeds, &mut dice))).count();
    println!("{name}: {made} inputs in {:?}", begin.elapsed());
}

#[test]
fn annotations() {
    fuzz("annotations");
}

#[test]
fn manifests() {
    fuzz("manifests");
}

#[test]
fn plugin_documents() {
    fuzz("plugin_documents");
}

#[test]
fn push_question() {
    fuzz("push_question");
}

#[test]
fn push_table() {
    fuzz("push_table");
}

#[test]
fn settings() {
    fuzz("settings");
}

#[test]
fn state() {
    fuzz("state");
}

#[test]
fn every_target_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let files = std::fs::read_dir(folder).expect("the targets").map(|entry| entry.expect("a file").path());
    let mut names: Vec<_> =
        files.map(|file| file.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, targets::TARGETS.map(|(name, _)| name.to_owned()));
}

/// The fuzz targets are a workspace of their own, which nobody else builds: `make fuzz` takes its lock file as it is.
#[test]
fn the_lock_file_of_the_targets_is_up_to_date() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--offline", "--format-version=1", "--manifest-path"]).arg(manifest);
    let said = String::from_utf8_lossy(&cargo.output().expect("cargo runs").stderr).into_owned();
    // What was not downloaded yet is nobody's fault.
    assert!(!said.contains("--locked"), "run `cargo update --workspace` in fuzz/: {said}");
}
