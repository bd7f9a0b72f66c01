//! The page about containers: how it says to make the image and to bring it where it is to run, with make, skopeo and Docker.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::netns::Netns;

use crate::docker::Docker;
use crate::registry::Registry;
use crate::support::{
    Page, at, debian_archive, manifests, program, run, serves, stand_in_for_cargo, stops_when_its_connection_ends,
};

const PAGE: &str = "docs/install-container.md";

/// A clone of this repository in a folder that vanishes, for commands that leave files in it.
struct Clone {
    scratch: Scratch,
}

impl Clone {
    fn new() -> Result<Self> {
        let scratch = Scratch::new("container-page")?;
        run(Command::new("git").args(["clone", "--quiet", env!("CARGO_MANIFEST_DIR")]).arg(scratch.join("lbex")))?;
        // The static program is built already.
        stand_in_for_cargo(&scratch.join("cargo"), r#"cp "$LBEX_STATIC" "$program""#)?;
        Ok(Self { scratch })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// A shell that runs a line in the top folder.
    fn sh(&self, line: &str) -> Result<Command> {
        let mut shell = Command::new("sh");
        shell.current_dir(self.path("lbex")).args(["-euc", line]);
        shell.env("CARGO", self.path("cargo")).env("LBEX_STATIC", program()?);
        // What make and cargo say to the tests is not for what a user does.
        let said = ["CARGO_TARGET_DIR", "LBEX_BUILD_COMMIT", "LBEX_PROFILE", "MACHINE"];
        for name in said.into_iter().chain(["MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES"]) {
            shell.env_remove(name);
        }
        Ok(shell)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_is_made_and_copied_into_a_registry_and_to_podman() -> Result<()> {
    let (clone, page) = (Clone::new()?, Page::read(PAGE)?);
    let registry = Registry::start(&clone.scratch).await?;
    // The registry speaks no TLS, and podman's images are to vanish with the rest.
    let (settings, storage) = (clone.path(".config/containers"), clone.path("storage.conf"));
    fs::create_dir_all(&settings)?;
    let text = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.address());
    fs::write(settings.join("registries.conf"), text)?;
    let folder = |name| clone.path(name).display().to_string();
    let text = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        folder("storage"),
        folder("run")
    );
    fs::write(&storage, text)?;
    let sh = |command: &str| -> Result<String> {
        let words = command.replace("VERSION", env!("CARGO_PKG_VERSION")).replace("REGISTRY", &registry.address());
        run(clone.sh(&words)?.env("HOME", clone.scratch.path()).env("CONTAINERS_STORAGE_CONF", &storage))
    };

    run(&mut clone.sh(page.command("make image"))?)?;
    sh(page.command("skopeo copy oci-archive:dist/lbex-VERSION.oci.tar containers-storage:localhost/lbex"))?;
    // The name that the page's `podman run` has.
    let labels = sh("podman image inspect --format '{{json .Labels}}' lbex")?;
    let head = run(Command::new("git").arg("-C").arg(clone.path("lbex")).args(["rev-parse", "HEAD"]))?;
    ensure!(labels.contains(head.trim()), "{labels}");

    sh(page.command("skopeo copy --all oci-archive:dist/lbex-VERSION.oci.tar docker://REGISTRY/lbex:VERSION"))?;
    let index = sh("skopeo inspect --raw docker://REGISTRY/lbex:VERSION")?;
    ensure!(index.contains("\"architecture\":\"amd64\"") || index.contains("\"architecture\":\"arm64\""), "{index}");
    page.is_done(|command| command == "make image" || command.starts_with("skopeo "));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_builds_the_image_runs_it_and_stops_it() -> Result<()> {
    let (clone, page, netns) = (Clone::new()?, Page::read(PAGE)?, Netns::new()?);
    let docker = Docker::start(&netns).await?;
    let sh = |command: &str| -> Result<String> { run(docker.environment(&mut clone.sh(command)?)) };
    // In place of the Debian of a registry, the one of these tests.
    sh(&format!("docker import {} debian:12-slim", debian_archive()?.display()))?;
    sh(page.command("make static"))?;
    sh(page.command("docker build -f packaging/image/Dockerfile -t lbex ."))?;

    let servers = [Echo::new("a").ip(netns.host_v4()).start()?];
    let settings = clone.path("settings");
    fs::create_dir(&settings)?;
    fs::write(settings.join("lbex.yaml"), "manifests: /etc/lbex/web.json\n")?;
    fs::write(settings.join("web.json"), manifests(80, &servers))?;
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&settings))?;
    // "The same words after `docker`, but for" two; the host's network is the daemon's, which is a namespace of this test.
    let line = page.command(
        "podman run --detach --name lbex --network host --read-only --cap-drop all --cap-add NET_BIND_SERVICE --security-opt \
         no-new-privileges --stop-timeout 60 --volume /etc/lbex:/etc/lbex:ro lbex --config /etc/lbex/lbex.yaml",
    );
    let line = line.replace("podman", "docker").replace(" --security-opt no-new-privileges", "");
    let line = line.replace("/etc/lbex:/", &format!("{}:/", settings.display()));
    sh(&line)?;
    let web = at(netns.v4(1), 80);
    serves(web).await.with_context(|| sh("docker logs lbex 2>&1").unwrap_or_default())?;

    let mut stop = clone.sh(&page.command("podman stop lbex").replace("podman", "docker"))?;
    docker.environment(&mut stop);
    stops_when_its_connection_ends(web, stop).await?;
    assert_eq!(sh("docker inspect --format '{{.State.ExitCode}}' lbex")?.trim(), "0");
    sh("docker rm lbex")?;
    page.is_done(|command| command == "make static" || command.starts_with("docker "));
    Ok(())
}
