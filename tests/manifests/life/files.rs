//! What operators and their editors do to manifest files.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use anyhow::Result;
use lbex_test_harness::Scratch;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::endpoint;
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::{free_port, free_ports};
use lbex_test_harness::wait::{SOON, eventually_is};

use crate::support::{
    Manifests, World, at, binary, lbex_on, local, pods, pods_slice, servers, tcp_reaches, tcp_refused,
};

/// A Service in YAML whose listener is `port`, on one server.
fn yaml(name: &str, port: u16, server: std::net::SocketAddr) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Service\n\
         metadata:\n\
         \x20 name: {name}\n\
         \x20 annotations:\n\
         \x20   kubernetes.io/loadbalancer-class: loadbalancer-lbex\n\
         \x20   loadbalancer.lbex/upstream-type: pod\n\
         \x20   loadbalancer-port.lbex/tcp: \"{port}\"\n\
         spec:\n\
         \x20 ports:\n\
         \x20 - name: tcp\n\
         \x20   port: 80\n\
         ---\n\
         apiVersion: discovery.k8s.io/v1\n\
         kind: EndpointSlice\n\
         metadata:\n\
         \x20 name: {name}-1\n\
         \x20 labels: {{kubernetes.io/service-name: {name}}}\n\
         addressType: IPv4\n\
         ports:\n\
         - {{name: tcp, port: {}}}\n\
         endpoints:\n\
         - addresses: [{}]\n",
        server.port(),
        server.ip()
    )
}

/// Written in place, replaced by a rename, broken, mended, renamed, removed; hidden and foreign files do not count.
async fn edits(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(3)?);
    let (web, server) = (|n: usize| yaml("web", ports[0], servers[n].address()), at(ports[0]));
    let manifests = Manifests::new()?;
    manifests.write("web.yaml", &web(0))?;
    manifests.write("notes.txt", &yaml("other", ports[1], servers[0].address()))?;
    let lbex = lbex_on(&manifests, nginx).arg("--reload-interval=100ms").start().await?;
    tcp_reaches(server, &["a"]).await?;

    std::fs::write(manifests.file("web.yaml"), web(1))?;
    tcp_reaches(server, &["b"]).await?;
    manifests.write("web.yaml", &web(2))?;
    tcp_reaches(server, &["c"]).await?;

    // As an editor that moves the old one away first.
    std::fs::rename(manifests.file("web.yaml"), manifests.file("web.yaml~"))?;
    std::fs::write(manifests.file("web.yaml"), web(0))?;
    tcp_reaches(server, &["a"]).await?;

    // Line 5 has no colon any more: the file counts as unchanged. Another file beside it goes its way.
    let mark = lbex.log_mark();
    manifests.write("web.yaml", &web(1).replacen("annotations:", "annotations", 1))?;
    let line = lbex.wait_log_since(mark, "web.yaml:", SOON).await?;
    assert!(line.contains("web.yaml:5:") || line.contains("web.yaml:6:"), "{line}");
    assert!(line.contains("unchanged"), "{line}");
    manifests.write("other.yaml", &yaml("other", ports[1], servers[2].address()))?;
    tcp_reaches(at(ports[1]), &["c"]).await?;
    tcp_reaches(server, &["a"]).await?;
    assert_eq!(lbex.get("/").await?.status, 200);
    manifests.write("web.yaml", &web(1))?;
    tcp_reaches(server, &["b"]).await?;

    // Another name for the same objects changes nothing; no name removes them.
    let reloads = lbex.metric("lbex_apply_duration_seconds_count", &[("action", "reloaded")]).await?;
    std::fs::rename(manifests.file("web.yaml"), manifests.file("z.yml"))?;
    manifests.remove("other.yaml")?;
    tcp_refused(at(ports[1])).await?;
    tcp_reaches(server, &["b"]).await?;
    manifests.remove("z.yml")?;
    tcp_refused(server).await?;
    let after = lbex.metric("lbex_apply_duration_seconds_count", &[("action", "reloaded")]).await?;
    assert!(after.unwrap_or_default() - reloads.unwrap_or_default() <= 3.0, "{reloads:?}, then {after:?}");
    Ok(())
}

/// A folder as Kubernetes mounts a ConfigMap: files are links through `..data`, which is a link that is replaced.
async fn config_map(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(2)?);
    let mount = Scratch::for_nginx("configmap")?;
    for (version, server) in ["..v1", "..v2"].iter().zip(&servers) {
        std::fs::create_dir(mount.join(version))?;
        std::fs::write(mount.join(version).join("web.yaml"), yaml("web", port, server.address()))?;
    }
    symlink("..v1", mount.join("..data"))?;
    symlink("..data/web.yaml", mount.join("web.yaml"))?;
    let flags = [format!("--manifests={}", mount.path().display()), "--reload-interval=100ms".to_owned()];
    let _lbex = Lbex::builder(binary()).args(flags).nginx(nginx).start().await?;
    tcp_reaches(at(port), &["a"]).await?;
    symlink("..v2", mount.join("..data_tmp"))?;
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data"))?;
    tcp_reaches(at(port), &["b"]).await
}

/// A folder that vanishes takes nothing with it; when it is back, it counts again. The same for a single file's folder.
async fn a_folder_vanishes(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(3)?);
    let scratch = Scratch::for_nginx("vanishing")?;
    let (folder, away) = (scratch.join("manifests"), scratch.join("away"));
    let write = |n: usize| std::fs::write(folder.join("web.yaml"), yaml("web", ports[0], servers[n].address()));
    std::fs::create_dir(&folder)?;
    write(0)?;
    let flags = [format!("--manifests={}", folder.display()), "--reload-interval=100ms".to_owned()];
    let lbex = Lbex::builder(binary()).args(flags).nginx(nginx).start().await?;
    tcp_reaches(at(ports[0]), &["a"]).await?;
    lbex.wait_healthy().await?;

    let mark = lbex.log_mark();
    std::fs::rename(&folder, &away)?;
    let line = lbex.wait_log_since(mark, &folder.display().to_string(), SOON).await?;
    assert!(line.contains("unchanged") && line.contains("goes on being served"), "{line}");
    assert_eq!(lbex.metric("lbex_source_connected", &[]).await?, Some(0.0));
    assert_eq!(lbex.get("/").await?.status, 200);
    tcp_reaches(at(ports[0]), &["a"]).await?;
    // What moves on elsewhere is not followed.
    std::fs::write(away.join("web.yaml"), yaml("web", ports[0], servers[2].address()))?;

    std::fs::create_dir(&folder)?;
    write(1)?;
    tcp_reaches(at(ports[0]), &["b"]).await?;
    eventually_is("the source is back", SOON, Some(1.0), || async {
        lbex.metric("lbex_source_connected", &[]).await.ok().flatten()
    })
    .await
}

/// 200 changes within two seconds: the first at once, then at most one reload per interval, and the last one counts.
async fn burst(nginx: Nginx) -> Result<()> {
    let (port, servers) = (free_port()?, servers(3)?);
    let web = pods("web", port);
    let flags = ["--endpoint-updates=reload"];
    let world = World::start_with(nginx, &flags, [&web as _, &pods_slice("web", &servers[..1]) as _]).await?;
    // Until the interval after the start is over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = world.reloads().await?;
    let seen_before = world.lbex.metric("lbex_events_total", &[("kind", "endpoints")]).await?.unwrap_or_default();
    let begin = Instant::now();
    let mut changes: u32 = 0;
    // More of them where the first reload takes its time.
    while changes < 200 || world.reloads().await? - before < 1.0 {
        assert!(begin.elapsed() < SOON, "no reload while changes come");
        changes += 1;
        let server = &servers[usize::try_from(changes % 2)?];
        // An endpoint that is not ready makes each of them another one, whichever are read.
        let other = local(40, u8::try_from(changes % 250)?);
        let slice = pods_slice("web", [server]).endpoint(endpoint(other).not_ready());
        world.put([&web as _, &slice as _])?;
        tokio::time::sleep_until((begin + Duration::from_millis(10) * changes).into()).await;
    }
    let lasted = begin.elapsed();
    world.put([&web as _, &pods_slice("web", &servers[2..]) as _])?;
    tcp_reaches(at(port), &["c"]).await?;
    world.wait_applied().await?;
    let (took, reloads) = (begin.elapsed(), world.reloads().await? - before);
    assert!(reloads <= took.as_secs_f64() + 1.0, "{reloads} reloads within {took:?}");
    // Changes are joined for 200 ms at the most; what is more than that is room for a busy machine. None is seen twice.
    let seen =
        world.lbex.metric("lbex_events_total", &[("kind", "endpoints")]).await?.unwrap_or_default() - seen_before;
    let (least, most) = ((lasted.as_secs_f64() / 1.5).floor(), f64::from(changes) + 1.0);
    assert!((least..=most).contains(&seen), "{seen} changes were seen of {most}, not {least} or more");
    Ok(())
}

on_each_nginx!(edits, config_map, a_folder_vanishes, burst);
