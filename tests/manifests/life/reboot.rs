//! Everything is killed, as by a reboot, and the source is away when LBEX starts again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::Conversation;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::Object;
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually};

use super::killed::kill_hard;
use crate::support::{
    Manifests, World, alone, at, lbex_on, pods, pods_slice, servers, tcp_reaches, tcp_refused, udp_reaches,
};

/// How long it may take to serve after a start, on a machine that runs other tests at the same time.
const SERVES: Duration = Duration::from_secs(10);

/// Waits until the last good state has all of these Services.
async fn saved(lbex: &Lbex, services: &[&str]) -> Result<()> {
    let path = lbex.prefix().join("state/last-good.json");
    eventually("the last good state is saved", SOON, || async {
        let text = std::fs::read_to_string(&path)?;
        let has = |name: &&&str| text.contains(&format!("\"default/{name}\":"));
        let lacks: Vec<_> = services.iter().filter(|name| !has(name)).collect();
        ensure!(lacks.is_empty(), "without {lacks:?}");
        Ok(())
    })
    .await
}

/// Kills LBEX and every NGINX of its prefix, and waits until they are gone.
async fn kill_everything(lbex: &Lbex) -> Result<()> {
    lbex.kill().await?;
    for process in lbex.nginx_processes() {
        kill_hard(process.pid)?;
    }
    eventually("NGINX is gone", SOON, || async {
        let left = lbex.nginx_processes();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}

/// The folder is not there when LBEX starts, as before a network file system is mounted. Where it is meanwhile.
fn unmount(manifests: &Manifests) -> Result<PathBuf> {
    let folder = manifests.path().with_extension("unmounted");
    std::fs::rename(manifests.path(), &folder)?;
    Ok(folder)
}

async fn applies(lbex: &Lbex, action: &str) -> Result<f64> {
    let count = lbex.metric("lbex_apply_duration_seconds_count", &[("action", action)]).await?;
    Ok(count.unwrap_or_default())
}

/// It serves at once what it served before; when the source is back, changes arrive, and connections stay. What does not differ
/// makes no reload.
///
/// Alone, as all tests here: while its LBEX is away, another's could take the port where NGINX asks for endpoints.
async fn serves_without_its_source(nginx: Nginx) -> Result<()> {
    alone(|| serves_meanwhile(nginx)).await
}

async fn serves_meanwhile(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(2)?);
    let (web, slice) = (pods("web", ports[0]), pods_slice("web", &servers));
    let mut world = World::start(nginx, [&web as _, &slice as _]).await?;
    saved(&world.lbex, &["web"]).await?;
    kill_everything(&world.lbex).await?;
    let folder = unmount(&world.manifests)?;

    let mark = world.lbex.log_mark();
    let began = Instant::now();
    world.lbex.start_again()?;
    tcp_reaches(at(ports[0]), &["a", "b"]).await?;
    assert!(began.elapsed() < SERVES, "served after {:?}", began.elapsed());
    udp_reaches(at(ports[0]), &["a", "b"]).await?;
    world.lbex.wait_ready().await?;
    world.lbex.wait_healthy().await?;
    assert_eq!(world.lbex.metric("lbex_source_connected", &[]).await?, Some(0.0));
    world.lbex.wait_log_since(mark, "the last good state is served meanwhile, trying again", SOON).await?;

    // NGINX dies once more, then LBEX alone: still nothing but the last good state.
    for process in world.lbex.nginx_processes() {
        kill_hard(process.pid)?;
    }
    eventually("NGINX is started again, wholly", SOON, || async {
        ensure!(applies(&world.lbex, "started").await? > 1.5);
        Ok(())
    })
    .await?;
    tcp_reaches(at(ports[0]), &["a", "b"]).await?;
    world.lbex.kill().await?;
    let pids = world.nginx_pids();
    world.lbex.start_again()?;
    world.lbex.wait_ready().await?;
    let mut connection = Conversation::open(at(ports[0])).await?;

    // The source is back as it was: nothing is done.
    std::fs::rename(&folder, world.manifests.path())?;
    eventually("the source is followed", SOON, || async {
        ensure!(world.lbex.metric("lbex_source_connected", &[]).await? == Some(1.0));
        ensure!(applies(&world.lbex, "unchanged").await? > 0.0);
        Ok(())
    })
    .await?;
    assert_eq!(world.nginx_pids(), pids);
    assert!(applies(&world.lbex, "reloaded").await? < 0.5);

    // And changes arrive.
    world.put([&web as _, &slice as _, &pods("new", ports[1]) as _, &pods_slice("new", &servers[..1]) as _])?;
    tcp_reaches(at(ports[1]), &["a"]).await?;
    connection.say("still here").await?;
    saved(&world.lbex, &["web", "new"]).await
}

/// The lists differ from the last good state: only that is changed, and who is connected stays connected.
async fn catches_up(nginx: Nginx) -> Result<()> {
    alone(|| changes_what_differs(nginx)).await
}

async fn changes_what_differs(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(3)?, servers(1)?);
    let object = |name: &str, port: u16| (pods(name, port), pods_slice(name, &servers));
    let (kept, gone, new) = (object("kept", ports[0]), object("gone", ports[1]), object("new", ports[2]));
    let mut world =
        World::start(nginx, [&kept.0 as _, &kept.1 as _, &gone.0 as _, &gone.1 as _] as [&dyn Object; 4]).await?;
    saved(&world.lbex, &["kept", "gone"]).await?;
    kill_everything(&world.lbex).await?;
    let folder = unmount(&world.manifests)?;
    world.lbex.start_again()?;
    tcp_reaches(at(ports[0]), &["a"]).await?;
    let mut connection = Conversation::open(at(ports[0])).await?;

    std::fs::rename(&folder, world.manifests.path())?;
    world.put([&kept.0 as _, &kept.1 as _, &new.0 as _, &new.1 as _] as [&dyn Object; 4])?;
    tcp_reaches(at(ports[2]), &["a"]).await?;
    tcp_refused(at(ports[1])).await?;
    connection.say("still here").await?;
    world.wait_applied().await?;
    assert!(applies(&world.lbex, "reloaded").await? < 2.5, "one for what differs, one for the put if it came apart");
    Ok(())
}

/// Somebody restarts NGINX while LBEX is away, and LBEX comes back without its source: an NGINX that has to ask for its endpoints gets
/// the last good ones. One that goes on as it was is not told anything older than what it has.
#[tokio::test]
async fn an_nginx_that_was_restarted_meanwhile_gets_the_last_good_endpoints() -> Result<()> {
    alone(gets_the_last_good_endpoints).await
}

async fn gets_the_last_good_endpoints() -> Result<()> {
    let (port, servers) = (free_ports(1)?[0], servers(2)?);
    let (web, slice) = (pods("web", port), pods_slice("web", &servers));
    let mut world = World::start(Nginx::Embedded, [&web as _, &slice as _]).await?;
    saved(&world.lbex, &["web"]).await?;
    world.lbex.kill().await?;
    let folder = unmount(&world.manifests)?;

    world.lbex.start_again()?;
    world.lbex.wait_ready().await?;
    tcp_reaches(at(port), &["a", "b"]).await?;
    assert!(applies(&world.lbex, "started").await? < 0.5);
    assert_eq!(
        world.lbex.metric("lbex_push_names", &[("state", "current")]).await?,
        Some(0.0),
        "it has nothing to say"
    );
    world.lbex.kill().await?;

    // As an operator, or a supervisor, would.
    let prefix = world.lbex.prefix().to_owned();
    let nginx = async |arguments: &[&str]| {
        let mut nginx = tokio::process::Command::new(prefix.join("bin/nginx"));
        nginx.arg("-p").arg(&prefix).args(["-c", "conf/nginx.conf"]).args(arguments).current_dir(&prefix);
        let status = nginx.status().await?;
        ensure!(status.success(), "nginx {arguments:?}: {status}");
        Ok(())
    };
    nginx(&["-s", "stop"]).await?;
    eventually("NGINX is gone", SOON, || async {
        let left = world.lbex.nginx_processes();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    nginx(&[]).await?;
    // It goes into the background before it writes its process id.
    eventually("NGINX is there again", SOON, || async { world.lbex.nginx_pid() }).await?;
    world.lbex.start_again()?;
    tcp_reaches(at(port), &["a", "b"]).await?;
    world.lbex.wait_ready().await?;
    assert!(applies(&world.lbex, "started").await? < 0.5, "it is the one that was started by hand");
    std::fs::rename(&folder, world.manifests.path())?;
    Ok(())
}

/// What cannot be used is told and set aside; without a source LBEX then ends, with one it goes on as if nothing had been saved.
#[tokio::test]
async fn a_state_that_is_damaged_is_set_aside() -> Result<()> {
    alone(is_set_aside).await
}

async fn is_set_aside() -> Result<()> {
    let (port, servers) = (free_ports(1)?[0], servers(1)?);
    let mut world = World::start(Nginx::Embedded, [&pods("web", port) as _, &pods_slice("web", &servers) as _]).await?;
    saved(&world.lbex, &["web"]).await?;
    kill_everything(&world.lbex).await?;
    let path = world.lbex.prefix().join("state/last-good.json");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, text.replacen("127.0.10.1", "127.0.10.9", 1))?;
    let folder = unmount(&world.manifests)?;
    let mark = world.lbex.log_mark();
    world.lbex.start_again()?;
    let status = world.lbex.wait_exit(SOON).await?;
    assert_eq!(status.code(), Some(2), "{}", world.lbex.log_tail());
    let line = world.lbex.wait_log_since(mark, "cannot be used", SOON).await?;
    assert!(line.contains("checksum") && line.contains("last-good.unusable-1.json"), "{line}");
    assert_eq!(world.lbex.nginx_processes(), []);

    std::fs::rename(&folder, world.manifests.path())?;
    world.lbex.start_again()?;
    tcp_reaches(at(port), &["a"]).await?;
    saved(&world.lbex, &["web"]).await?;
    assert!(path.with_file_name("last-good.unusable-1.json").exists());
    Ok(())
}

/// Another pool's instance on the same prefix does not start what the old one served; the same one with another port of its own
/// serves all but that port.
#[tokio::test]
async fn a_state_of_other_settings_is_not_served() -> Result<()> {
    alone(is_not_served).await
}

async fn is_not_served() -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(1)?);
    let scratch = Scratch::for_nginx("reboot")?;
    let manifests = Manifests::new()?;
    let objects = |name: &str, port| (pods(name, port), pods_slice(name, &servers));
    let (one, two) = (objects("one", ports[0]), objects("two", ports[1]));
    manifests.put("objects.json", [&one.0 as _, &one.1 as _, &two.0 as _, &two.1 as _] as [&dyn Object; 4])?;
    let lbex =
        |flags: &[&str]| lbex_on(&manifests, Nginx::Embedded).prefix(&scratch.join("prefix")).args(flags).start();
    let first = lbex(&[]).await?;
    tcp_reaches(at(ports[0]), &["a"]).await?;
    saved(&first, &["one", "two"]).await?;
    kill_everything(&first).await?;
    let folder = unmount(&manifests)?;

    let other = lbex(&["--service-pool=other"]).await?;
    assert_eq!(other.wait_exit(SOON).await?.code(), Some(2), "{}", other.log_tail());
    let line = other.wait_log("is not used", SOON).await?;
    assert!(line.contains("service-pool was \"\" and is \"other\" now"), "{line}");
    assert_eq!(other.nginx_processes(), []);

    let moved = lbex(&[&format!("--health-port={}", ports[1])]).await?;
    tcp_reaches(at(ports[0]), &["a"]).await?;
    moved.wait_log("default/two TCP", SOON).await?;
    std::fs::rename(&folder, manifests.path())?;
    kill_everything(&moved).await
}

on_each_nginx!(serves_without_its_source, catches_up);
