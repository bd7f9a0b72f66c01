//! `docs/plugins.md`, followed by a stranger: in a clean folder outside LBEX's tree, command by command, as the guide has them. Only
//! `git clone` is a link to this tree, and cargo gets the versions of this tree's lock file, so that nothing comes from the network.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::wait::{SOON, eventually};

use crate::support::{binary, root};

/// What stands between fences: the language, and the text.
fn blocks(markdown: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().map(str::trim_end).take_while(|line| line.trim() != "```").collect();
            blocks.push((language.to_owned(), text.join("\n") + "\n"));
        }
    }
    blocks
}

/// Somebody who follows a guide, in a folder.
struct Stranger {
    folder: Scratch,
    /// Where `cd` has led.
    at: PathBuf,
    path: OsString,
}

impl Stranger {
    fn new() -> Result<Self> {
        let folder = Scratch::new("stranger")?;
        let mut path = binary().parent().context("the binary is in a folder")?.as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").context("a PATH")?);
        Ok(Self { at: folder.path().to_owned(), folder, path })
    }

    /// Does what a line says.
    async fn follow(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => Ok(()),
            ["git", "clone", ..] => Ok(std::os::unix::fs::symlink(root(""), self.folder.join("lbex"))?),
            ["cd", into] => {
                self.at = self.at.join(into).canonicalize().with_context(|| line.to_owned())?;
                self.is_a_project()
            }
            ["lbex", "--backend", ..] => self.serves(&words).await,
            _ => self.run(line),
        }
    }

    /// What cargo would make itself, or get from the network. The target folder is kept from run to run, so that little is built, and is
    /// not this tree's: the stranger's plugin has the name of the template, and would take the place of what this tree built of it.
    fn is_a_project(&self) -> Result<()> {
        if self.at.join("Cargo.toml").exists() && !self.at.join("target").exists() {
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stranger");
            std::fs::create_dir_all(&target)?;
            std::os::unix::fs::symlink(target, self.at.join("target"))?;
            std::fs::copy(root("Cargo.lock"), self.at.join("Cargo.lock"))?;
        }
        Ok(())
    }

    fn run(&self, line: &str) -> Result<()> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-euc", line]).current_dir(&self.at).env("PATH", &self.path);
        shell.env("CARGO_NET_OFFLINE", "true").env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
        let output = shell.output().context("failed to run a shell")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{line}`: {}\n{said}", output.status);
        if line.starts_with("lbex plugin check") {
            ensure!(said.contains("\nall ") && !said.contains("FAILED"), "`{line}`:\n{said}");
        }
        Ok(())
    }

    /// Runs an LBEX until it is healthy, and the plugin has the Services of the manifests; then Ctrl-C.
    async fn serves(&self, words: &[&str]) -> Result<()> {
        let script = format!("cd '{}' && exec \"$0\" \"$@\"", self.at.display());
        let lbex = Lbex::builder(binary()).under(["/bin/sh", "-c", &script]).args(&words[1..]).start().await?;
        lbex.wait_healthy().await?;
        let written =
            |name: &str| std::fs::read_to_string(lbex.prefix().join("plugins").join(name)).unwrap_or_default();
        eventually("the plugin has the Services of the quickstart", SOON, || async {
            let text = written("myproxy/myproxy.conf") + &written("file/desired.json");
            ensure!(text.contains("demo/web") || text.contains("default/web"), "{text}");
            Ok(())
        })
        .await?;
        let ended = lbex.terminate().await?;
        ensure!(ended.status.success(), "{words:?}: {ended:?}");
        Ok(())
    }
}

#[tokio::test]
async fn a_stranger_can_follow_it() -> Result<()> {
    let guide = blocks(&std::fs::read_to_string(root("docs/plugins.md"))?);
    let mut stranger = Stranger::new()?;
    let from_nothing = stranger.folder.join("from-nothing");
    std::fs::create_dir_all(from_nothing.join("src"))?;
    let mut followed = 0;
    for (language, text) in guide {
        match language.as_str() {
            "toml" => std::fs::write(from_nothing.join("Cargo.toml"), text)?,
            "rust" => std::fs::write(from_nothing.join("src/lib.rs"), text)?,
            "sh" => {
                for line in text.lines() {
                    stranger.follow(line).await?;
                    followed += 1;
                }
            }
            "json" => {}
            other => bail!("docs/plugins.md has a block of {other:?}, which nobody tries"),
        }
    }
    ensure!(followed > 12, "only {followed} commands were found");
    Ok(())
}

#[test]
fn the_readme_of_the_template_has_the_same_commands() -> Result<()> {
    let commands = |path: &str| -> Result<Vec<String>> {
        let text = std::fs::read_to_string(root(path))?;
        let shell = blocks(&text).into_iter().filter(|(language, _)| language == "sh");
        Ok(shell.flat_map(|(_, text)| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()).collect())
    };
    let guide = commands("docs/plugins.md")?;
    let readme = commands("plugins/template/README.md")?;
    ensure!(readme.len() > 6, "{readme:?}");
    for command in readme {
        ensure!(guide.contains(&command), "`{command}` is not in docs/plugins.md, where it is tried");
    }
    Ok(())
}
