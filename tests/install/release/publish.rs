//! `make release` against stand-ins for GitHub (its API and its git) and a real registry: in order, stopped in the middle, gone on with.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use lbex_test_harness::Scratch;
use lbex_test_harness::ports::free_port;

use super::VERSION;
use super::github::{GitHub, TOKEN};
use crate::registry::Registry;
use crate::support::{executable, run, stand_in_for_cargo};

/// Leaves a small LBEX where a static one would be built: to build and pack that takes long.
const BUILD: &str = r#"printf '#!/bin/sh\nexec "%s" "$@"\n' "$LBEX" >"$program"
chmod 755 "$program""#;

/// Refuses whatever is pushed.
const REFUSING_HOOK: &str = "#!/bin/sh\necho 'the branch is closed' >&2\nexit 1\n";

struct Release {
    scratch: Scratch,
    github: GitHub,
    registry: u16,
}

impl Release {
    /// A clone of this commit, whose `origin` is a repository of its own.
    async fn prepare() -> Result<Self> {
        let scratch = Scratch::new("release")?;
        let path = |name: &str| scratch.join(name);
        let from = env!("CARGO_MANIFEST_DIR");
        run(Command::new("git").args(["clone", "--quiet", "--bare", from]).arg(path("origin")))?;
        run(Command::new("git").arg("-C").arg(path("origin")).args(["update-ref", "refs/heads/released", "HEAD"]))?;
        run(Command::new("git")
            .args(["clone", "--quiet", "--branch", "released"])
            .args([path("origin"), path("clone")]))?;
        // Tags of this repository may be of this version already.
        for folder in ["origin", "clone"] {
            let tag = format!("refs/tags/v{VERSION}");
            run(Command::new("git").arg("-C").arg(path(folder)).args(["update-ref", "-d", &tag]))?;
        }
        stand_in_for_cargo(&path("cargo"), BUILD)?;
        run(Command::new("minisign").args(["-G", "-W", "-p"]).arg(path("key.pub")).arg("-s").arg(path("key")))?;
        let registry = free_port()?;
        // The registry speaks no TLS.
        fs::create_dir(path("bin"))?;
        executable(&path("bin/skopeo"), "#!/bin/sh\nexec /usr/bin/skopeo \"$@\" --dest-tls-verify=false\n")?;
        Ok(Self { github: GitHub::start().await?, scratch, registry })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    fn image(&self) -> String {
        format!("127.0.0.1:{}/lbex", self.registry)
    }

    /// Runs the release; whether it succeeded, and what it said. The server beside it has a thread of its own.
    fn release(&self) -> Result<(bool, String)> {
        let mut command = Command::new(self.path("clone/packaging/release/release"));
        command.env("CARGO", self.path("cargo")).env("CARGO_TARGET_DIR", self.path("target"));
        command.env("LBEX", env!("CARGO_BIN_EXE_lbex")).env("MACHINES", std::env::consts::ARCH);
        command.env("GITHUB_TOKEN", TOKEN).env("GITHUB_API_URL", self.github.url()).env("no_proxy", "127.0.0.1");
        for name in ["GITHUB_REPOSITORY", "VERSION", "REMOTE", "LBEX_BUILD_COMMIT", "LBEX_PROFILE", "SOURCE_DATE_EPOCH"]
        {
            command.env_remove(name);
        }
        let path = std::env::var("PATH")?;
        command.env("IMAGE", self.image()).env("PATH", format!("{}:{path}", self.path("bin").display()));
        // The key itself, as a secret of a workflow is given.
        command.env("SIGNING_KEY", fs::read_to_string(self.path("key"))?);
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "test").env(format!("GIT_{who}_EMAIL"), "test@localhost");
        }
        let output = command.output()?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    fn git(&self, folder: &str, arguments: &[&str]) -> Result<String> {
        Ok(run(Command::new("git").arg("-C").arg(self.path(folder)).args(arguments))?.trim().to_owned())
    }

    /// The commit that the tag leads to; empty where there is none.
    fn tagged(&self, folder: &str) -> Result<String> {
        let tag = format!("refs/tags/v{VERSION}");
        self.git(folder, &["for-each-ref", "--format=%(*objectname)", &tag])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_step_by_step_stops_where_one_fails_and_goes_on_from_there() -> Result<()> {
    let release = Release::prepare().await?;
    let before = release.git("clone", &["rev-parse", "HEAD"])?;

    // What is pushed is refused: nobody has seen anything.
    let hook = release.path("origin/hooks/pre-receive");
    fs::create_dir_all(hook.parent().context("a folder")?)?;
    executable(&hook, REFUSING_HOOK)?;
    let (success, said) = release.release()?;
    assert!(!success && said.contains("stopped at: push.") && said.contains("run make release again"), "{said}");
    let commit = release.git("clone", &["rev-parse", "HEAD"])?;
    assert_eq!(release.git("clone", &["rev-parse", "HEAD^"])?, before, "the changelog's commit, and no more");
    assert_eq!(release.git("clone", &["log", "-1", "--format=%s"])?, format!("Release {VERSION}"));
    assert_eq!(release.git("clone", &["show", "--stat", "--format=", "--name-only", "HEAD"])?, "CHANGELOG.md");
    assert!(fs::read_to_string(release.path("clone/CHANGELOG.md"))?.contains(&format!("\n## [{VERSION}] - ")));
    assert_eq!((release.tagged("clone")?, release.tagged("origin")?), (commit.clone(), String::new()));
    assert_eq!(release.github.told(|told| told.writes.clone()), Vec::<String>::new());

    // An upload fails: tag and branch are there, the release is a draft that lacks something.
    fs::remove_file(&hook)?;
    let deb = format!("lbex_{VERSION}_amd64.deb");
    release.github.told(|told| told.refuses = Some(deb.clone()));
    let (success, said) = release.release()?;
    assert!(!success && said.contains("stopped at: upload.") && said.contains("502"), "{said}");
    assert_eq!(release.git("clone", &["rev-parse", "HEAD"])?, commit, "no other commit");
    assert_eq!(release.tagged("origin")?, commit);
    assert_eq!(release.git("origin", &["rev-parse", "released"])?, commit);
    let drafts = release.github.told(|told| told.releases.iter().map(|r| r["draft"].clone()).collect::<Vec<_>>());
    assert_eq!(drafts, [true]);

    // No registry: everything is uploaded, each file once, and still nobody sees it.
    let (success, said) = release.release()?;
    assert!(!success && said.contains("stopped at: image."), "{said}");
    assert!(said.contains("is there already") && said.contains(&format!("{deb} is uploaded")), "{said}");
    assert_eq!(release.github.told(|told| told.releases[0]["draft"].clone()), true);
    assets_are_those_built(&release)?;

    // Everything is there: it is published, and that is the last thing. Once more changes nothing.
    let _registry = Registry::start_at(release.registry, &release.scratch).await?;
    let (success, said) = release.release()?;
    assert!(success && said.contains(&format!("LBEX {VERSION} is released")), "{said}");
    let writes = release.github.told(|told| told.writes.clone());
    assert_eq!(writes.last().map(String::as_str), Some("PATCH /repos/lbex/lbex/releases/7"));
    assert_eq!(writes.iter().filter(|write| write.starts_with("PATCH")).count(), 1);
    let image = format!("docker://{}:{VERSION}", release.image());
    let index = run(Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &image]))?;
    assert!(index.contains("\"architecture\":\"amd64\""), "{index}");
    let (success, said) = release.release()?;
    assert!(success, "{said}");
    assert_eq!(release.github.told(|told| told.writes.clone()), writes);
    assert_eq!(release.git("clone", &["rev-parse", "HEAD"])?, commit);
    Ok(())
}

/// What was uploaded is what was built, and signed.
fn assets_are_those_built(release: &Release) -> Result<()> {
    let folder = release.path("uploaded");
    fs::create_dir(&folder)?;
    for (asset, bytes) in release.github.told(|told| told.assets.clone()) {
        assert_eq!(asset["state"], "uploaded");
        fs::write(folder.join(asset["name"].as_str().context("a name")?), bytes)?;
    }
    let built = format!("clone/dist/{VERSION}");
    run(Command::new("diff").arg("-r").args([&folder, &release.path(&built)]))?;
    run(Command::new("sha512sum").current_dir(&folder).args(["--check", "--strict", "SHA512SUMS"]))?;
    run(Command::new("minisign")
        .current_dir(&folder)
        .args(["-V", "-m", "SHA512SUMS", "-p"])
        .arg(release.path("key.pub")))?;
    let uploads = release.github.told(|told| told.writes.iter().filter(|write| write.ends_with("/7/assets")).count());
    // One of them twice: it was refused.
    assert_eq!(uploads, fs::read_dir(&folder)?.count() + 1);
    Ok(())
}
