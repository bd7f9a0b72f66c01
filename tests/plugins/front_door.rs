//! `lbex --backend ./libX.so`: from manifests to what the plugin made of them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::objects::{list, service, slice};
use lbex_test_harness::wait::{SOON, eventually};
use serde_json::Value;

use crate::support::{binary, example_c, faulty};

/// A folder with manifests, a plugin, and what the plugin writes.
struct World {
    folder: Scratch,
}

impl World {
    fn new() -> Result<Self> {
        let folder = Scratch::new("front-door")?;
        std::fs::create_dir(folder.join("manifests"))?;
        std::fs::create_dir(folder.join("plugins"))?;
        Ok(Self { folder })
    }

    fn put(&self, server: &str) -> Result<()> {
        let web = service("web").ask().lbex("upstream-type", "pod").listen("http", 18080).tcp("http", 80, 30080);
        let slice = slice("web-1", "web").tcp("http", 8080).ready(server, "node");
        let hidden = self.folder.join(".objects");
        std::fs::write(&hidden, list([&web as &dyn lbex_test_harness::objects::Object, &slice]))?;
        Ok(std::fs::rename(hidden, self.folder.join("manifests/objects.json"))?)
    }

    fn lbex(&self, backend: &str) -> Builder {
        let config = self.folder.join("config");
        Lbex::builder(binary())
            .arg(format!("--backend={backend}"))
            .arg(format!("--backend-config={}", config.display()))
            .arg(format!("--manifests={}", self.folder.join("manifests").display()))
            .arg("--reload-interval=50ms")
    }

    fn written(&self) -> Result<Value> {
        let text = std::fs::read_to_string(self.folder.join("desired.json")).context("nothing is written")?;
        Ok(serde_json::from_str(&text)?)
    }

    async fn wait_server(&self, server: &str) -> Result<()> {
        eventually("the file has the server", SOON, || async {
            let written = self.written()?;
            let found = &written["services"]["default/web"]["listeners"][0]["servers"][0]["address"];
            ensure!(found == server, "{written}");
            anyhow::Ok(())
        })
        .await
    }
}

#[tokio::test]
async fn what_is_desired_is_in_the_file_and_follows() -> Result<()> {
    let world = World::new()?;
    let library = example_c(world.folder.path())?;
    std::fs::write(world.folder.join("config"), format!("{}\n", world.folder.join("desired.json").display()))?;
    world.put("10.0.0.1")?;
    let mut lbex = world.lbex(&library.display().to_string()).start().await?;
    lbex.wait_healthy().await?;
    world.wait_server("10.0.0.1").await?;
    let written = world.written()?;
    ensure!(written["schema"] == "lbex.desired/1", "{written}");
    let listener = &written["services"]["default/web"]["listeners"][0];
    ensure!(listener["port"] == 18080 && listener["protocol"] == "tcp", "{written}");
    lbex.wait_log("the desired state is written to a file", SOON).await?;
    lbex.wait_log("LBEX 0.1.0 with a file (plugin file 1.0.0)", SOON).await?;

    world.put("10.0.0.2")?;
    world.wait_server("10.0.0.2").await?;
    // Somebody removes it: it is written again.
    std::fs::remove_file(world.folder.join("desired.json"))?;
    world.wait_server("10.0.0.2").await?;
    lbex.wait_healthy().await?;

    // It stays when LBEX goes, and follows when it is back.
    lbex.kill().await?;
    world.wait_server("10.0.0.2").await?;
    world.put("10.0.0.3")?;
    lbex.start_again()?;
    world.wait_server("10.0.0.3").await?;
    lbex.wait_healthy().await?;
    let ended = lbex.terminate().await?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_plugin_is_found_by_its_name() -> Result<()> {
    let world = World::new()?;
    example_c(&world.folder.join("plugins"))?;
    std::fs::write(world.folder.join("config"), format!("{}\n", world.folder.join("desired.json").display()))?;
    world.put("10.0.0.1")?;
    let dir = format!("--plugin-dir={}", world.folder.join("plugins").display());
    let lbex = world.lbex("file").arg(&dir).start().await?;
    lbex.wait_healthy().await?;
    world.wait_server("10.0.0.1").await?;
    // A second one on the same prefix is told whose it is.
    let second = world.lbex("file").arg(&dir).prefix(lbex.prefix()).start().await?;
    let status = second.wait_exit(SOON).await?;
    ensure!(status.code() == Some(2), "{status}");
    let log = second.log();
    ensure!(log.contains(&format!("is in use by process {}", lbex.pid())), "{log}");

    let other = world.lbex("fil").arg(&dir).start().await?;
    ensure!(other.wait_exit(SOON).await?.code() == Some(2));
    let log = other.log();
    ensure!(log.contains("no backend is called fil") && log.contains("libfil.so"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_breaks_is_told_and_opened_again_and_lbex_goes_on() -> Result<()> {
    let world = World::new()?;
    let library = faulty(world.folder.path(), &[])?;
    std::fs::write(world.folder.join("config"), "apply nowhere\n")?;
    world.put("10.0.0.1")?;
    let lbex = world.lbex(&library.display().to_string()).start().await?;
    lbex.wait_log("the plugin is broken, and is opened again: its reply (100 bytes at 0x1000) cannot be read", SOON)
        .await?;
    lbex.wait_log("the plugin is open again", SOON).await?;
    ensure!(lbex.get("/livez").await?.status == 200);
    ensure!(lbex.get("/").await?.status == 503);
    // What a change of objects does is seen, whatever the plugin does.
    world.put("10.0.0.2")?;
    eventually("the change is planned", SOON, || async {
        let generation = lbex.metric("lbex_desired_generation", &[]).await?.context("no metric")?;
        ensure!(generation >= 2.0, "{generation}");
        anyhow::Ok(())
    })
    .await?;
    std::fs::write(lbex.prefix().join("plugins/faulty/fault"), "")?;
    lbex.wait_healthy().await
}

#[tokio::test]
async fn a_plugin_that_hangs_does_not_keep_lbex_from_ending() -> Result<()> {
    let world = World::new()?;
    let library = faulty(world.folder.path(), &[])?;
    std::fs::write(world.folder.join("config"), "apply hang\n")?;
    world.put("10.0.0.1")?;
    let lbex = world.lbex(&library.display().to_string()).start().await?;
    eventually("the change is planned", SOON, || async {
        let generation = lbex.metric("lbex_desired_generation", &[]).await?.context("no metric")?;
        ensure!(generation >= 1.0, "{generation}");
        anyhow::Ok(())
    })
    .await?;
    ensure!(lbex.get("/livez").await?.status == 200);
    let ended = lbex.terminate().await?;
    ensure!(ended.took < Duration::from_secs(12), "{ended:?}");
    Ok(())
}

#[test]
fn backends_lists_what_is_built_in_and_what_was_found() -> Result<()> {
    let world = World::new()?;
    let plugins = world.folder.join("plugins");
    example_c(&plugins)?;
    std::fs::create_dir(world.folder.join("other"))?;
    faulty(&world.folder.join("other"), &["-DFAULT_MAJOR=9"])?;
    let output = std::process::Command::new(binary())
        .arg("backends")
        .arg(format!("--plugin-dir={}", plugins.display()))
        .arg(format!("--plugin-dir={}", world.folder.join("other").display()))
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{text}");
    for wanted in
        ["nginx    built in; NGINX ", "plugins  2 in ", "file 1.0.0 (ABI 1.1, ", "is built for plugin ABI 9.1"]
    {
        ensure!(text.contains(wanted), "{wanted}: {text}");
    }
    ensure!(
        text.contains("tcp, udp, round_robin, least_conn, least_time, client_ip, timeouts, external names\n"),
        "{text}"
    );
    let version = std::process::Command::new(binary()).arg("--version").output()?;
    ensure!(String::from_utf8(version.stdout)?.contains("\nplugin ABI: 1.1\n"));
    Ok(())
}

#[test]
fn a_configuration_that_cannot_be_read_is_told() -> Result<()> {
    let world = World::new()?;
    let library = example_c(world.folder.path())?;
    let output = crate::support::run_with(world.folder.path(), &library, &["--backend-config=/nowhere/x".to_owned()])?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2) && error.contains("--backend-config /nowhere/x: No such file"), "{error}");
    let relative = Path::new("config");
    std::fs::write(world.folder.join("config"), relative.display().to_string())?;
    let config = format!("--backend-config={}", world.folder.join("config").display());
    let output = crate::support::run_with(world.folder.path(), &library, &[config])?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let says =
        "the plugin file 1.0.0 cannot begin: --backend-config has to hold the absolute path of the file to write";
    ensure!(output.status.code() == Some(2) && error.contains(says), "{error}");
    Ok(())
}
