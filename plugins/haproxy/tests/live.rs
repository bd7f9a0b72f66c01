//! A real HAProxy through the backend's trait: what is applied is served, confirmed, kept and ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lbex_haproxy::backend::HaProxy;
use lbex_haproxy::control::Control;
use lbex_plugin_sdk::{
    Action, Algorithm, Backend, Call, Change, Changes, Host, Instead, Listener, Outcome, Protocol, ReloadReason,
    Server, Service, Settings, State,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

type Services = BTreeMap<String, Arc<Service>>;

/// A backend in a folder of its own, whose HAProxy ends with it.
struct World {
    backend: HaProxy,
    config: String,
    state: Services,
    dir: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        let ended = self.backend.stop(Duration::ZERO, &call());
        assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
    }
}

fn call() -> Call {
    Call::with_timeout(Duration::from_secs(60))
}

fn open(dir: &tempfile::TempDir, config: &str) -> HaProxy {
    let state_dir = dir.path().to_str().unwrap().to_owned();
    let settings = Settings { state_dir, config: Some(config.to_owned()), ..Settings::default() };
    HaProxy::open(settings, Host::detached()).unwrap()
}

impl World {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { backend: open(&dir, config), config: config.to_owned(), state: Services::new(), dir }
    }

    fn set(&mut self, name: &str, listener: Listener) {
        let service = Service { created: None, listeners: vec![listener] };
        self.state.insert(name.to_owned(), Arc::new(service));
    }

    fn apply(&mut self) -> Outcome {
        let state = State::new("x", self.state.clone());
        self.backend.apply(&state, &Changes::All, &call()).unwrap()
    }

    fn push(&mut self, name: &str, listener: Listener) -> Outcome {
        let before = self.state.get(name).cloned();
        self.set(name, listener);
        let change = Change { before, after: self.state.get(name).cloned() };
        let state = State::new("y", self.state.clone());
        let changes = Changes::Services([(name.to_owned(), change)].into());
        self.backend.push(&state, &changes, &call()).unwrap()
    }

    fn control(&self) -> Control {
        Control { worker: self.dir.path().join("s"), master: self.dir.path().join("m") }
    }

    fn pid(&self) -> u32 {
        self.control().info(Duration::from_secs(5)).unwrap().pid
    }

    /// Looks, as LBEX does each second, until it sees this.
    fn until(&mut self, what: &str, seen: impl Fn(&mut Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let observed = self.backend.observe(&call());
            if seen(self) {
                return;
            }
            assert!(Instant::now() < until, "not seen: {what}; {observed:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn servers(&self) -> String {
        self.control().ask(&["show servers state".to_owned()], Duration::from_secs(5)).unwrap()
    }
}

/// Where HAProxy listens: nobody else, neither this process's servers nor its clients, has ports there.
fn home() -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 200, high, low)
}

fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let port = || TcpListener::bind((home(), 0)).unwrap().local_addr().unwrap().port();
    std::iter::repeat_with(port).find(|port| GIVEN.lock().unwrap().insert(*port)).unwrap()
}

fn listener(port: u16, servers: &[SocketAddr]) -> Listener {
    Listener {
        protocol: Protocol::Tcp,
        port,
        addresses: vec![home().into()].into(),
        allow: Vec::new().into(),
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(60),
        algorithm: Algorithm::RoundRobin,
        method: None,
        servers: servers.iter().copied().map(Server::from).collect(),
        dns: None,
    }
}

/// A server that says its letter and then keeps the connection.
fn server(letter: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { continue };
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                connection.write_all(&[letter])?;
                while connection.read(&mut buffer)? > 0 {
                    connection.write_all(&[letter])?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    address
}

fn connect(port: u16) -> (TcpStream, char) {
    let mut stream = TcpStream::connect((home(), port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let letter = hear(&mut stream).unwrap();
    (stream, letter)
}

fn hear(stream: &mut TcpStream) -> std::io::Result<char> {
    let mut letter = [0];
    stream.read_exact(&mut letter)?;
    Ok(char::from(letter[0]))
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

fn say(stream: &mut TcpStream) -> std::io::Result<char> {
    stream.write_all(b"?")?;
    hear(stream)
}

#[test]
fn it_starts_reloads_and_changes_servers_without_a_reload() {
    let mut world = World::new("");
    let (a, b, port, other) = (server(b'a'), server(b'b'), free_port(), free_port());
    world.set("default/web", listener(port, &[a]));
    assert_eq!(world.apply().action, Action::Started);
    let (mut held, letter) = connect(port);
    assert_eq!(letter, 'a');
    assert_eq!(world.apply().action, Action::Unchanged);

    let pid = world.pid();
    assert_eq!(world.push("default/web", listener(port, &[b])).action, Action::Live);
    assert_eq!((connect(port).1, connect(port).1, world.pid()), ('b', 'b', pid));
    assert_eq!(say(&mut held).unwrap(), 'a');
    // On disk too, for whoever reloads it.
    let config = world.dir.path().join("haproxy.cfg");
    world.until("the file has the server", |_| {
        std::fs::read_to_string(&config).unwrap().contains(&format!("server {b} "))
    });

    world.set("default/other", listener(other, &[a]));
    let outcome = world.apply();
    assert_eq!((outcome.action, outcome.reloads), (Action::Reloaded, vec![ReloadReason::Listeners]));
    assert_eq!((connect(other).1, connect(port).1), ('a', 'b'));
    assert_eq!(say(&mut held).unwrap(), 'a');
    let seen = world.backend.observe(&call()).unwrap();
    assert_eq!((seen.draining, seen.draining_connections, seen.in_step), (1, Some(2), Some(true)));
    drop(held);
    world.until("the old worker ends", |world| world.backend.observe(&call()).unwrap().draining == 0);

    // Servers that change with an apply take no reload either.
    world.set("default/web", listener(port, &[a, b]));
    assert_eq!(world.apply(), Outcome { action: Action::Live, ..Outcome::default() });
}

#[test]
fn a_server_that_goes_keeps_its_connections_until_they_end() {
    let mut world = World::new("");
    let (a, b, port) = (server(b'a'), server(b'b'), free_port());
    world.set("default/web", listener(port, &[a]));
    world.apply();
    let (mut held, _) = connect(port);
    world.push("default/web", listener(port, &[b]));
    for _ in 0..3 {
        world.backend.observe(&call()).unwrap();
        assert_eq!(say(&mut held).unwrap(), 'a');
    }
    let drains = |world: &mut World| world.backend.observe(&call()).unwrap().metrics["draining_servers"];
    assert!((drains(&mut world) - 1.0).abs() < 0.1);
    // It may come back meanwhile.
    world.push("default/web", listener(port, &[a, b]));
    assert!(drains(&mut world) < 0.1);
    world.push("default/web", listener(port, &[b]));
    drop(held);
    let name = format!(" {a} ");
    world.until("the server is deleted", |world| !world.servers().contains(&name));
    assert!(drains(&mut world) < 0.1);
}

#[test]
fn a_server_that_goes_is_cut_off_after_the_drain_timeout() {
    let mut world = World::new(r#"{"drain_timeout_seconds": 1}"#);
    let (a, port) = (server(b'a'), free_port());
    world.set("default/web", listener(port, &[a]));
    world.apply();
    let (mut held, _) = connect(port);
    let begin = Instant::now();
    world.push("default/web", listener(port, &[]));
    let name = format!(" {a} ");
    world.until("the server is deleted", |world| !world.servers().contains(&name));
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert!(say(&mut held).is_err());
}

#[test]
fn what_haproxy_refuses_and_ports_that_are_taken_harm_nobody_else() {
    let mut world = World::new("");
    let (a, port, bad_port) = (server(b'a'), free_port(), free_port());
    let held = TcpListener::bind((home(), 0)).unwrap();
    let held_port = held.local_addr().unwrap().port();
    world.set("default/web", listener(port, &[a]));
    world.set("default/bad", Listener { idle_timeout: Duration::from_secs(3_000_000), ..listener(bad_port, &[a]) });
    world.set("default/held", listener(held_port, &[a]));
    let outcome = world.apply();
    let reasons: Vec<_> = outcome.refused.iter().map(|(name, all)| (name.as_str(), all[0].code.as_str())).collect();
    assert_eq!(reasons, [("default/bad", "ConfigurationRefused"), ("default/held", "PortInUse")]);
    let message = &outcome.refused["default/bad"][0].message;
    assert!(message.contains("timer overflow") && message.contains("24.8 days"), "{message}");
    assert_eq!(connect(port).1, 'a');

    let again = world.apply();
    assert_eq!((again.action, &again.refused), (Action::Unchanged, &outcome.refused));
    // What is refused comes with an apply.
    assert!(world.push("default/held", listener(held_port, &[])).refused.contains_key("default/held"));

    drop(held);
    world.set("default/held", listener(held_port, &[a]));
    world.set("default/bad", listener(bad_port, &[a]));
    // A program that another test starts has the listener too, until it is executed.
    let until = Instant::now() + Duration::from_secs(30);
    while !world.apply().refused.is_empty() {
        assert!(Instant::now() < until, "{:?}", world.apply().refused);
    }
    assert_eq!((connect(held_port).1, connect(bad_port).1), ('a', 'a'));

    // One that is served and becomes bad is served as it was, with the servers that it has now.
    let b = server(b'b');
    world.set("default/bad", Listener { idle_timeout: Duration::from_secs(3_000_000), ..listener(bad_port, &[b]) });
    for action in [Action::Live, Action::Unchanged] {
        let outcome = world.apply();
        assert_eq!((outcome.action, outcome.refused["default/bad"][0].instead), (action, Instead::LastGood));
        assert_eq!(connect(bad_port).1, 'b');
    }
    // Unless another has its port.
    world.set("default/new", listener(bad_port, &[a]));
    let outcome = world.apply();
    assert_eq!(outcome.refused["default/bad"][0].instead, Instead::LeftOut);
    assert_eq!(connect(bad_port).1, 'a');
}

#[test]
fn it_is_adopted_and_put_right() {
    let mut world = World::new("");
    let (a, b, port) = (server(b'a'), server(b'b'), free_port());
    world.set("default/web", listener(port, &[a]));
    world.apply();
    let (mut held, _) = connect(port);
    let pid = world.pid();

    // The next LBEX.
    world.backend = open(&world.dir, &world.config);
    let seen = world.backend.observe(&call()).unwrap();
    assert_eq!((seen.healthy, seen.in_step), (true, Some(true)), "{seen:?}");
    assert_eq!((world.apply().action, world.pid()), (Action::Unchanged, pid));
    // One that comes when servers have changed.
    world.backend = open(&world.dir, &world.config);
    world.set("default/web", listener(port, &[b]));
    assert_eq!((world.apply().action, world.pid()), (Action::Live, pid));
    assert_eq!((connect(port).1, say(&mut held).unwrap()), ('b', 'a'));

    // Somebody takes a server out.
    let command = format!("set server default:web:{port}/{b} state maint");
    world.control().ask(&[command], Duration::from_secs(5)).unwrap();
    assert_eq!((world.apply().action, connect(port).1), (Action::Live, 'b'));

    // Somebody reloads HAProxy, with the configuration of before the change.
    world.push("default/web", listener(port, &[a]));
    let master = world.control().processes(Duration::from_secs(5)).unwrap().master;
    signal(master, Signal::SIGUSR2);
    world.until("it is seen", |world| world.backend.observe(&call()).is_ok_and(|seen| seen.in_step == Some(false)));
    assert_eq!((world.apply().refused, connect(port).1), (BTreeMap::new(), 'a'));
    assert_eq!(world.backend.observe(&call()).unwrap().in_step, Some(true));
    world.push("default/web", listener(port, &[b]));

    // The worker is killed: HAProxy ends, and is started again.
    signal(world.pid(), Signal::SIGKILL);
    world.until("it is seen", |world| world.backend.observe(&call()).is_ok_and(|seen| !seen.healthy));
    assert_eq!((world.apply().action, connect(port).1), (Action::Started, 'b'));

    // It ends when told to, and not before its connections, within the time that they have.
    let (mut held, _) = connect(port);
    let talk = std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            assert_eq!(say(&mut held).unwrap(), 'b');
        }
    });
    let begin = Instant::now();
    world.backend.stop(Duration::from_secs(20), &call()).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    talk.join().unwrap();
    assert!(TcpStream::connect((home(), port)).is_err());
}
