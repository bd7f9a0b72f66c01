//! The file of the last good state, written by a process that is killed: whatever the moment, what is read afterwards is whole.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lbex::state::{SavedState, Scope, StateFile};
use lbex_core::desired::{Algorithm, DesiredState, Listener, Servers, ServiceConfig, Upstream};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;

/// Tells the other process where to write.
const PREFIX: &str = "PREFIX_TO_WRITE_IN";

/// How often the writer is killed.
const KILLS: u64 = 20;

/// As many Services as the time in it says.
fn state(services: u16) -> SavedState {
    let config = |port: u16| {
        let listener = Listener {
            protocol: Protocol::Tcp,
            port,
            addresses: ["0.0.0.0".parse().unwrap()].into(),
            allow: [].into(),
            connect_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(3600),
            upstream: Upstream {
                algorithm: Algorithm::RoundRobin,
                servers: Servers::Addresses((1..=10).map(|n| ([10, 0, 0, n], port).into()).collect()),
            },
        };
        let service = ServiceKey::new("default", &format!("s{port}")).unwrap();
        (service.clone(), Arc::new(ServiceConfig { service, created: None, listeners: vec![listener] }))
    };
    let services: BTreeMap<_, _> = (1..=services).map(config).collect();
    let saved = services.len() as u64;
    let desired = DesiredState { generation: 0, services };
    SavedState { lbex: "1.2.3".to_owned(), saved, cluster: None, inventory: None, scope: Scope::default(), desired }
}

/// The other process writes as fast as it can; nothing where it is not asked to.
#[test]
fn a_writer() {
    let Some(prefix) = std::env::var_os(PREFIX) else { return };
    let file = StateFile::below(Path::new(&prefix));
    let states = [state(200), state(300)];
    loop {
        for state in &states {
            file.save(state).unwrap();
        }
    }
}

fn write_in(prefix: &Path) -> Child {
    let mut writer = Command::new(std::env::current_exe().unwrap());
    writer.args(["a_writer", "--exact"]).env(PREFIX, prefix);
    writer.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_writer_that_is_killed_at_any_moment_leaves_a_whole_file() {
    let prefix = tempfile::tempdir().unwrap();
    let file = StateFile::below(prefix.path());
    file.save(&state(1)).unwrap();
    for n in 0..KILLS {
        let mut writer = write_in(prefix.path());
        while file.read().unwrap().unwrap().saved == 1 {
            std::thread::yield_now();
        }
        // Another moment each time, without a clock: some reads later.
        for _ in 0..n % 7 {
            assert!(file.read().unwrap().is_some(), "also while it writes");
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        let read = file.read().unwrap_or_else(|error| panic!("after {n} kills: {error}")).unwrap();
        assert_eq!(read.saved, read.desired.services.len() as u64);
        assert_eq!(read, state(u16::try_from(read.saved).unwrap()));
        file.save(&state(1)).unwrap();
    }
    let left = std::fs::read_dir(prefix.path().join("state")).unwrap().count();
    assert_eq!(left, 1, "a later write takes the place of one that was interrupted");
}
