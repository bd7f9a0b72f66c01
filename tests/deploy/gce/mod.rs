//! `bin/gce-up.sh` and `bin/gce-down.sh`, against a stand-in for `gcloud` (`standin/`) that keeps what it is told to make, and, for what
//! they ask of it, against the real one's parser.

mod boot;
mod faults;
mod life;
mod options;
mod parser;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lbex_test_harness::{Scratch, programs};

/// The original README's examples; tests name the cluster and network that are in them.
const UP: &str = "--name mylbex --project k8s-work --cidr 10.128.0.0/28 --region us-central1 --cluster-name my-k8s-cluster \
                  --num-autoscale 10 --cluster-zone us-central1-a --cluster-network my-cluster-network --health-port 1337";
const DOWN: &str = "--name mylbex --region us-central1 --project k8s-work";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn standin() -> PathBuf {
    root().join("tests/deploy/standin")
}

/// How a script ended and what it said.
#[derive(Debug)]
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    fn succeeded(self) -> Result<Self> {
        ensure!(self.code == 0, "exit code {}:\n{}\n{}", self.code, self.stdout, self.stderr);
        Ok(self)
    }

    fn failed(self, code: i32) -> Result<Self> {
        ensure!(self.code == code, "exit code {} instead of {code}:\n{}\n{}", self.code, self.stdout, self.stderr);
        Ok(self)
    }
}

/// A project of Google Cloud with the cluster of the examples, kept by the stand-in.
pub(crate) struct Project {
    folder: Scratch,
}

impl Project {
    pub(crate) fn new() -> Result<Self> {
        let this = Self { folder: Scratch::new("gce")? };
        this.add("clusters", "my-k8s-cluster", "--endpoint=203.0.113.5\n--ca=Q0E=\n")?;
        std::fs::write(this.folder.join("checksum"), "7".repeat(128))?;
        Ok(this)
    }

    /// Another project where the same is there.
    fn copy(&self) -> Result<Self> {
        let folder = Scratch::new("gce")?;
        let from = format!("{}/.", self.folder.path().display());
        output(Command::new(programs::find("cp")?).arg("-a").arg(from).arg(folder.path()))?.succeeded()?;
        let copy = Self { folder };
        copy.take_calls()?;
        copy.fail("")?;
        Ok(copy)
    }

    /// Something that is there already, whoever made it.
    fn add(&self, kind: &str, name: &str, made_with: &str) -> Result<()> {
        let folder = self.folder.join("state").join(kind);
        std::fs::create_dir_all(&folder)?;
        Ok(std::fs::write(folder.join(name), made_with)?)
    }

    fn script(&self, script: &str) -> Command {
        let mut command = Command::new(root().join("bin").join(script));
        self.set_up(&mut command);
        command
    }

    /// Puts the stand-ins in a command's way.
    pub(crate) fn set_up(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap_or_default();
        let (standin, plugin) = (standin(), standin().join("plugin"));
        command.env("PATH", format!("{}:{}:{path}", standin.display(), plugin.display()));
        command.env("STANDIN", self.folder.path()).stdin(Stdio::null());
    }

    fn run<'a>(&self, script: &str, arguments: impl IntoIterator<Item = &'a str>) -> Result<Run> {
        output(self.script(script).args(arguments))
    }

    fn up(&self, more: &[&str]) -> Result<Run> {
        self.run("gce-up.sh", UP.split_ascii_whitespace().chain(more.iter().copied()))
    }

    fn down(&self) -> Result<Run> {
        self.run("gce-down.sh", DOWN.split_ascii_whitespace())
    }

    /// Lets one call fail from here on: `3 before`, `3 after`, `3 look` (see `standin/record.sh`); an empty text lets none fail.
    fn fail(&self, which: &str) -> Result<()> {
        Ok(std::fs::write(self.folder.join("fail"), which)?)
    }

    /// The calls so far, in order, those that change something after `+`, the others after `-`; and forgets them.
    pub(crate) fn take_calls(&self) -> Result<Vec<String>> {
        let path = self.folder.join("calls");
        let text = if path.exists() { std::fs::read_to_string(&path)? } else { String::new() };
        if path.exists() {
            std::fs::remove_file(path)?;
        }
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Those that change something.
    fn take_changes(&self) -> Result<Vec<String>> {
        Ok(self.take_calls()?.into_iter().filter(|call| call.starts_with('+')).collect())
    }

    /// What there is: `KIND/NAME` and what it was made with, but for the cluster itself.
    pub(crate) fn state(&self) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        for kind in std::fs::read_dir(self.folder.join("state"))? {
            let kind = kind?;
            for one in std::fs::read_dir(kind.path())? {
                let one = one?;
                let name = format!("{}/{}", kind.file_name().display(), one.file_name().display());
                all.insert(name, std::fs::read_to_string(one.path())?);
            }
        }
        all.remove("clusters/my-k8s-cluster");
        Ok(all)
    }
}

fn output(command: &mut Command) -> Result<Run> {
    let output = command.output().with_context(|| format!("failed to run {command:?}"))?;
    Ok(Run {
        code: output.status.code().with_context(|| format!("{command:?} was killed"))?,
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}
