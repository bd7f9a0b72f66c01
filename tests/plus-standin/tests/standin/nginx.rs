//! The executable that LBEX takes for NGINX Plus.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_plus_standin::api::Code;
use lbex_plus_standin::{Control, Fault, Rule, ToldCall};
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::{Conversation, Echo, tcp_ask};
use lbex_test_harness::nginx::processes_of;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::{SOON, eventually, eventually_is};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use crate::client::{exchange, request};

const PROGRAM: &str = env!("CARGO_BIN_EXE_nginx-plus-standin");

/// A prefix with a configuration of NGINX Plus.
struct Prefix {
    folder: Scratch,
}

impl Prefix {
    fn new() -> Result<Self> {
        let folder = Scratch::for_nginx("plus")?;
        for name in ["conf", "services", "run", "logs", "state"] {
            std::fs::create_dir(folder.join(name))?;
        }
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a configuration with these upstreams, each with a listener of its own.
    fn configure(&self, upstreams: &[(&str, u16)], extra: &str) -> Result<()> {
        let socket = self.path("run/api.sock");
        let mut includes = String::new();
        for (name, port) in upstreams {
            let state = self.path("state").join(format!("{name}.conf"));
            let text = format!(
                "upstream {name} {{\n    zone {name} 64k;\n    state {};\n    least_time first_byte inflight;\n}}\n\
                 server {{\n    listen 127.0.0.1:{port};\n    status_zone {name};\n    proxy_pass {name};\n}}\n{extra}",
                state.display()
            );
            std::fs::write(self.path("services").join(format!("{name}.conf")), text)?;
            writeln!(includes, "    include ../services/{name}.conf;")?;
        }
        let user = if nix::unistd::geteuid().is_root() { "user nobody nogroup;\n" } else { "" };
        let main = format!(
            "daemon on;\n{user}error_log logs/error.log warn;\npid run/nginx.pid;\nevents {{\n    worker_connections 512;\n}}\n\
             http {{\n    server {{\n        listen unix:{};\n        location /api/ {{\n            api write=on;\n        }}\n    }}\n}}\n\
             stream {{\n    server {{\n        listen unix:{};\n        return \"{} upstreams\";\n    }}\n{includes}}}\n",
            socket.display(),
            self.path("run/generation.sock").display(),
            upstreams.len()
        );
        Ok(std::fs::write(self.path("conf/nginx.conf"), main)?)
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).arg("-p").arg(self.folder.path()).args([
            "-c",
            "conf/nginx.conf",
            "-e",
            "logs/error.log",
        ]);
        Ok(command.current_dir(self.folder.path()).output()?)
    }

    fn start(&self) -> Result<()> {
        let output = self.run(&[])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        let text = std::fs::read_to_string(self.path("run/nginx.pid")).context("no pid file")?;
        Ok(Pid::from_raw(text.trim().parse()?))
    }

    async fn call(&self, method: &str, path: &str, body: &str, status: u16) -> Result<serde_json::Value> {
        let stream = UnixStream::connect(self.path("run/api.sock")).await?;
        let answer = exchange(stream, &request(method, &format!("/api/9{path}"), "", body)).await?;
        ensure!(answer.status == status, "{method} {path}: {} {}", answer.status, answer.body);
        answer.json()
    }

    /// What it says that it serves.
    async fn says(&self) -> Result<String> {
        let mut words = String::new();
        let mut stream = UnixStream::connect(self.path("run/generation.sock")).await?;
        stream.read_to_string(&mut words).await?;
        Ok(words)
    }

    async fn add(&self, upstream: &str, server: SocketAddr) -> Result<()> {
        let path = format!("/stream/upstreams/{upstream}/servers");
        self.call("POST", &path, &json!({"server": server}).to_string(), 201).await.map(drop)
    }

    /// Waits until no process of it is left.
    async fn gone(&self) -> Result<()> {
        eventually("all of it has ended", SOON, || async {
            let left = processes_of(self.folder.path());
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await
    }
}

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

#[test]
fn it_says_what_it_is_and_that_it_is_a_stand_in() -> Result<()> {
    let output = Command::new(PROGRAM).arg("-V").output()?;
    let text = String::from_utf8(output.stderr)?;
    let report = lbex_backend_nginx::binary::VersionReport::parse(&text).context("no report")?;
    assert!(report.is_plus() && report.has_flag("--with-stream"), "{text}");
    assert!(text.contains("not NGINX Plus") && text.contains("stand-in"), "{text}");
    let unknown = Command::new(PROGRAM).args(["-s", "reload"]).output()?;
    assert!(!unknown.status.success());
    Ok(())
}

#[test]
fn a_check_names_files_and_lines_of_the_original() -> Result<()> {
    let (prefix, ports) = (Prefix::new()?, free_ports(1)?);
    let check = |extra: &str| -> Result<(bool, String)> {
        prefix.configure(&[("web", ports[0])], extra)?;
        let output = prefix.run(&["-t", "-q"])?;
        Ok((output.status.success(), String::from_utf8(output.stderr)?))
    };
    assert_eq!(check("")?, (true, String::new()));
    // As NGINX names it.
    let file = prefix.path("conf/../services/web.conf");
    // What the open-source NGINX refuses, and what only NGINX Plus has.
    for (extra, line) in [
        ("nonsense;\n", 11),
        ("upstream other {\n    zone z 64k;\n    state /x;\n    server 10.0.0.1:80;\n}\n", 13),
        ("upstream other {\n    state /x;\n}\n", 12),
        ("upstream other {\n    zone z 64k;\n    least_time sometimes;\n}\n", 13),
        ("server {\n", 12),
    ] {
        let (good, text) = check(extra)?;
        assert!(!good && text.starts_with("nginx: [emerg] "), "{extra}: {text}");
        assert!(text.contains(&format!(" in {}:{line}", file.display())), "{extra}: {text}");
    }
    assert!(!Path::new(&prefix.path("run/nginx.pid")).exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_as_its_api_says_over_reloads_and_restarts() -> Result<()> {
    let (prefix, ports) = (Prefix::new()?, free_ports(2)?);
    let (a, b) = (Echo::new("a").start()?, Echo::new("b").start()?);
    prefix.configure(&[("web", ports[0])], "")?;
    prefix.start()?;
    let pid = prefix.pid()?;
    assert_eq!(prefix.says().await?, "1 upstreams");
    assert!(tcp_ask(at(ports[0])).await.is_err(), "there is no server");
    prefix.add("web", a.address()).await?;
    assert_eq!(tcp_ask(at(ports[0])).await?, "a");
    let mut held = Conversation::open(at(ports[0])).await?;
    assert_eq!(prefix.call("GET", "/nginx", "", 200).await?["generation"], 1);

    // A reload: another upstream comes, the first one keeps its servers.
    prefix.configure(&[("web", ports[0]), ("more", ports[1])], "")?;
    kill(pid, Signal::SIGHUP)?;
    eventually_is("the new configuration is served", SOON, Some("2 upstreams".to_owned()), || async {
        prefix.says().await.ok()
    })
    .await?;
    prefix.add("more", b.address()).await?;
    assert_eq!(prefix.call("GET", "/nginx", "", 200).await?["generation"], 2);
    assert_eq!((tcp_ask(at(ports[0])).await?, tcp_ask(at(ports[1])).await?), ("a".to_owned(), "b".to_owned()));
    held.say("still here").await?;

    // One that cannot be: everything stays, and the log says why.
    prefix.configure(&[("web", ports[0]), ("more", a.port())], "")?;
    kill(pid, Signal::SIGHUP)?;
    eventually("the log says why", SOON, || async {
        let log = std::fs::read_to_string(prefix.path("logs/error.log"))?;
        ensure!(prefix.says().await? == "2 upstreams", "it says that it serves something else");
        ensure!(log.contains("[emerg]") && log.contains(&a.port().to_string()), "{log}");
        Ok(())
    })
    .await?;
    assert_eq!((tcp_ask(at(ports[0])).await?, tcp_ask(at(ports[1])).await?), ("a".to_owned(), "b".to_owned()));
    held.say("still here").await?;

    // It ends, and begins with the servers of its files.
    kill(pid, Signal::SIGTERM)?;
    prefix.gone().await?;
    held.closed(Duration::from_secs(5)).await?;
    prefix.configure(&[("web", ports[0])], "")?;
    prefix.start()?;
    assert_eq!(tcp_ask(at(ports[0])).await?, "a");
    let server = &prefix.call("GET", "/stream/upstreams/web/servers", "", 200).await?[0];
    assert_eq!(server["server"], json!(a.address()));
    kill(prefix.pid()?, Signal::SIGTERM)?;
    prefix.gone().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_says_what_goes_wrong_and_reads_the_calls() -> Result<()> {
    let prefix = Prefix::new()?;
    prefix.configure(&[("web", free_ports(1)?[0])], "")?;
    prefix.start()?;
    let control = Control::new(&prefix.path("run/api.sock"));
    control.inject(&Rule::new(Fault::Error(Code::UpstreamOutOfMemory)).method("POST").always()).await?;
    let (path, body) = ("/stream/upstreams/web/servers", json!({"server": "10.0.0.1:80"}).to_string());
    let refused = prefix.call("POST", path, &body, 400).await?;
    assert_eq!(refused["error"]["code"], "UpstreamOutOfMemory");
    control.heal().await?;
    prefix.call("POST", path, &body, 201).await?;
    let call = |status| ToldCall { line: format!("POST /9{path}"), body: body.clone(), status: Some(status) };
    assert_eq!(control.calls().await?, [call(400), call(201)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_it_is_killed_its_ports_are_free_again() -> Result<()> {
    let (prefix, ports) = (Prefix::new()?, free_ports(1)?);
    prefix.configure(&[("web", ports[0])], "")?;
    prefix.start()?;
    kill(prefix.pid()?, Signal::SIGKILL)?;
    prefix.gone().await?;
    prefix.start()?;
    // Told to finish, it waits for its last connection.
    let a = Echo::new("a").start()?;
    prefix.add("web", a.address()).await?;
    let mut held = Conversation::open(at(ports[0])).await?;
    kill(prefix.pid()?, Signal::SIGQUIT)?;
    eventually("nobody new is let in", SOON, || async {
        ensure!(tcp_ask(at(ports[0])).await.is_err(), "somebody is");
        Ok(())
    })
    .await?;
    held.say("not done yet").await?;
    drop(held);
    prefix.gone().await
}
