//! The image, run as Kubernetes would: not root, read-only, every capability dropped but one, no new privileges.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::backends::{Conversation, Echo};
use lbex_test_harness::netns::Netns;
use lbex_test_harness::process::Process;
use lbex_test_harness::wait::{SOON, eventually};
use lbex_test_harness::{http, programs};
use serde_json::{Value, json};

use crate::podman::Container;
use crate::support::{Page, at, manifests, program, refuses, repository, run, serves, stops_when_its_connection_ends};

#[tokio::test(flavor = "multi_thread")]
async fn the_image_serves_port_80_with_one_right_and_drains_when_it_is_stopped() -> Result<()> {
    let netns = Netns::new()?;
    let servers = [Echo::new("a").ip(netns.host_v4()).start()?];
    let mut container = Container::new("image")?;
    let files = container.path("settings");
    fs::create_dir(&files)?;
    fs::write(files.join("web.json"), manifests(80, &servers))?;
    let mut build = Command::new(repository("packaging/image/build"));
    build.arg(container.path("image")).arg(format!("{}={}", std::env::consts::ARCH, program()?.display()));
    let archive = run(&mut build)?;
    let first = fs::read(archive.trim())?;
    run(&mut build)?;
    ensure!(fs::read(archive.trim())? == first, "the same bytes each time");
    let image = run(container.podman().args(["pull", "--quiet"]).arg(format!("oci-archive:{}", archive.trim())))?;
    fs::write(files.join("lbex.yaml"), "manifests: /etc/lbex/web.json\n")?;
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&files))?;
    // The page's command, but for names, the folder and the network, which are this test's.
    let page = Page::read("docs/install-container.md")?;
    let words = page.command(
        "podman run --detach --name lbex --network host --read-only --cap-drop all --cap-add NET_BIND_SERVICE --security-opt \
         no-new-privileges --stop-timeout 60 --volume /etc/lbex:/etc/lbex:ro lbex --config /etc/lbex/lbex.yaml",
    );
    let volume = format!("{}:/etc/lbex:ro", files.display());
    let words = words.split(' ').skip("podman run --detach --name lbex --network host".split(' ').count());
    let arguments: Vec<&str> = words
        .map(|word| match word {
            "/etc/lbex:/etc/lbex:ro" => &volume,
            "lbex" => image.trim(),
            word => word,
        })
        .collect();
    container.start(&netns, &arguments)?;
    let web = at(netns.v4(1), 80);
    serves(web).await.with_context(|| container.log().unwrap_or_default())?;

    let pid = container.inspect("{{.State.Pid}}")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    assert_eq!(field("Uid:"), "65532\t65532\t65532\t65532");
    assert_eq!(field("NoNewPrivs:"), "1");
    // NET_BIND_SERVICE is number 10.
    assert_eq!(field("CapBnd:"), "0000000000000400");
    let labels = container.inspect("{{json .Config.Labels}}")?;
    assert!(labels.contains("org.opencontainers.image.revision"), "{labels}");

    let mut connection = Conversation::open(web).await?;
    controller_is_killed(&pid)?;
    eventually("LBEX is healthy again", SOON, || async {
        let answer = http::get(at(netns.v4(1), 7331), "/").await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    connection.say("still here").await?;
    drop(connection);

    let mut stop = container.podman();
    let words = page.command("podman stop lbex").split(' ').skip(1);
    stop.args(words.map(|word| if word == "lbex" { container.name() } else { word }));
    stops_when_its_connection_ends(web, stop).await?;
    page.is_done(|command| command.starts_with("podman "));
    assert_eq!(container.inspect("{{.State.ExitCode}}")?, "0", "{}", container.log()?);
    refuses(web).await?;
    as_kubernetes_does(&container, web).await
}

/// Kills the LBEX that is a child of the container's first process.
fn controller_is_killed(first: &str) -> Result<()> {
    let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"))?;
    let is_lbex = |pid: &&str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "lbex\n");
    let controller = children.split_whitespace().find(is_lbex).context("there is no controller")?;
    run(Command::new("kill").args(["-KILL", controller])).map(drop)
}

/// Runs the container's bundle again, by runc itself, with capabilities as containerd gives them in Kubernetes: none of them ambient or
/// inheritable (podman makes them so), so that a program gets them by its file alone.
async fn as_kubernetes_does(container: &Container, web: SocketAddr) -> Result<()> {
    let id = container.inspect("{{.Id}}")?;
    let path = container.path("storage").join("vfs-containers").join(id).join("userdata/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(path)?)?;
    let capabilities = &mut config["process"]["capabilities"];
    for set in ["ambient", "inheritable"] {
        capabilities[set] = json!([]);
    }
    assert_eq!(capabilities["permitted"], json!(["CAP_NET_BIND_SERVICE"]));
    config["hooks"] = json!({});
    config["annotations"] = json!({});
    config["linux"]["cgroupsPath"] = json!("");
    let mounts = config["mounts"].as_array_mut().context("mounts")?;
    // Those that podman makes for a container while it runs.
    mounts.retain(|mount| {
        ["proc", "/var/lib/lbex", "/etc/lbex"]
            .iter()
            .any(|kept| mount["destination"].as_str().is_some_and(|d| d.ends_with(kept)))
    });
    mounts
        .push(json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }));
    let bundle = container.path("bundle");
    fs::create_dir(&bundle)?;
    fs::write(bundle.join("config.json"), serde_json::to_vec(&config)?)?;

    let mut runc = Command::new(programs::find("runc")?);
    runc.arg("--root").arg(container.path("runc")).args(["run", "--bundle"]).arg(&bundle).arg(container.name());
    let runs = Process::start("runc", &runc, &container.path("runc.log"))?;
    serves(web).await.with_context(|| runs.log_tail())?;
    let mut stop = Command::new("runc");
    stop.arg("--root").arg(container.path("runc")).args(["kill", container.name(), "TERM"]);
    let mut connection = Conversation::open(web).await?;
    run(&mut stop)?;
    refuses(web).await?;
    connection.say("not done yet").await?;
    drop(connection);
    let status = runs.wait(SOON).await?;
    ensure!(status.success(), "{status}: {}", runs.log_tail());
    Ok(())
}
