//! The image, run as Kubernetes would: not root, read-only, every capability dropped but one, no new privileges.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::backends::{Conversation, Echo};
use lbex_test_harness::netns::Netns;
use lbex_test_harness::wait::{SOON, eventually};

use crate::podman::Container;
use crate::support::{at, manifests, program, refuses, repository, run, serves};

#[tokio::test(flavor = "multi_thread")]
async fn the_image_serves_port_80_with_one_right_and_drains_when_it_is_stopped() -> Result<()> {
    let netns = Netns::new()?;
    let servers = [Echo::new("a").ip(netns.host_v4()).start()?];
    let mut container = Container::new("image")?;
    let files = container.path("manifests");
    fs::create_dir(&files)?;
    fs::write(files.join("web.json"), manifests(80, &servers))?;
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&files))?;

    let mut build = Command::new(repository("packaging/image/build"));
    build.arg(container.path("image")).arg(format!("{}={}", std::env::consts::ARCH, program()?.display()));
    let archive = run(&mut build)?;
    let image = run(container.podman().args(["pull", "--quiet"]).arg(format!("oci-archive:{}", archive.trim())))?;
    let volume = format!("--volume={}:/manifests:ro", files.display());
    let arguments = [
        "--read-only",
        "--cap-drop=all",
        "--cap-add=NET_BIND_SERVICE",
        "--security-opt=no-new-privileges",
        &volume,
        image.trim(),
        "--manifests=/manifests",
    ];
    container.start(&netns, &arguments)?;
    let web = at(netns.v4(1), 80);
    serves(web).await.with_context(|| container.log().unwrap_or_default())?;

    let pid = container.inspect("{{.State.Pid}}")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    assert_eq!(field("Uid:"), "65532\t65532\t65532\t65532");
    assert_eq!(field("NoNewPrivs:"), "1");
    // NET_BIND_SERVICE is number 10.
    assert_eq!(field("CapBnd:"), "0000000000000400");
    let labels = container.inspect("{{json .Config.Labels}}")?;
    assert!(labels.contains("org.opencontainers.image.revision"), "{labels}");

    let mut connection = Conversation::open(web).await?;
    let mut stop = container.podman();
    stop.args(["stop", "--time=60", container.name()]);
    let stopping = tokio::task::spawn_blocking(move || run(&mut stop));
    refuses(web).await?;
    connection.say("not done yet").await?;
    ensure!(!stopping.is_finished(), "it does not wait for the connection");
    drop(connection);
    stopping.await??;
    assert_eq!(container.inspect("{{.State.ExitCode}}")?, "0", "{}", container.log()?);
    eventually("nothing answers", SOON, || async {
        ensure!(lbex_test_harness::backends::tcp_ask(web).await.is_err(), "it does");
        Ok(())
    })
    .await
}
