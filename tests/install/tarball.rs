//! The tarball, on a Debian with a real systemd and in a plain root.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::backends::{Conversation, Echo, tcp_ask};
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::process::Process;
use lbex_test_harness::wait::{SOON, eventually};
use lbex_test_harness::{Scratch, http, programs};
use nix::sys::signal::Signal;

use crate::booted::Host;
use crate::support::{Page, Traffic, at, debian, manifests, program, refuses, repository, run, serves};

fn tarball(folder: &Path) -> Result<PathBuf> {
    let mut build = Command::new(repository("packaging/tarball/build"));
    build.arg(std::env::consts::ARCH).arg(program()?).arg(folder);
    Ok(run(&mut build)?.trim().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tarball_installs_itself_upgrades_and_purges() -> Result<()> {
    let host = Host::boot().await?;
    let page = Page::read("docs/install-host.md")?;
    host.copy(&tarball(&host.container.path("tarball"))?)?;
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

    host.container.sh(&here("./install.sh --remove"))?;
    ensure!(tcp_ask(host.web()).await.is_err(), "something still answers");
    host.container.sh("test -e /etc/lbex/lbex.yaml -a ! -e /usr/bin/lbex")?;
    host.container.sh(&here("./install.sh --purge"))?;
    let left: Vec<_> = host.files()?.into_iter().filter(|file| !before.contains(file)).collect();
    assert_eq!(left, Vec::<String>::new(), "files are left");
    page.is_done(|command| command.contains("install.sh") || command.starts_with("tar "));
    Ok(())
}

/// A root directory that systemd does not run in, entered with nothing but `/proc` mounted.
struct Plain {
    scratch: Scratch,
}

impl Plain {
    fn new() -> Result<Self> {
        let this = Self { scratch: Scratch::for_nginx("plain-root")? };
        debian(this.scratch.path())?;
        Ok(this)
    }

    /// A command that runs a shell line in it.
    fn enter(&self, line: &str) -> Result<Command> {
        let enter = "mount -t proc proc \"$1/proc\" && exec chroot \"$1\" sh -ec \"$2\" 2>&1";
        let mut command = Command::new(programs::find("unshare")?);
        command.args(["--mount", "/bin/sh", "-ec", enter, "sh"]).arg(self.scratch.path()).arg(line);
        Ok(command)
    }

    /// Runs a shell line in it; what it printed, its errors as well.
    fn sh(&self, line: &str) -> Result<String> {
        run(&mut self.enter(line)?)
    }

    /// Starts a command of the page in it, and leaves it running.
    fn start(&self, page: &Page, name: &str, command: &str) -> Result<Process> {
        let log = self.path(&format!("tmp/{name}.log"));
        Process::start(name, &self.enter(&format!("exec {}", page.command(command)))?, &log)
    }

    /// Unpacks the tarball into `/lbex`.
    fn unpack(&self) -> Result<()> {
        fs::create_dir(self.path("lbex"))?;
        let packed = tarball(&self.path("lbex"))?;
        let mut unpack = Command::new("tar");
        unpack.args(["--strip-components=1", "-xzf"]).arg(&packed).arg("-C").arg(self.path("lbex"));
        run(&mut unpack).map(drop)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.scratch.join(path)
    }

    /// Every file, with its mode, its owner, and its contents' checksum, but for what lists users by time.
    fn files(&self) -> Result<Vec<String>> {
        let list = "find / -xdev \\( -path /proc -o -path /lbex \\) -prune -o -type f -printf '%m %u:%g %p\\n' | sort";
        let listed = self.sh(list)?;
        // Copies that systemd-sysusers and userdel make of what they change.
        let kept = |line: &&str| !line.ends_with('-') && !line.ends_with("/.pwd.lock");
        Ok(listed.lines().filter(kept).map(ToOwned::to_owned).collect())
    }
}

#[test]
fn the_tarball_in_a_plain_root_is_installed_again_and_removed_without_a_trace() -> Result<()> {
    let plain = Plain::new()?;
    let (before, users) = (plain.files()?, fs::read_to_string(plain.path("etc/passwd"))?);
    plain.unpack()?;

    // Where there is no systemd at all nothing is done by halves.
    plain.sh("mv /usr/bin/systemd-sysusers /usr/bin/away")?;
    let refused = plain.sh("if /lbex/install.sh; then exit 1; fi")?;
    ensure!(refused.contains("systemd-sysusers is missing, and nothing is installed"), "{refused}");
    plain.sh("mv /usr/bin/away /usr/bin/systemd-sysusers")?;
    assert_eq!(plain.files()?, before);

    let said = plain.sh("/lbex/install.sh")?;
    ensure!(said.contains("systemctl enable --now lbex"), "{said}");
    let version = plain.sh("lbex --version")?;
    ensure!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let modes = plain.sh("stat -c '%a %U:%G' /usr/bin/lbex /etc/lbex /etc/lbex/lbex.yaml")?;
    assert_eq!(modes, "755 root:root\n750 root:lbex\n640 root:lbex\n");
    plain.sh("getent passwd lbex | grep -q :/var/lib/lbex:/usr/sbin/nologin")?;
    let installed = plain.files()?;

    // Again, as an upgrade does: the same files, and what was edited stays.
    plain.sh("echo 'kubeconfig: /etc/lbex/kubeconfig' >> /etc/lbex/lbex.yaml")?;
    let again = plain.sh("/lbex/install.sh")?;
    ensure!(again.contains("was changed and stays"), "{again}");
    plain.sh("grep -q ^kubeconfig: /etc/lbex/lbex.yaml; rm /etc/lbex/lbex.yaml.new")?;
    assert_eq!(plain.files()?, installed);

    plain.sh("mkdir -p /var/lib/lbex/state; touch /var/lib/lbex/state/last-good.json; /lbex/install.sh --remove")?;
    plain.sh("test -e /etc/lbex/lbex.yaml -a -e /var/lib/lbex/state/last-good.json -a ! -e /usr/bin/lbex")?;
    plain.sh("/lbex/install.sh --purge")?;
    assert_eq!(plain.files()?, before);
    assert_eq!(fs::read_to_string(plain.path("etc/passwd"))?, users);
    Ok(())
}

/// Without systemd: LBEX by itself, and then as two services, which take over what it has left.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_runs_without_systemd_alone_and_as_two_services() -> Result<()> {
    let (plain, page) = (Plain::new()?, Page::read("docs/install-host.md")?);
    plain.unpack()?;
    plain.sh("/lbex/install.sh")?;
    let servers = [Echo::new("a").start()?];
    let ports = free_ports(2)?;
    let settings = format!("manifests: /etc/lbex/manifests\nhealth-port: {}\nmetrics-address: \"off\"\n", ports[0]);
    fs::write(plain.path("etc/lbex/lbex.yaml"), settings)?;
    fs::create_dir(plain.path("etc/lbex/manifests"))?;
    fs::write(plain.path("etc/lbex/manifests/web.json"), manifests(ports[1], &servers))?;
    let web = at(Ipv4Addr::LOCALHOST, ports[1]);
    let ends = async |process: &Process| {
        process.signal(Signal::SIGTERM)?;
        let status = process.wait(SOON).await?;
        ensure!(status.success(), "{status}: {}", process.log_tail());
        anyhow::Ok(())
    };

    let alone = plain.start(&page, "alone", "lbex --config /etc/lbex/lbex.yaml")?;
    serves(web).await.with_context(|| alone.log_tail())?;
    let mut connection = Conversation::open(web).await?;
    ends(&alone).await?;

    let proxy = plain.start(&page, "proxy", "lbex proxy --config /etc/lbex/lbex.yaml")?;
    let lbex = plain.start(&page, "lbex", "lbex --config /etc/lbex/lbex.yaml --start-nginx=service")?;
    let health = at(Ipv4Addr::LOCALHOST, ports[0]);
    eventually("LBEX is healthy", SOON, || async {
        let answer = http::get(health, "/").await?;
        ensure!(answer.status == 200, "{answer:?} {}", lbex.log_tail());
        anyhow::Ok(())
    })
    .await?;
    ends(&lbex).await?;
    connection.say("still here").await?;
    drop(connection);
    ends(&proxy).await?;
    refuses(web).await?;
    page.is_done(|command| command.starts_with("lbex "));
    Ok(())
}
