//! LBEX as a process: what it is started with, what can be seen of it, and that nothing of it stays.
//!
//! LBEX itself is played by this test binary ([`stand_in`]), so that the harness is tested apart from LBEX.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::nginx::{Nginx, processes_of};
use lbex_test_harness::wait::{SOON, eventually};

/// The stand-in's command line, without which this binary is a test as any other.
const ARGUMENTS: &str = "HARNESS_STAND_IN";

/// Writes a program that takes any arguments and runs [`stand_in`] with them.
fn binary(folder: &Scratch) -> Result<PathBuf> {
    let path = folder.join("lbex");
    let test = std::env::current_exe()?;
    let script = format!(
        "#!/bin/sh\n{ARGUMENTS}=\"$*\" exec '{}' --exact stand_in --nocapture --test-threads=1\n",
        test.display()
    );
    std::fs::write(&path, script)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Not a test of its own: serves health and metrics, and starts an NGINX that outlives it.
#[test]
fn stand_in() -> Result<()> {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return Ok(()) };
    eprintln!("\nstarted with {arguments}"); // on a line of its own: the test runner has begun one
    if arguments.contains("--refuse") {
        eprintln!("refused, with a reason");
        std::process::exit(2);
    }
    let value = |flag: &str| {
        let found = arguments.split(' ').find_map(|word| word.strip_prefix(flag)?.strip_prefix('='));
        found.map(ToOwned::to_owned).with_context(|| format!("no {flag}"))
    };
    start_nginx(Path::new(&value("--nginx-prefix")?))?;
    let health = TcpListener::bind(format!("{}:{}", value("--health-address")?, value("--health-port")?))?;
    let metrics = TcpListener::bind(value("--metrics-address")?)?;
    let thread = std::thread::spawn(move || serve(&metrics, "# TYPE x gauge\nx{of=\"a\"} 1\nx{of=\"b\"} 2\n"));
    serve(&health, "healthy\n")?;
    thread.join().unwrap_or(Ok(()))
}

fn serve(listener: &TcpListener, body: &str) -> Result<()> {
    for connection in listener.incoming() {
        let mut connection: TcpStream = connection?;
        connection.read(&mut [0; 4096]).map(drop)?;
        write!(connection, "HTTP/1.0 200 OK\r\n\r\n{body}")?;
    }
    Ok(())
}

fn start_nginx(prefix: &Path) -> Result<()> {
    let run = prefix.join("run");
    std::fs::create_dir_all(&run)?;
    if !processes_of(prefix).is_empty() {
        eprintln!("adopted");
        return Ok(());
    }
    let path = run.display();
    let config = format!("pid {path}/nginx.pid;\nerror_log {path}/error.log;\nworker_processes 2;\nevents {{}}\n");
    std::fs::write(run.join("nginx.conf"), config)?;
    let mut command = Command::new(Nginx::system_path()?);
    command.arg("-p").arg(prefix).arg("-c").arg(run.join("nginx.conf"));
    ensure!(command.status()?.success(), "NGINX did not start");
    Ok(())
}

#[tokio::test]
async fn health_metrics_and_log_are_seen() -> Result<()> {
    let folder = Scratch::new("stand-in")?;
    let lbex = Lbex::start(&binary(&folder)?, ["--verbose"], [("LBEX_X", "y")]).await?;
    lbex.wait_healthy().await?;
    assert_eq!(lbex.metric("x", &[("of", "b")]).await?, Some(2.0));
    assert_eq!(lbex.metric("x", &[]).await?, Some(3.0));
    assert_eq!(lbex.metric("y", &[]).await?, None);
    let line = lbex.wait_log("started with", SOON).await?;
    assert!(line.starts_with("started with --verbose --health-address=127.0.0.1"), "{line}");
    assert!(line.contains(&format!("--nginx-prefix={}", lbex.prefix().display())), "{line}");
    assert!(lbex.wait_log("no such line", Duration::from_millis(100)).await.is_err());
    assert!(lbex.resident_bytes()? > 100_000);
    Ok(())
}

#[tokio::test]
async fn what_the_test_gives_is_not_given_again() -> Result<()> {
    let folder = Scratch::new("stand-in")?;
    let start = Lbex::builder(&binary(&folder)?)
        .args(["--health_address", "::1", "--refuse"])
        .env("LBEX_METRICS_ADDRESS", "off")
        .nginx(Nginx::Embedded)
        .under(["/usr/bin/prlimit", "--nofile=1000"]);
    let lbex = start.start().await?;
    let line = lbex.wait_log("started with", SOON).await?;
    assert!(line.starts_with("started with --health_address ::1 --refuse --health-port="), "{line}");
    assert!(!line.contains("--health-address") && !line.contains("--metrics-address"), "{line}");
    assert!(line.ends_with("--nginx=embedded"), "{line}");
    Ok(())
}

#[tokio::test]
async fn an_early_end_is_told_with_the_log() -> Result<()> {
    let folder = Scratch::new("stand-in")?;
    let lbex = Lbex::start(&binary(&folder)?, ["--refuse"], [("A", "B")]).await?;
    let error = format!("{:#}", lbex.wait_healthy().await.unwrap_err());
    assert!(error.contains("exit status: 2") && error.contains("refused, with a reason"), "{error}");
    // Its last words are found even when it has ended.
    assert_eq!(lbex.wait_log("refused", SOON).await?, "refused, with a reason");
    assert_eq!(lbex.wait_exit(SOON).await?.code(), Some(2));
    Ok(())
}

#[tokio::test]
async fn nginx_outlives_lbex_but_not_the_test() -> Result<()> {
    let folder = Scratch::new("stand-in")?;
    let mut lbex = Lbex::builder(&binary(&folder)?).start().await?;
    lbex.wait_healthy().await?;
    let master = eventually("a master", SOON, || async { lbex.nginx_pid() }).await?;
    eventually("two workers", SOON, || async {
        let seen = lbex.nginx_processes();
        ensure!(seen.len() == 3 && seen.iter().filter(|process| process.is_master()).count() == 1, "{seen:?}");
        Ok(())
    })
    .await?;
    assert!(lbex.start_again().unwrap_err().to_string().contains("still runs"));
    let ended = lbex.terminate().await?;
    assert!(ended.took < Duration::from_secs(10) && !ended.status.success());
    assert_eq!(lbex.nginx_pid()?, master);
    let mark = lbex.log_mark();
    lbex.start_again()?;
    lbex.wait_log_since(mark, "adopted", SOON).await?;
    lbex.kill().await?;
    assert_eq!(lbex.nginx_pid()?, master);
    let prefix = lbex.prefix().to_owned();
    drop(lbex);
    assert!(processes_of(&prefix).is_empty() && !prefix.exists());
    Ok(())
}
