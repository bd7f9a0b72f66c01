//! Another binary for a running NGINX, and the embedded one's file, on real NGINX.

use std::fs;
#[cfg(feature = "embedded")]
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(feature = "embedded")]
use crate::net::own_address;
use crate::support::{Held, LIMIT, Site, ask, echo_server, free_address, on_both_nginxes, passes, returns};
use lbex_backend_nginx::binary::{NginxBinary, NginxChoice};
use lbex_backend_nginx::process::ProcessError;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

on_both_nginxes!(
    an_upgrade_in_place_loses_no_connection,
    a_binary_that_does_not_run_leaves_the_old_one_serving,
    a_configuration_that_the_new_binary_refuses_leaves_the_old_one_serving,
    a_replaced_binary_is_noticed,
    an_upgrade_that_was_not_finished_is_finished_by_a_reload,
);

/// Copies a program by another process: one that a test starts meanwhile would have the file open for writing, and it could not be
/// run.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().expect("run").success(), "copied");
}

/// Another file with the same NGINX.
fn copy_of(site: &Site) -> NginxBinary {
    let path = site.outside().join("another-nginx");
    copy(&site.binary.path, &path);
    NginxBinary { path, ..site.binary.clone() }
}

async fn an_upgrade_in_place_loses_no_connection(choice: NginxChoice) {
    let site = Site::new(choice).await;
    let (address, held) = (free_address(), free_address());
    let servers = returns(address, "hello") + &passes(held, echo_server());
    site.configure("g1", &servers);
    let old = site.start("g1").await.expect("started").master;
    let mut connection = Held::open(held);
    let done = Arc::new(AtomicBool::new(false));
    let asking = tokio::task::spawn_blocking({
        let done = done.clone();
        move || {
            let mut asked = 0;
            while !done.load(Ordering::Acquire) {
                assert_eq!(ask(address).expect("every connection is answered"), "hello");
                asked += 1;
            }
            asked
        }
    });

    let newer = copy_of(&site);
    site.configure("g2", &servers);
    let confirmed = site.nginx.upgrade(&newer, "g2", LIMIT).await.expect("upgraded");
    let master = site.nginx.status().await.expect("it runs");
    assert_ne!(master.id, old.id);
    assert_eq!(master.runs(&newer), Some(true));
    assert_eq!(master.runs(&site.binary), Some(false));
    assert_eq!(master.old_master, Some(old.id), "it waits for the connection");
    connection.talk().expect("the connection stays");

    // While the old one waits, NGINX upgrades no further, and reloads do work.
    let pending = site.nginx.upgrade(&site.binary, "g3", LIMIT).await.expect_err("not yet");
    assert!(matches!(pending, ProcessError::UpgradePending { pid } if pid == old.id.pid), "{pending}");
    site.configure("g4", &servers);
    site.nginx.reload("g4", LIMIT).await.expect("reloaded");

    drop(connection);
    while site.nginx.status().await.expect("it runs").old_master.is_some() {
        tokio::task::yield_now().await;
    }
    assert!(!site.layout().old_pid_file().exists());
    assert!(site.layout().generation_socket().exists(), "the old one left the socket alone");
    // And back again, now that nothing is in the way.
    site.configure("g5", &servers);
    site.nginx.upgrade(&site.binary, "g5", LIMIT).await.expect("upgraded again");
    done.store(true, Ordering::Release);
    let asked = asking.await.expect("no connection failed");
    eprintln!("{}: {confirmed:?}, {asked} connections meanwhile", site.binary);
    assert!(asked > 0);
}

/// A UDP client that waits for its answer while NGINX is upgraded gets it, and goes on with the new one. (LBEX's change
/// `answer-on-exit`.)
#[cfg(feature = "embedded")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_in_place_loses_no_answer() {
    let site = Site::new(NginxChoice::Embedded).await;
    let home = own_address();
    let socket = || {
        let socket = UdpSocket::bind((home, 0)).expect("a socket");
        socket.set_read_timeout(Some(LIMIT)).expect("a timeout");
        socket
    };
    let (server, client, listener) = (socket(), socket(), socket());
    let (to, at) = (server.local_addr().expect("an address"), listener.local_addr().expect("an address"));
    drop(listener);
    let servers = format!(" server {{ listen {at} udp reuseport; proxy_pass {to}; }}\n");
    site.configure("g1", &servers);
    site.start("g1").await.expect("started");
    client.connect(at).expect("connected");
    let ask = || {
        client.send(b"?").expect("sent");
        server.recv_from(&mut [0]).expect("the server is asked").1
    };
    let answer = |from, text: [u8; 1]| {
        server.send_to(&text, from).expect("sent");
        let mut heard = [0];
        client.recv(&mut heard).expect("the client is answered");
        assert_eq!(heard, text);
    };

    let before = ask();
    site.configure("g2", &servers);
    site.nginx.upgrade(&copy_of(&site), "g2", LIMIT).await.expect("upgraded");
    while !site.nginx.status().await.expect("it runs").older_workers.iter().all(|worker| worker.shutting_down) {
        tokio::task::yield_now().await;
    }
    answer(before, *b"1");
    let after = ask();
    assert_ne!(after, before, "the new NGINX asks");
    answer(after, *b"2");
}

async fn a_binary_that_does_not_run_leaves_the_old_one_serving(choice: NginxChoice) {
    let site = Site::new(choice).await;
    let address = free_address();
    site.configure("g1", &returns(address, "hello"));
    let old = site.start("g1").await.expect("started").master;
    let path = site.outside().join("broken-nginx");
    fs::write(&path, "this is no program").expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    let broken = NginxBinary { path, ..site.binary.clone() };

    site.configure("g2", &returns(address, "hello"));
    let error = site.nginx.upgrade(&broken, "g2", LIMIT).await.expect_err("it does not run");
    assert!(matches!(error, ProcessError::UpgradeFailed { .. }), "{error:?}");
    assert!(error.to_string().contains("broken-nginx"), "{error}");
    let master = site.nginx.status().await.expect("it runs");
    assert_eq!((master.id, master.old_master), (old.id, None));
    assert_eq!(ask(address).expect("answered"), "hello");

    // A good one can follow.
    let newer = copy_of(&site);
    site.nginx.upgrade(&newer, "g2", LIMIT).await.expect("upgraded");
}

async fn a_configuration_that_the_new_binary_refuses_leaves_the_old_one_serving(choice: NginxChoice) {
    let site = Site::new(choice).await;
    site.configure("g1", "");
    let old = site.start("g1").await.expect("started").master;
    site.configure("g2", " nonsense;");
    let newer = copy_of(&site);
    let error = site.nginx.upgrade(&newer, "g2", LIMIT).await.expect_err("refused");
    assert!(error.to_string().contains("unknown directive \"nonsense\""), "{error}");
    assert_eq!(site.nginx.status().await.expect("it runs").id, old.id);
    assert_eq!(site.nginx.serving_generation().await.expect("answered").as_deref(), Some("g1"));
    site.configure("g3", "");
    site.nginx.reload("g3", LIMIT).await.expect("the old one obeys");
}

async fn an_upgrade_that_was_not_finished_is_finished_by_a_reload(choice: NginxChoice) {
    let site = Site::new(choice).await;
    let held = free_address();
    let servers = passes(held, echo_server());
    site.configure("g1", &servers);
    let old = site.start("g1").await.expect("started").master;
    let mut connection = Held::open(held);
    // An LBEX that was killed in the middle of an upgrade has sent this, and no more.
    kill(Pid::from_raw(old.id.pid), Signal::SIGUSR2).expect("sent");
    while site.nginx.status().await.expect("it runs").workers.len() < 2
        || site.nginx.status().await.map(|m| m.id) == Some(old.id)
    {
        tokio::task::yield_now().await;
    }
    let both = site.nginx.status().await.expect("it runs");
    assert_eq!(both.old_master, Some(old.id));
    assert!(both.older_workers.iter().any(|worker| !worker.shutting_down), "both accept: {both:?}");

    site.configure("g2", &servers);
    site.nginx.reload("g2", LIMIT).await.expect("reloaded");
    for _ in 0..50 {
        assert_eq!(site.nginx.serving_generation().await.expect("answered").as_deref(), Some("g2"));
    }
    connection.talk().expect("the connection stays");
    let master = site.nginx.status().await.expect("it runs");
    assert!(master.older_workers.iter().all(|worker| worker.shutting_down), "{master:?}");
}

async fn a_replaced_binary_is_noticed(choice: NginxChoice) {
    let mut site = Site::new(choice).await;
    let copy = copy_of(&site);
    site.binary = copy.clone();
    site.configure("g1", "");
    site.start("g1").await.expect("started");
    assert_eq!(site.nginx.status().await.expect("it runs").runs(&copy), Some(true));
    replace(&copy.path);
    let master = site.nginx.status().await.expect("it runs");
    assert!(master.executable_deleted);
    assert_eq!(master.runs(&copy), Some(false));
}

/// As a package manager does: another file is renamed over it.
fn replace(path: &Path) {
    let newer: PathBuf = path.with_extension("new");
    copy(path, &newer);
    fs::rename(&newer, path).expect("renamed");
}

#[cfg(feature = "embedded")]
#[tokio::test]
async fn the_embedded_one_lies_in_the_prefix_and_a_running_one_is_not_removed() {
    let site = Site::new(NginxChoice::Embedded).await;
    let embedded = lbex_backend_nginx::embedded::embedded().expect("carried");
    assert_eq!(site.binary.path, site.layout().bin_dir().join(embedded.file_name()));
    assert_eq!(site.binary.version.to_string(), embedded.version);

    let mut older = site.binary.clone();
    older.path = site.layout().bin_dir().join("nginx-1.20.0-000000000000");
    copy(&site.binary.path, &older.path);
    site.configure("g1", "");
    site.nginx.start(&older, &Site::options("g1")).await.expect("started");
    let install = || async {
        let candidate = lbex_backend_nginx::binary::find(&NginxChoice::Embedded).await.expect("found");
        candidate.install(site.layout()).await.expect("installed")
    };
    install().await;
    assert!(older.path.exists(), "a master runs it");
    site.configure("g2", "");
    site.nginx.upgrade(&site.binary, "g2", LIMIT).await.expect("upgraded");
    while site.nginx.status().await.expect("it runs").old_master.is_some() {
        tokio::task::yield_now().await;
    }
    install().await;
    assert!(!older.path.exists(), "nothing runs it any more");
}

#[cfg(feature = "embedded")]
#[tokio::test]
async fn from_the_systems_to_the_embedded_one_in_place() {
    let site = Site::new(NginxChoice::System).await;
    let address = free_address();
    site.configure("g1", &returns(address, "hello"));
    site.start("g1").await.expect("started");
    let candidate = lbex_backend_nginx::binary::find(&NginxChoice::Auto).await.expect("found");
    let embedded = candidate.install(site.layout()).await.expect("installed");
    assert!(embedded.version > site.binary.version);
    site.configure_for(&embedded, "g2", &returns(address, "hello"));
    site.nginx.upgrade(&embedded, "g2", LIMIT).await.expect("upgraded");
    assert_eq!(site.nginx.status().await.expect("it runs").runs(&embedded), Some(true));
    assert_eq!(ask(address).expect("answered"), "hello");
}
