//! The package and the tarball on a Debian with a real systemd: a container that boots it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::backends::{Conversation, Echo, tcp_ask};
use lbex_test_harness::http;
use lbex_test_harness::netns::Netns;
use lbex_test_harness::wait::{SOON, eventually, stays};

use crate::podman::Container;
use crate::support::{Page, Traffic, at, manifests, program, refuses, repository, run, serves};

const LISTENER: u16 = 80;

/// A booted Debian, in a network namespace whose clients and servers are on this host.
struct Host {
    container: Container,
    netns: Netns,
    servers: Vec<Echo>,
}

impl Host {
    async fn boot() -> Result<Self> {
        let netns = Netns::new()?;
        let servers = vec![Echo::new("a").ip(netns.host_v4()).start()?];
        let mut container = Container::new("host")?;
        let root = container.path("root");
        fs::create_dir(&root)?;
        let cache = std::env::var("LBEX_CACHE").or_else(|_| std::env::var("HOME").map(|home| home + "/.cache/lbex"))?;
        let system = Path::new(&cache).join("debian-bookworm.tar");
        run(Command::new("tar").arg("-xf").arg(&system).arg("-C").arg(&root))
            .context("the Debian to boot: tests/tools/install.sh packaging")?;
        let root = root.display().to_string();
        container.start(&netns, &["--systemd=always", "--privileged", "--rootfs", &root, "/sbin/init"])?;
        let this = Self { container, netns, servers };
        eventually("systemd has booted", SOON, || async {
            let state = this.container.sh("systemctl is-system-running || true")?;
            ensure!(["running", "degraded"].contains(&state.trim()), "{state}");
            Ok(())
        })
        .await?;
        Ok(this)
    }

    fn address(&self) -> Ipv4Addr {
        self.netns.v4(1)
    }

    fn web(&self) -> SocketAddr {
        at(self.address(), LISTENER)
    }

    /// Puts a file in.
    fn put(&self, path: &str, text: &str) -> Result<()> {
        let inside = self.container.path("root").join(path.trim_start_matches('/'));
        fs::create_dir_all(inside.parent().context("a folder")?)?;
        Ok(fs::write(inside, text)?)
    }

    /// Puts a file into the top folder.
    fn copy(&self, file: &Path) -> Result<()> {
        fs::copy(file, self.container.path("root").join(file.file_name().context("a name")?))?;
        Ok(())
    }

    /// Configures LBEX as the page says, and switches it on; with manifests instead of a cluster.
    async fn configure_and_enable(&self, page: &Page) -> Result<()> {
        self.put("/etc/lbex/manifests/web.json", &manifests(LISTENER, &self.servers))?;
        self.put("/kubeconfig", "a secret\n")?;
        self.run(page, "install -m 640 -o root -g lbex kubeconfig /etc/lbex/kubeconfig")?;
        self.run(page, "echo 'kubeconfig: /etc/lbex/kubeconfig' >> /etc/lbex/lbex.yaml")?;
        self.container.sh("sed -i 's,^kubeconfig: .*,manifests: /etc/lbex/manifests,' /etc/lbex/lbex.yaml")?;
        self.run(page, "systemctl enable --now lbex")?;
        self.healthy().await?;
        serves(self.web()).await
    }

    /// Runs a command of the page in the top folder.
    fn run(&self, page: &Page, command: &str) -> Result<String> {
        self.container.sh(&format!("cd /; {}", page.command(command)))
    }

    async fn healthy(&self) -> Result<()> {
        let health = at(self.address(), 7331);
        let healthy = eventually("LBEX is healthy", SOON, || async {
            let answer = http::get(health, "/").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        });
        healthy.await.with_context(|| self.container.sh("journalctl --no-pager -n 60").unwrap_or_default())
    }

    /// A property of a unit.
    fn property(&self, unit: &str, property: &str) -> Result<String> {
        Ok(self.container.exec(&["systemctl", "show", "--value", "-p", property, unit])?.trim().to_owned())
    }

    /// The process ids in a unit's control group, by the names of the processes.
    fn processes(&self, unit: &str) -> Result<Vec<String>> {
        let line = format!(
            "for p in $(cat /sys/fs/cgroup/$(systemctl show --value -p ControlGroup {unit} | cut -c2-)/cgroup.procs \
                            2>/dev/null || systemctl show --value -p MainPID {unit}); do echo $(cat /proc/$p/comm) $p; done"
        );
        Ok(self.container.sh(&line)?.lines().map(ToOwned::to_owned).collect())
    }

    /// All files, but for those that systemd and the kernel write to.
    fn files(&self) -> Result<Vec<String>> {
        let line = "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log/journal \\
                    -o -path /var/lib/systemd -o -path /var/tmp -o -path /var/lib/dpkg -o -path /var/log \\) -prune -o -print | sort";
        Ok(self
            .container
            .sh(line)?
            .lines()
            .filter(|file| !file.starts_with("/lbex_") && file != &"/kubeconfig")
            .map(ToOwned::to_owned)
            .collect())
    }
}

fn package(container: &Container, version: &str) -> Result<PathBuf> {
    let mut build = Command::new(repository("packaging/deb/build"));
    build.arg(std::env::consts::ARCH).arg(program()?).arg(container.path("packages")).env("LBEX_DEB_VERSION", version);
    Ok(run(&mut build)?.trim().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_package_is_installed_upgraded_under_traffic_removed_and_purged() -> Result<()> {
    let host = Host::boot().await?;
    let (old, new) = (package(&host.container, "1.0.0")?, package(&host.container, "1.0.1")?);
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
    let nginx = host.property("lbex-nginx", "MainPID")?;
    ensure!(nginx != "0", "lbex-nginx.service runs");

    // Neither ends with the other.
    let mut connection = Conversation::open(host.web()).await?;
    host.run(&page, "systemctl restart lbex")?;
    host.healthy().await?;
    connection.say("still here").await?;
    host.container.sh("systemctl kill --kill-whom=all -s KILL lbex")?;
    serves(host.web()).await?;
    host.healthy().await?;
    connection.say("still here").await?;
    let lbex = host.property("lbex", "MainPID")?;
    drop(connection);
    host.container.sh("systemctl restart lbex-nginx")?;
    host.healthy().await?;
    serves(host.web()).await?;
    assert_eq!(host.property("lbex", "MainPID")?, lbex, "LBEX was not restarted");

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
    upgrade(&host, &page, &new).await?;
    remove_and_purge(&host, &page, &before).await?;
    page.is_done(|command| !command.contains("install.sh") && !command.starts_with("tar "));
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

async fn upgrade(host: &Host, page: &Page, new: &Path) -> Result<()> {
    let mut connection = Conversation::open(host.web()).await?;
    let (lbex, nginx) = (host.property("lbex", "MainPID")?, host.property("lbex-nginx", "MainPID")?);
    let traffic = Traffic::start(host.web());
    host.container.sh("rm /lbex_*.deb")?;
    host.copy(new)?;
    host.run(page, "dpkg -i ./lbex_*.deb")?;
    host.healthy().await?;
    let (answered, failures) = traffic.end().await?;
    ensure!(failures.is_empty() && answered > 100, "{answered} answered, failed: {failures:?}");
    connection.say("still here").await?;
    assert_ne!(host.property("lbex", "MainPID")?, lbex, "LBEX was restarted");
    assert_eq!(host.property("lbex-nginx", "MainPID")?, nginx, "and NGINX's service was not");
    let version = host.container.sh("dpkg-query -W -f '${Version}' lbex")?;
    assert_eq!(version, "1.0.1");
    host.container.sh("grep -q '^manifests:' /etc/lbex/lbex.yaml")?;
    Ok(())
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

#[tokio::test(flavor = "multi_thread")]
async fn the_tarball_installs_itself_upgrades_and_purges() -> Result<()> {
    let host = Host::boot().await?;
    let mut build = Command::new(repository("packaging/tarball/build"));
    build.arg(std::env::consts::ARCH).arg(program()?).arg(host.container.path("tarball"));
    let page = Page::read("docs/install-host.md")?;
    host.copy(Path::new(run(&mut build)?.trim()))?;
    let before = host.files()?;
    // In a folder of its own, so that what is left can be told.
    let here = |command| format!("mkdir -p /tmp/x; cd /tmp/x; ln -sf /linux_*.tar.gz .; {}", page.command(command));
    host.container.sh(&here("tar --strip-components=1 -xzf linux_amd64.tar.gz"))?;

    let said = host.container.sh(&here("./install.sh"))?;
    assert!(said.contains("systemctl enable --now lbex"), "{said}");
    host.configure_and_enable(&page).await?;
    let in_nginx = host.processes("lbex-nginx")?;
    ensure!(in_nginx.iter().any(|process| process.starts_with("lbex ")), "{in_nginx:?}");
    let lbex = host.property("lbex", "MainPID")?;
    let traffic = Traffic::start(host.web());
    host.container.sh(&here("./install.sh"))?;
    host.healthy().await?;
    let (answered, failures) = traffic.end().await?;
    ensure!(failures.is_empty() && answered > 100, "{answered} answered, failed: {failures:?}");
    assert_ne!(host.property("lbex", "MainPID")?, lbex, "LBEX was restarted");
    host.container.sh("grep -q '^manifests:' /etc/lbex/lbex.yaml")?;

    host.container.sh(&here("./install.sh --purge"))?;
    ensure!(tcp_ask(host.web()).await.is_err(), "something still answers");
    let left: Vec<_> = host.files()?.into_iter().filter(|file| !before.contains(file)).collect();
    assert_eq!(left, Vec::<String>::new(), "files are left");
    page.is_done(|command| command.contains("install.sh") || command.starts_with("tar "));
    Ok(())
}
