//! Programs, folders and NGINX end when the test does, in whatever way it ends.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::nginx::{Nginx, processes_of};
use lbex_test_harness::process::Process;
use lbex_test_harness::wait::eventually;
use nix::sys::signal::Signal;

const DEADLINE: Duration = Duration::from_secs(20);

/// Set for the process that is to be killed: the file in which it says what it started.
const VICTIM: &str = "HARNESS_TEST_VICTIM";

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

fn is_alive(pid: u32) -> bool {
    // Whoever was killed and not yet reaped is a zombie: that is as good as gone.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z')))
}

async fn is_gone(pid: u32) -> Result<()> {
    eventually("the process is gone", DEADLINE, || async {
        ensure!(!is_alive(pid), "{pid} runs");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn exit_statuses_and_output_arrive() -> Result<()> {
    let scratch = Scratch::new("process")?;
    let log = scratch.join("log");
    let mut command = shell("echo out $WORD; echo error >&2; pwd; exit 3");
    let process = Process::start("sh", command.env("WORD", "a=b c").current_dir("/"), &log)?;
    assert_eq!(process.wait(DEADLINE).await?.code(), Some(3));
    assert_eq!(process.log_tail(), "out a=b c\nerror\n/\n");
    assert!(process.signal(Signal::SIGTERM).unwrap_err().to_string().contains("has ended"));
    Ok(())
}

#[tokio::test]
async fn signals_reach_the_program_and_are_told_in_its_status() -> Result<()> {
    let scratch = Scratch::new("process")?;
    // SIGINT too: a shell starts background processes with it ignored.
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGKILL] {
        let process = Process::start("sleep", Command::new("/bin/sleep").arg("1000"), &scratch.join("log"))?;
        wait_for_exe(process.pid(), "sleep").await?;
        process.signal(signal)?;
        assert_eq!(process.wait(DEADLINE).await?.signal(), Some(signal as i32));
    }
    Ok(())
}

async fn wait_for_exe(pid: u32, name: &str) -> Result<()> {
    eventually("the program runs", DEADLINE, || async {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe"))?;
        ensure!(exe.ends_with(name), "{}", exe.display());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_program_that_cannot_run_says_so_in_its_log() -> Result<()> {
    let scratch = Scratch::new("process")?;
    let process = Process::start("nothing", &Command::new("/no/such/program"), &scratch.join("log"))?;
    assert_eq!(process.wait(DEADLINE).await?.code(), Some(127));
    let error = process.check_running().unwrap_err().to_string();
    assert!(error.contains("/no/such/program"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_drop_kills_what_the_program_started_too() -> Result<()> {
    let scratch = Scratch::new("process")?;
    let process = Process::start("sh", &shell("sleep 1000 & echo $!; trap '' TERM; wait"), &scratch.join("log"))?;
    let child: u32 = eventually("the child's id", DEADLINE, || async { process.log_tail().trim().parse() }).await?;
    assert!(is_alive(child) && is_alive(process.pid()));
    let pid = process.pid();
    drop(process);
    assert!(!is_alive(pid));
    is_gone(child).await
}

#[tokio::test]
async fn stopped_programs_end_too() -> Result<()> {
    let scratch = Scratch::new("process")?;
    let process = Process::start("sleep", Command::new("/bin/sleep").arg("1000"), &scratch.join("log"))?;
    wait_for_exe(process.pid(), "sleep").await?;
    process.signal(Signal::SIGSTOP)?;
    let pid = process.pid();
    drop(process);
    assert!(!is_alive(pid));
    let path = scratch.path().to_owned();
    drop(scratch);
    assert!(!path.exists());
    Ok(())
}

/// Not a test of its own: the process that the next test kills.
#[tokio::test]
async fn victim() -> Result<()> {
    let Some(report) = std::env::var_os(VICTIM) else { return Ok(()) };
    let scratch = Scratch::for_nginx("victim")?;
    let sleep = Process::start("sleep", Command::new("/bin/sleep").arg("1000"), &scratch.join("log"))?;
    let nginx = start_nginx(scratch.path())?;
    eventually("NGINX runs", DEADLINE, || async {
        ensure!(processes_of(scratch.path()).len() >= 2, "no worker yet");
        Ok(())
    })
    .await?;
    ensure!(nginx.wait(DEADLINE).await?.success(), "{}", nginx.log_tail());
    let unfinished = Path::new(&report).with_extension("new");
    std::fs::write(&unfinished, format!("{} {}", sleep.pid(), scratch.path().display()))?;
    std::fs::rename(&unfinished, &report)?;
    std::future::pending().await
}

/// Starts an NGINX as LBEX does: a daemon, which leaves the process group of whoever started it.
fn start_nginx(folder: &Path) -> Result<Process> {
    let path = folder.display();
    let config = format!("pid {path}/nginx.pid;\nerror_log {path}/error.log;\nworker_processes 2;\nevents {{}}\n");
    std::fs::write(folder.join("nginx.conf"), config)?;
    let mut command = Command::new(Nginx::system_path()?);
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    Process::start("nginx", &command, &folder.join("nginx.log"))
}

#[tokio::test]
async fn nothing_survives_kill_9_of_the_test() -> Result<()> {
    let scratch = Scratch::new("process")?;
    let report = scratch.join("report");
    let mut victim = Command::new(std::env::current_exe()?)
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, &report)
        .stdout(Stdio::null())
        .spawn()?;
    let started =
        eventually("the victim has started things", DEADLINE, || async { std::fs::read_to_string(&report) }).await;
    victim.kill()?;
    victim.wait()?;
    let started = started?;
    let (sleep, folder) = started.split_once(' ').context("the report of the victim")?;
    is_gone(sleep.parse()?).await?;
    eventually("NGINX and the folder are gone", DEADLINE, || async {
        let left = processes_of(Path::new(folder));
        ensure!(left.is_empty() && !Path::new(folder).exists(), "{left:?}");
        Ok(())
    })
    .await
}
