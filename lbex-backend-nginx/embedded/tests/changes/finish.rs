//! `answer-on-exit`: what becomes of UDP clients when workers finish.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::dns::PATIENCE;
use crate::nginx::{Nginx, free_address};

/// Less than the five seconds for which a worker that finishes keeps sockets with sessions.
const AT_ONCE: Duration = Duration::from_millis(4500);

/// NGINX with a UDP listener and one server, which is the test itself.
struct Scene {
    server: UdpSocket,
    listener: SocketAddr,
    nginx: Nginx,
}

impl Scene {
    fn new() -> Self {
        let server = UdpSocket::bind(free_address()).expect("a socket");
        server.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let listener = free_address();
        let nginx = Nginx::start(&configuration(listener, &server));
        let scene = Self { server, listener, nginx };
        scene.nginx.await_info("start worker process ", 2);
        scene
    }

    fn configuration(&self) -> String {
        configuration(self.listener, &self.server)
    }

    /// A client that has sent this; NGINX's address towards the server that it reached.
    fn ask(&self, text: &str) -> (UdpSocket, SocketAddr) {
        let client = UdpSocket::bind((self.listener.ip(), 0)).expect("a socket");
        client.connect(self.listener).expect("connected");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let from = self.ask_again(&client, text);
        (client, from)
    }

    fn ask_again(&self, client: &UdpSocket, text: &str) -> SocketAddr {
        client.send(text.as_bytes()).expect("sent");
        let mut heard = [0; 64];
        let (length, from) = self.server.recv_from(&mut heard).expect("the server hears the client");
        assert_eq!(&heard[..length], text.as_bytes());
        from
    }

    fn answer(&self, from: SocketAddr, text: &str) {
        self.server.send_to(text.as_bytes(), from).expect("sent");
    }

    /// Reloads; the workers of before finish.
    fn reload(&self, stream: &str) {
        let before = self.nginx.errors("gracefully shutting down").len();
        self.nginx.reload(stream);
        self.nginx.await_info("gracefully shutting down", before + 2);
    }

    /// Another program can have the listener's port, soon.
    fn port_is_free(&self) {
        let deadline = Instant::now() + AT_ONCE;
        while let Err(error) = UdpSocket::bind(self.listener) {
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            assert!(Instant::now() < deadline, "a worker that finishes still has the port");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn configuration(listener: SocketAddr, server: &UdpSocket) -> String {
    let server = server.local_addr().expect("its address");
    format!("server {{ listen {listener} udp reuseport; proxy_pass {server}; }}")
}

fn hear(client: &UdpSocket) -> String {
    let mut heard = [0; 64];
    let length = client.recv(&mut heard).expect("an answer");
    String::from_utf8_lossy(&heard[..length]).into_owned()
}

#[test]
fn an_answer_after_a_reload_reaches_its_client() {
    let scene = Scene::new();
    let asked: Vec<_> = (0..20).map(|_| scene.ask("before")).collect();
    scene.reload(&scene.configuration());
    for (client, from) in &asked {
        scene.answer(*from, "one");
        scene.answer(*from, "two");
        assert_eq!((hear(client), hear(client)), ("one".to_owned(), "two".to_owned()));
    }
    // What they say now is heard by the new workers, and each worker answers what it was told.
    for (client, before) in &asked {
        let after = scene.ask_again(client, "after");
        assert_ne!(after, *before, "a session of the new worker");
        scene.answer(after, "new");
        assert_eq!(hear(client), "new");
        scene.answer(*before, "old");
        assert_eq!(hear(client), "old");
    }
    assert_eq!(scene.nginx.errors("alert"), Vec::<String>::new());
}

#[test]
fn answers_of_two_reloads_ago_reach_their_clients() {
    let scene = Scene::new();
    let (first, from_first) = scene.ask("first");
    scene.reload(&scene.configuration());
    let (second, from_second) = scene.ask("second");
    scene.reload(&scene.configuration());
    scene.answer(from_second, "to the second");
    scene.answer(from_first, "to the first");
    assert_eq!((hear(&first), hear(&second)), ("to the first".to_owned(), "to the second".to_owned()));
}

/// They would until `proxy_timeout`, which is 10 minutes.
#[test]
fn sessions_do_not_hold_a_worker_that_finishes_for_long() {
    let scene = Scene::new();
    let (client, from) = scene.ask("before");
    scene.answer(from, "one");
    assert_eq!(hear(&client), "one");
    scene.reload(&scene.configuration());
    scene.nginx.await_info("exited with code 0", 2);
    assert_eq!(scene.nginx.errors("alert"), Vec::<String>::new());
}

#[test]
fn the_port_of_a_listener_that_goes_is_free() {
    let scene = Scene::new();
    let _old = scene.ask("the first workers keep this");
    scene.reload(&scene.configuration());
    let _new = scene.ask("and their successors this");
    scene.reload("");
    scene.port_is_free();
}

#[test]
fn the_port_of_an_nginx_that_is_stopped_is_free() {
    let scene = Scene::new();
    let _old = scene.ask("the first workers keep this");
    scene.reload(&scene.configuration());
    let _new = scene.ask("and their successors this");
    scene.nginx.finish();
    scene.port_is_free();
}

/// Each worker has a socket of its own: that of one that gets no successor must not take datagrams any more.
#[test]
fn with_fewer_workers_no_datagram_goes_astray() {
    let scene = Scene::new();
    let _asked: Vec<_> = (0..40).map(|_| scene.ask("both workers have sessions")).collect();
    scene.nginx.reload_with_workers(&scene.configuration(), 1);
    scene.nginx.await_info("gracefully shutting down", 2);
    let later: Vec<_> = (0..40).map(|_| scene.ask("after")).collect();
    for (client, from) in &later {
        scene.answer(*from, "new");
        assert_eq!(hear(client), "new");
    }
}
