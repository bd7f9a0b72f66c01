//! A Debian with a real systemd: a container that boots it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::backends::Echo;
use lbex_test_harness::http;
use lbex_test_harness::netns::Netns;
use lbex_test_harness::wait::{SOON, eventually};

use crate::podman::Container;
use crate::support::{Page, at, debian, manifests, serves};

const LISTENER: u16 = 80;

/// A booted Debian, in a network namespace whose clients and servers are on this host.
pub(crate) struct Host {
    pub(crate) container: Container,
    netns: Netns,
    servers: Vec<Echo>,
}

impl Host {
    pub(crate) async fn boot() -> Result<Self> {
        let netns = Netns::new()?;
        let servers = vec![Echo::new("a").ip(netns.host_v4()).start()?];
        let mut container = Container::new("host")?;
        let root = container.path("root");
        fs::create_dir(&root)?;
        debian(&root)?;
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

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.netns.v4(1)
    }

    pub(crate) fn web(&self) -> SocketAddr {
        at(self.address(), LISTENER)
    }

    /// Puts a file in.
    pub(crate) fn put(&self, path: &str, text: &str) -> Result<()> {
        let inside = self.container.path("root").join(path.trim_start_matches('/'));
        fs::create_dir_all(inside.parent().context("a folder")?)?;
        Ok(fs::write(inside, text)?)
    }

    /// Puts a file into the top folder.
    pub(crate) fn copy(&self, file: &Path) -> Result<()> {
        fs::copy(file, self.container.path("root").join(file.file_name().context("a name")?))?;
        Ok(())
    }

    /// Configures LBEX as the page says, and switches it on; with manifests instead of a cluster.
    pub(crate) async fn configure_and_enable(&self, page: &Page) -> Result<()> {
        self.put("/etc/lbex/manifests/web.json", &manifests(LISTENER, &self.servers))?;
        self.put("/kubeconfig", "a secret\n")?;
        self.run(page, "install -m 640 -o root -g lbex kubeconfig /etc/lbex/kubeconfig")?;
        self.run(page, "echo 'kubeconfig: /etc/lbex/kubeconfig' >> /etc/lbex/lbex.yaml")?;
        self.container.sh("sed -i 's,^kubeconfig: .*,manifests: /etc/lbex/manifests,' /etc/lbex/lbex.yaml")?;
        self.run(page, "systemctl enable --now lbex")?;
        // It is started when it is ready, and not before.
        self.container.sh("curl --silent --fail http://127.0.0.1:7331/readyz")?;
        self.healthy().await?;
        serves(self.web()).await
    }

    /// Runs a command of the page in the top folder.
    pub(crate) fn run(&self, page: &Page, command: &str) -> Result<String> {
        self.container.sh(&format!("cd /; {}", page.command(command)))
    }

    pub(crate) async fn healthy(&self) -> Result<()> {
        let health = at(self.address(), 7331);
        let healthy = eventually("LBEX is healthy", SOON, || async {
            let answer = http::get(health, "/").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        });
        healthy.await.with_context(|| self.container.sh("journalctl --no-pager -n 60").unwrap_or_default())
    }

    /// A property of a unit.
    pub(crate) fn property(&self, unit: &str, property: &str) -> Result<String> {
        Ok(self.container.exec(&["systemctl", "show", "--value", "-p", property, unit])?.trim().to_owned())
    }

    /// NGINX's master: its process id and its executable.
    pub(crate) fn nginx(&self) -> Result<(String, String)> {
        let said = self.container.sh("pid=$(cat /var/lib/lbex/run/nginx.pid); echo $pid $(readlink /proc/$pid/exe)")?;
        let (pid, executable) = said.trim().split_once(' ').context("no NGINX runs")?;
        Ok((pid.to_owned(), executable.to_owned()))
    }

    /// The process ids in a unit's control group, by the names of the processes.
    pub(crate) fn processes(&self, unit: &str) -> Result<Vec<String>> {
        let line = format!(
            "for p in $(cat /sys/fs/cgroup/$(systemctl show --value -p ControlGroup {unit} | cut -c2-)/cgroup.procs \
                            2>/dev/null || systemctl show --value -p MainPID {unit}); do echo $(cat /proc/$p/comm) $p; done"
        );
        Ok(self.container.sh(&line)?.lines().map(ToOwned::to_owned).collect())
    }

    /// All files, but for those that systemd and the kernel write to.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
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
