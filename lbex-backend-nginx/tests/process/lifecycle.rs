//! Start, adopt, reload, recover and stop, on real NGINX.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::net::{eventually, own_address};
use crate::support::{Held, LIMIT, Site, ask, echo_server, free_address, on_both_nginxes, passes, returns};
use lbex_backend_nginx::binary::NginxChoice;
use lbex_backend_nginx::process::{Nginx, ProcessError, Stopped};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

on_both_nginxes!(
    starts_as_a_daemon_that_has_nothing_of_lbex,
    is_adopted_by_another_handle,
    is_adopted_where_somebody_started_it_by_hand,
    a_reload_is_confirmed_and_connections_stay,
    a_configuration_that_is_refused_is_told_at_once,
    a_port_that_is_taken_is_told_and_the_old_configuration_stays,
    a_start_that_fails_says_why,
    orphans_of_a_killed_master_give_their_ports_and_keep_their_connections,
    starts_after_everything_was_killed,
    a_pid_file_of_another_process_is_not_believed,
    two_prefixes_do_not_touch_each_other,
    stops_when_connections_end_or_the_time_is_over,
    the_log_is_kept_small_while_nginx_writes_to_it,
);

async fn starts_as_a_daemon_that_has_nothing_of_lbex(choice: NginxChoice) {
    let site = Site::new(choice).await;
    let address = free_address();
    site.configure("g1", &returns(address, "hello"));
    let mut options = Site::options("g1");
    options.open_files = 2000;
    let started = site.nginx.start(&site.binary, &options).await.expect("started");
    assert_eq!(ask(address).expect("answered"), "hello");
    assert_eq!(started.master.workers.len(), 2);
    eprintln!("{} serves after {:?}", site.binary, started.took);

    let pid = started.master.id.pid;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let session: i32 = stat
        .rsplit_once(')')
        .expect("a name")
        .1
        .split_whitespace()
        .nth(3)
        .expect("a session")
        .parse()
        .expect("a number");
    let ours = nix::unistd::getsid(None).expect("a session").as_raw();
    assert_ne!(session, ours, "a session of its own");
    for worker in &started.master.workers {
        let files = fs::read_dir(format!("/proc/{}/fd", worker.id.pid)).expect("its files");
        let open: Vec<_> = files.flatten().filter_map(|f| fs::read_link(f.path()).ok()).collect();
        assert!(!open.contains(&site.layout().lock_file()), "the lock is not inherited: {open:?}");
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let soft: u64 = files.split_whitespace().nth(3).expect("a number").parse().expect("a number");
    assert!(soft >= 2000 || started.open_files.shortage() > 0, "{files}");

    let again = site.start("g1").await.expect_err("it runs already");
    assert!(matches!(again, ProcessError::AlreadyRuns { pid: running } if running == pid), "{again}");
}

async fn is_adopted_by_another_handle(choice: NginxChoice) {
    let site = Site::new(choice).await;
    assert_eq!(site.nginx.status().await, None);
    assert!(!site.nginx.is_running().await);
    site.configure("g1", "");
    let started = site.start("g1").await.expect("started");

    let adopted = Nginx::new(site.layout().clone());
    let master = adopted.status().await.expect("it runs");
    assert_eq!(master.id, started.master.id);
    assert_eq!(master.runs(&site.binary), Some(true));
    assert!(adopted.is_running().await);
    assert_eq!(adopted.serving_generation().await.expect("answered").as_deref(), Some("g1"));

    // Without a pid file it is found too.
    fs::remove_file(site.layout().pid_file()).expect("removed");
    assert_eq!(adopted.status().await.map(|m| m.id), Some(started.master.id));
    assert!(adopted.is_running().await);
    site.configure("g2", "");
    adopted.reload("g2", LIMIT).await.expect("reloaded");
}

/// Nothing but its error log, which is its standard error, ties it to the prefix.
async fn is_adopted_where_somebody_started_it_by_hand(choice: NginxChoice) {
    let site = Site::new(choice).await;
    let mut by_hand = Command::new(&site.binary.path);
    by_hand.current_dir("/").arg("-p").arg(site.layout().root()).args(["-c", "conf/nginx.conf"]);
    site.configure("g1", "");
    assert!(by_hand.status().expect("run").success());
    let deadline = Instant::now() + LIMIT;
    while site.nginx.serving_generation().await.ok().flatten().as_deref() != Some("g1") {
        assert!(Instant::now() < deadline, "it does not serve");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // One worker answers before its master has started the other.
    eventually("both work", async || site.nginx.status().await.expect("it runs").workers.len() == 2).await;
    let master = site.nginx.status().await.expect("it runs");
    fs::remove_file(site.layout().pid_file()).expect("removed");
    assert_eq!(site.nginx.status().await.map(|m| m.id), Some(master.id));

    site.configure("g2", "");
    site.nginx.reload("g2", LIMIT).await.expect("reloaded");
    let after = site.nginx.status().await.expect("it runs");
    let new = |id| !master.workers.iter().any(|worker| worker.id == id);
    assert_eq!(after.workers.iter().filter(|worker| new(worker.id)).count(), 2, "{after:?}");
    assert_eq!(site.nginx.stop(Duration::from_secs(5)).await.expect("stopped"), Stopped::Drained);
}

async fn a_reload_is_confirmed_and_connections_stay(choice: NginxChoice) {
    let site = Site::new(choice).await;
    let (before, after, held) = (free_address(), free_address(), free_address());
    let echo = passes(held, echo_server());
    site.configure("g1", &(returns(before, "one") + &echo));
    let old = site.start("g1").await.expect("started").master;
    let mut connection = Held::open(held);

    site.configure("g2", &(returns(after, "two") + &echo));
    let confirmed = site.nginx.reload("g2", LIMIT).await.expect("reloaded");
    eprintln!("{}: answered {:?}, complete {:?}", site.binary, confirmed.answered, confirmed.complete);
    // From this moment on nothing of the old configuration is there for new clients.
    assert!(ask(before).is_err(), "the old listener is closed");
    assert_eq!(ask(after).expect("answered"), "two");
    for _ in 0..50 {
        assert_eq!(site.nginx.serving_generation().await.expect("answered").as_deref(), Some("g2"));
    }
    connection.talk().expect("the connection stays");

    let master = site.nginx.status().await.expect("it runs");
    assert_eq!(master.id, old.id);
    assert_eq!(master.draining(), 1, "one old worker has a connection: {master:?}");
    let draining = site.nginx.glance().await.expect("it runs").draining;
    assert_eq!(site.nginx.connections_of(draining.clone()).await, Some(2), "to the client, and to the server");
    drop(connection);
    while site.nginx.glance().await.expect("it runs").draining == draining {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(site.nginx.connections_of(draining).await, Some(0), "it has ended");
    assert_eq!(master.workers.iter().filter(|worker| !worker.shutting_down).count(), 2);
}

async fn a_configuration_that_is_refused_is_told_at_once(choice: NginxChoice) {
    let site = Site::new(choice).await;
    site.configure("g1", "");
    site.start("g1").await.expect("started");
    site.configure("g2", "  nonsense;\n");
    let begin = Instant::now();
    let error = site.nginx.reload("g2", LIMIT).await.expect_err("refused");
    assert!(matches!(error, ProcessError::Refused { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("unknown directive \"nonsense\"") && text.contains("nginx.conf:"), "{text}");
    assert!(begin.elapsed() < LIMIT / 2, "told after {:?}", begin.elapsed());
    assert_eq!(site.nginx.serving_generation().await.expect("answered").as_deref(), Some("g1"));

    // What it said before is not taken for an answer to the next.
    site.configure("g3", "");
    site.nginx.reload("g3", LIMIT).await.expect("reloaded");
}

async fn a_port_that_is_taken_is_told_and_the_old_configuration_stays(choice: NginxChoice) {
    let site = Site::new(choice).await;
    let address = free_address();
    site.configure("g1", &returns(address, "one"));
    site.start("g1").await.expect("started");
    let taken = TcpListener::bind((own_address(), 0)).expect("bound");
    let conflict = taken.local_addr().expect("an address");
    site.configure("g2", &(returns(address, "two") + &returns(conflict, "two")));
    let error = site.nginx.reload("g2", LIMIT).await.expect_err("refused");
    assert!(matches!(error, ProcessError::Refused { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("bind() to {conflict} failed (98: ")), "{text}");
    assert_eq!(ask(address).expect("answered"), "one");
}

async fn a_start_that_fails_says_why(choice: NginxChoice) {
    let site = Site::new(choice).await;
    site.configure("g1", " nonsense;");
    let error = site.start("g1").await.expect_err("refused");
    assert!(matches!(error, ProcessError::StartFailed { .. }), "{error:?}");
    assert!(error.to_string().contains("unknown directive \"nonsense\""), "{error}");

    let taken = TcpListener::bind((own_address(), 0)).expect("bound");
    let conflict = taken.local_addr().expect("an address");
    site.configure("g1", &returns(conflict, "x"));
    let error = site.start("g1").await.expect_err("refused").to_string();
    assert!(error.contains(&format!("bind() to {conflict} failed (98: ")), "{error}");
    assert_eq!(site.nginx.status().await, None);
}

async fn orphans_of_a_killed_master_give_their_ports_and_keep_their_connections(choice: NginxChoice) {
    let site = Site::new(choice).await;
    let (address, held) = (free_address(), free_address());
    let servers = returns(address, "one") + &passes(held, echo_server());
    site.configure("g1", &servers);
    let dead = site.start("g1").await.expect("started").master;
    let mut connection = Held::open(held);
    kill_hard(dead.id.pid);
    assert_eq!(site.nginx.status().await, None);
    assert!(!site.nginx.is_running().await);
    assert_eq!(ask(address).expect("orphans still serve"), "one");

    let begin = Instant::now();
    site.configure("g2", &servers.replace("one", "two"));
    let started = site.start("g2").await.expect("started again");
    eprintln!("{}: serves again after {:?}", site.binary, begin.elapsed());
    assert!(begin.elapsed() < LIMIT / 2, "serves again after {:?}", begin.elapsed());
    assert_eq!(started.cleaned.orphans.len(), 2, "{:?}", started.cleaned);
    // The one without connections may not have ended yet.
    assert!((1..=2).contains(&started.cleaned.draining.len()), "{:?}", started.cleaned);
    for _ in 0..20 {
        assert_eq!(ask(address).expect("answered"), "two");
    }
    connection.talk().expect("the connection stays");
    let older = async || site.nginx.status().await.expect("it runs").older_workers;
    eventually("the one with the connection is left", async || older().await.len() == 1).await;
    assert!(older().await[0].shutting_down);
}

async fn starts_after_everything_was_killed(choice: NginxChoice) {
    let site = Site::new(choice).await;
    let address = free_address();
    site.configure("g1", &returns(address, "one"));
    let dead = site.start("g1").await.expect("started").master;
    kill_hard(dead.id.pid);
    dead.workers.iter().for_each(|worker| kill_hard(worker.id.pid));
    assert!(site.layout().generation_socket().exists() && site.layout().pid_file().exists());

    let started = site.start("g1").await.expect("started again");
    assert_eq!(started.cleaned.files, [site.layout().pid_file(), site.layout().generation_socket()]);
    assert_eq!(ask(address).expect("answered"), "one");
}

async fn a_pid_file_of_another_process_is_not_believed(choice: NginxChoice) {
    let site = Site::new(choice).await;
    let mut bystander = std::process::Command::new("sleep").arg("600").spawn().expect("started");
    fs::write(site.layout().pid_file(), format!("{}\n", bystander.id())).expect("written");
    assert_eq!(site.nginx.status().await, None);
    assert_eq!(site.nginx.stop(Duration::ZERO).await.expect("nothing to do"), Stopped::WasNotRunning);
    site.configure("g1", "");
    site.start("g1").await.expect("started");
    let alive = bystander.try_wait().expect("asked").is_none();
    bystander.kill().expect("ended");
    bystander.wait().expect("reaped");
    assert!(alive, "a process that is not ours was left alone");
}

async fn two_prefixes_do_not_touch_each_other(choice: NginxChoice) {
    let (one, two) = (Site::new(choice.clone()).await, Site::new(choice).await);
    let (first, second) = (free_address(), free_address());
    one.configure("g1", &returns(first, "first"));
    two.configure("h1", &returns(second, "second"));
    let dead = one.start("g1").await.expect("started").master;
    let other = two.start("h1").await.expect("started").master;
    kill_hard(dead.id.pid);
    one.start("g1").await.expect("started again");
    assert_eq!(two.nginx.status().await.expect("it runs"), other);
    one.nginx.stop(LIMIT).await.expect("stopped");
    assert_eq!(ask(second).expect("answered"), "second");
    assert_eq!(two.nginx.status().await.expect("it runs"), other);
}

async fn stops_when_connections_end_or_the_time_is_over(choice: NginxChoice) {
    let site = Site::new(choice).await;
    let held = free_address();
    site.configure("g1", &passes(held, echo_server()));
    site.start("g1").await.expect("started");
    let connection = Held::open(held);
    let nginx = site.nginx.clone();
    let stopping = tokio::spawn(async move { nginx.stop(LIMIT).await });
    while site.nginx.status().await.is_some_and(|master| master.draining() < 1) {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished(), "a connection is waited for");
    drop(connection);
    assert_eq!(stopping.await.expect("no panic").expect("stopped"), Stopped::Drained);
    assert!(!site.layout().pid_file().exists());

    site.start("g1").await.expect("started");
    let mut connection = Held::open(held);
    let begin = Instant::now();
    assert_eq!(site.nginx.stop(Duration::from_millis(200)).await.expect("stopped"), Stopped::Terminated);
    assert!(begin.elapsed() < LIMIT / 2, "{:?}", begin.elapsed());
    assert!(connection.talk().is_err(), "the connection was closed");
    assert_eq!(site.nginx.status().await, None);
}

async fn the_log_is_kept_small_while_nginx_writes_to_it(choice: NginxChoice) {
    let site = Site::new(choice).await;
    site.configure("g1", "");
    site.start("g1").await.expect("started");
    // One worker answers while the master still tells of the other; after that NGINX says no more.
    let deadline = Instant::now() + LIMIT;
    let mut before = site.log();
    while before.matches("start worker process ").count() < 2 {
        assert!(Instant::now() < deadline, "{before}");
        tokio::task::yield_now().await;
        before = site.log();
    }
    assert!(site.nginx.error_log().limit_size(100).expect("emptied"));
    let kept = fs::read_to_string(site.layout().logs_dir().join("error.log.1")).expect("kept");
    assert!(kept.len() == 100 && before.ends_with(&kept), "{kept}");

    // NGINX goes on in the emptied file, from its beginning, and what it says is found there.
    site.configure("g2", " nonsense;");
    let error = site.nginx.reload("g2", LIMIT).await.expect_err("refused");
    assert!(error.to_string().contains("unknown directive \"nonsense\""), "{error}");
    let after = site.log();
    assert!(!after.contains('\0') && !after.contains("start worker process"), "{after}");
}

/// Kills a process of NGINX and waits until it is gone.
fn kill_hard(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
    let deadline = Instant::now() + LIMIT;
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "process {pid} does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
}
