//! The package on a Debian with a real systemd.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use lbex_test_harness::backends::Conversation;
use lbex_test_harness::wait::{SOON, eventually, stays};

use crate::another::with_another_nginx;
use crate::booted::Host;
use crate::podman::Container;
use crate::support::{Page, Traffic, program, refuses, repository, run, serves};

fn package(container: &Container, version: &str, program: &Path) -> Result<PathBuf> {
    let mut build = Command::new(repository("packaging/deb/build"));
    build.arg(std::env::consts::ARCH).arg(program).arg(container.path("packages")).env("LBEX_DEB_VERSION", version);
    Ok(run(&mut build)?.trim().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_package_is_installed_upgraded_under_traffic_removed_and_purged() -> Result<()> {
    let host = Host::boot().await?;
    let other = host.container.path("lbex-with-another-nginx");
    let nginx = with_another_nginx(&other)?;
    let package = |version, program: &Path| package(&host.container, version, program);
    let (old, new, newest) =
        (package("1.0.0", &program()?)?, package("1.0.1", &program()?)?, package("1.0.2", &other)?);
    let (before, page) = (host.files()?, Page::read("docs/install-host.md")?);

    // Installed: off.
    host.copy(&old)?;
    let said = host.run(&page, "dpkg -i ./lbex_*.deb")?;
    assert!(said.contains("systemctl enable --now lbex"), "{said}");
    for unit in ["lbex", "lbex-nginx"] {
        assert_eq!(host.property(unit, "UnitFileState")?, "disabled");
        assert_eq!(host.property(unit, "ActiveState")?, "inactive");
    }
    host.container.sh("test \"$(stat -c %a:%U:%G /etc/lbex/lbex.yaml)\" = 640:root:lbex")?;

    host.configure_and_enable(&page).await?;
    assert_eq!(host.property("lbex", "User")?, "lbex");
    host.run(&page, "systemctl status lbex lbex-nginx")?;
    assert_eq!(host.run(&page, "curl --silent --fail http://127.0.0.1:7331/")?, "healthy\n");
    assert!(host.run(&page, "journalctl -u lbex")?.contains("LBEX "));
    hardened_and_watched(&host, &page).await?;
    neither_ends_with_the_other(&host, &page).await?;

    // NGINX's log is rotated.
    host.container.sh(
        "echo line >> /var/lib/lbex/logs/error.log; logrotate --state /tmp/rotated --force /etc/logrotate.d/lbex; \
         test -s /var/lib/lbex/logs/error.log.1",
    )?;
    eventually("NGINX writes to a new log", SOON, || async {
        host.container.sh("test -e /var/lib/lbex/logs/error.log").map(drop)
    })
    .await?;

    stop_and_start(&host, &page).await?;
    upgrade(&host, &page, &new, "1.0.1").await?;
    exchange_nginx(&host, &page, &newest, &nginx).await?;
    remove_and_purge(&host, &page, &before).await?;
    page.is_done(|command| !["./install.sh", "tar ", "lbex "].iter().any(|start| command.starts_with(start)));
    Ok(())
}

/// What systemd itself makes of the services, where they run; and an LBEX that hangs is started again, while NGINX serves on.
async fn hardened_and_watched(host: &Host, page: &Page) -> Result<()> {
    host.run(page, "systemd-analyze security lbex lbex-nginx")?;
    for unit in ["lbex.service", "lbex-nginx.service"] {
        host.container.sh(&format!("systemd-analyze security --no-pager --threshold=20 {unit}"))?;
    }
    let mut connection = Conversation::open(host.web()).await?;
    let short = "mkdir -p /run/systemd/system/lbex.service.d; cd /run/systemd/system/lbex.service.d; \
                 printf '[Service]\\nWatchdogSec=%s\\n' 5s > watchdog.conf; systemctl daemon-reload; systemctl restart lbex";
    host.container.sh(short)?;
    let hangs = host.property("lbex", "MainPID")?;
    host.container.sh(&format!("kill -STOP {hangs}"))?;
    eventually("the watchdog ends LBEX", SOON, || async {
        let now = host.property("lbex", "MainPID")?;
        ensure!(now != hangs && now != "0", "MainPID is {now}");
        Ok(())
    })
    .await?;
    host.healthy().await?;
    connection.say("still here").await?;
    host.container.sh("rm -r /run/systemd/system/lbex.service.d; systemctl daemon-reload; systemctl restart lbex")?;
    host.healthy().await
}

async fn neither_ends_with_the_other(host: &Host, page: &Page) -> Result<()> {
    let nginx = host.property("lbex-nginx", "MainPID")?;
    ensure!(nginx != "0", "lbex-nginx.service runs");
    let mut connection = Conversation::open(host.web()).await?;
    host.run(page, "systemctl restart lbex")?;
    host.healthy().await?;
    connection.say("still here").await?;
    host.container.sh("systemctl kill --kill-whom=all -s KILL lbex")?;
    serves(host.web()).await?;
    host.healthy().await?;
    connection.say("still here").await?;
    assert_eq!(host.property("lbex-nginx", "MainPID")?, nginx, "NGINX's service was not restarted");
    let lbex = host.property("lbex", "MainPID")?;
    drop(connection);
    host.container.sh("systemctl restart lbex-nginx")?;
    host.healthy().await?;
    serves(host.web()).await?;
    assert_eq!(host.property("lbex", "MainPID")?, lbex, "LBEX was not restarted");
    Ok(())
}

async fn stop_and_start(host: &Host, page: &Page) -> Result<()> {
    host.run(page, "systemctl stop lbex")?;
    serves(host.web()).await?;
    host.run(page, "systemctl stop lbex-nginx")?;
    refuses(host.web()).await?;
    host.container.sh("systemctl start lbex")?;
    host.healthy().await?;
    serves(host.web()).await
}

/// Another package over the one that is installed, under traffic. The NGINX that it brings is the same.
async fn upgrade(host: &Host, page: &Page, new: &Path, version: &str) -> Result<()> {
    let master = host.nginx()?;
    let mut connection = Conversation::open(host.web()).await?;
    install_under_traffic(host, page, new, version).await?;
    connection.say("still here").await?;
    assert_eq!(host.nginx()?, master, "NGINX was left alone");
    host.container.sh("grep -q '^manifests:' /etc/lbex/lbex.yaml")?;
    Ok(())
}

/// A package with another NGINX: that takes over from the one that runs, in place and in the same service.
async fn exchange_nginx(host: &Host, page: &Page, new: &Path, nginx: &str) -> Result<()> {
    let old = host.nginx()?;
    let mut connection = Conversation::open(host.web()).await?;
    install_under_traffic(host, page, new, "1.0.2").await?;
    let (pid, executable) = host.nginx()?;
    assert_ne!((&pid, &executable), (&old.0, &old.1));
    let said = host.container.sh(&format!("{executable} -v 2>&1"))?;
    ensure!(said.contains(nginx), "{said} is not {nginx}");
    serves(host.web()).await?;
    connection.say("still here").await?;
    let service = host.property("lbex-nginx", "MainPID")?;
    host.container.sh(&format!("cmp /proc/{pid}/cgroup /proc/{service}/cgroup"))?;
    drop(connection);
    eventually("the old NGINX ends with its last connection", SOON, || async {
        host.container.sh(&format!("test ! -e /proc/{}", old.0)).map(drop)
    })
    .await
}

/// LBEX is restarted, NGINX's service is not, and no client fails.
async fn install_under_traffic(host: &Host, page: &Page, new: &Path, version: &str) -> Result<()> {
    let (lbex, nginx) = (host.property("lbex", "MainPID")?, host.property("lbex-nginx", "MainPID")?);
    let traffic = Traffic::start(host.web());
    host.container.sh("rm /lbex_*.deb")?;
    host.copy(new)?;
    host.run(page, "dpkg -i ./lbex_*.deb")?;
    host.healthy().await?;
    let (answered, failures) = traffic.end().await?;
    eprintln!("the upgrade to {version}: {answered} answered, {} failed", failures.len());
    if !failures.is_empty() || answered <= 100 {
        let said = logs(host)?;
        bail!("the upgrade to {version}: {answered} answered, failed:\n{}\n{said}", failures.join("\n"));
    }
    assert_ne!(host.property("lbex", "MainPID")?, lbex, "LBEX was restarted");
    assert_eq!(host.property("lbex-nginx", "MainPID")?, nginx, "and NGINX's service was not");
    assert_eq!(host.container.sh("dpkg-query -W -f '${Version}' lbex")?, version);
    Ok(())
}

/// What LBEX and NGINX said of late.
fn logs(host: &Host) -> Result<String> {
    host.container.sh("journalctl --no-pager --output=short-unix -u lbex -u lbex-nginx -n 80; \
         echo '--- NGINX, UTC'; tail -n 60 /var/lib/lbex/logs/error.log")
}

async fn remove_and_purge(host: &Host, page: &Page, before: &[String]) -> Result<()> {
    // Removed: no new clients, those that are there finish.
    let mut connection = Conversation::open(host.web()).await?;
    let mut removing = host.container.podman();
    removing.args(["exec", host.container.name(), "sh", "-c", page.command("dpkg -r lbex")]);
    let removing = tokio::task::spawn_blocking(move || run(&mut removing));
    refuses(host.web()).await?;
    connection.say("not done yet").await?;
    stays("the drain waits", Duration::from_secs(1), || async {
        ensure!(!removing.is_finished(), "it is over");
        Ok(())
    })
    .await?;
    drop(connection);
    removing.await??;
    let left = host.container.sh("pgrep -l 'lbex|nginx' || true")?;
    assert_eq!(left, "", "processes are left");
    host.container.sh("test -e /etc/lbex/lbex.yaml && test -e /var/lib/lbex/state/last-good.json")?;

    host.run(page, "dpkg -P lbex")?;
    host.container.sh("! getent passwd lbex && ! getent group lbex")?;
    let left: Vec<_> = host.files()?.into_iter().filter(|file| !before.contains(file)).collect();
    assert_eq!(left, Vec::<String>::new(), "files are left");
    Ok(())
}
