//! `move-udp-sessions`: what becomes of the sessions of a server that is removed.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::backends;
use crate::dns::{Dns, PATIENCE};
use crate::nginx::{Nginx, free_address};

/// No answer comes within this time.
const SILENCE: Duration = Duration::from_millis(200);

/// Who answered, and from which port NGINX had asked it.
type Told = (IpAddr, u16);

/// A client that keeps its port.
struct Client(UdpSocket);

impl Client {
    fn new(listener: SocketAddr) -> Self {
        let socket = UdpSocket::bind((listener.ip(), 0)).expect("a socket");
        socket.connect(listener).expect("connected");
        Self(socket)
    }

    fn send(&self, bytes: &[u8]) {
        self.0.send(bytes).expect("sent");
    }

    fn answer_within(&self, limit: Duration) -> Option<Told> {
        self.0.set_read_timeout(Some(limit)).expect("a timeout");
        let mut told = [0; 6];
        match self.0.recv(&mut told) {
            Ok(6) => Some((IpAddr::from([told[0], told[1], told[2], told[3]]), u16::from_be_bytes([told[4], told[5]]))),
            Ok(length) => panic!("an answer of {length} bytes"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends one datagram; it is answered, once.
    fn ask(&self) -> Told {
        self.send(b"ping");
        self.answer_within(PATIENCE).expect("an answer")
    }
}

/// With `reuseport`, as LBEX has it, each session belongs to one of both workers; one of them alone asks for addresses.
fn configuration(dns: SocketAddr, balancer: &str, port: u16, listener: SocketAddr) -> String {
    format!(
        "upstream u {{ zone u 64k; {balancer} resolver {dns} ipv6=off push=on; resolver_timeout 24h; \
           server web.lbex:{port} resolve; }}\n\
         server {{ listen {listener} udp reuseport; proxy_pass u; }}"
    )
}

fn sessions_move(balancer: &str) {
    let dns = Dns::start();
    let (sockets, addresses, port) = backends::udp(3);
    backends::answer_udp(sockets);
    let listener = free_address();
    let nginx = Nginx::start(&configuration(dns.address(), balancer, port, listener));
    let question = dns.push(&dns.question(), &addresses);
    let clients: Vec<_> = (0..60).map(|_| Client::new(listener)).collect();
    let before: Vec<_> = clients.iter().map(Client::ask).collect();
    let served: BTreeSet<_> = before.iter().map(|(server, _)| *server).collect();
    assert_eq!(served, addresses.iter().copied().collect(), "each server has sessions");

    let (gone, stay) = addresses.split_first().expect("three addresses");
    dns.push(&question, stay);
    let after: Vec<_> = clients.iter().map(Client::ask).collect();
    for (before, after) in before.iter().zip(&after) {
        if before.0 == *gone {
            assert!(stay.contains(&after.0), "{before:?} became {after:?}");
        } else {
            assert_eq!(before, after, "its server stays");
        }
    }
    let again: Vec<_> = clients.iter().map(Client::ask).collect();
    assert_eq!(after, again, "they move once");
    assert!(clients.iter().all(|client| client.answer_within(Duration::from_millis(1)).is_none()), "answered twice");
    let moved = before.iter().filter(|(server, _)| server == gone).count();
    nginx.await_info(&format!("udp session leaves {gone}:{port}, which was removed"), moved);
}

#[test]
fn sessions_of_a_removed_server_move_with_round_robin() {
    sessions_move("");
}

#[test]
fn sessions_of_a_removed_server_move_with_least_conn() {
    sessions_move("least_conn;");
}

#[test]
fn sessions_of_a_removed_server_move_with_random() {
    sessions_move("random two;");
}

#[test]
fn sessions_of_a_removed_server_move_with_consistent_hash() {
    sessions_move("hash $remote_addr$remote_port consistent;");
}

#[test]
fn sessions_of_a_removed_server_move_with_hash() {
    // The position in the list counts here, so that sessions of other servers would move too if they began anew.
    sessions_move("hash $remote_addr$remote_port;");
}

#[test]
fn a_server_that_comes_back_keeps_its_sessions() {
    let dns = Dns::start();
    let (sockets, addresses, port) = backends::udp(2);
    backends::answer_udp(sockets);
    let listener = free_address();
    let _nginx = Nginx::start(&configuration(dns.address(), "", port, listener));
    let mut question = dns.push(&dns.question(), &addresses[..1]);
    let client = Client::new(listener);
    let first = client.ask();
    for _ in 0..3 {
        question = dns.push(&question, &addresses[1..]);
        question = dns.push(&question, &[]);
        question = dns.push(&question, &addresses);
        assert_eq!(client.ask(), first);
    }
    // What came back and is removed is left as any other.
    dns.push(&question, &addresses[1..]);
    assert_eq!(client.ask().0, addresses[1]);
}

#[test]
fn a_removed_server_still_answers_what_it_was_asked() {
    let dns = Dns::start();
    let (sockets, addresses, port) = backends::udp(1);
    let listener = free_address();
    let _nginx = Nginx::start(&configuration(dns.address(), "", port, listener));
    let question = dns.push(&dns.question(), &addresses);
    let client = Client::new(listener);
    client.send(b"ping");
    sockets[0].set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (_, from) = sockets[0].recv_from(&mut [0; 64]).expect("it is asked");
    dns.push(&question, &[]);
    sockets[0].send_to(b"answer", from).expect("sent");
    assert!(client.answer_within(PATIENCE).is_some());
}

#[test]
fn without_a_server_there_is_silence_until_one_comes() {
    const DATAGRAMS: usize = 20;
    let dns = Dns::start();
    let (sockets, addresses, port) = backends::udp(2);
    backends::answer_udp(sockets);
    let listener = free_address();
    let nginx = Nginx::start(&configuration(dns.address(), "", port, listener));
    let question = dns.push(&dns.question(), &addresses[..1]);
    let client = Client::new(listener);
    client.ask();
    let question = dns.push(&question, &[]);
    (0..DATAGRAMS).for_each(|_| client.send(b"ping"));
    assert_eq!(client.answer_within(SILENCE), None);
    nginx.await_info("no live upstreams", DATAGRAMS);
    assert_eq!(nginx.errors("upstream"), Vec::<String>::new());
    dns.push(&question, &addresses[1..]);
    assert_eq!(client.ask().0, addresses[1]);
}

/// An empty datagram is a datagram.
#[test]
fn an_empty_datagram_moves_its_session_too() {
    let dns = Dns::start();
    let (sockets, addresses, port) = backends::udp(2);
    backends::answer_udp(sockets);
    let listener = free_address();
    let nginx = Nginx::start(&configuration(dns.address(), "", port, listener));
    let question = dns.push(&dns.question(), &addresses[..1]);
    let client = Client::new(listener);
    client.ask();
    dns.push(&question, &addresses[1..]);
    client.send(b"");
    nginx.await_info("udp session leaves", 1);
    assert_eq!(client.answer_within(PATIENCE).map(|told| told.0), Some(addresses[1]));
    assert_eq!(client.ask().0, addresses[1]);
}

/// The zone has room for some two hundred servers: it would be full if a move kept the server that was left.
#[test]
fn a_session_that_moves_for_ever_keeps_no_memory() {
    let dns = Dns::start();
    let (sockets, addresses, port) = backends::udp(2);
    backends::answer_udp(sockets);
    let listener = free_address();
    let nginx = Nginx::start(&configuration(dns.address(), "", port, listener));
    let clients = [(); 3].map(|()| Client::new(listener));
    let mut question = dns.question();
    for round in 0..400 {
        question = dns.push(&question, &addresses[round % 2..=round % 2]);
        // One moves each time, one comes back to the same server, one is silent meanwhile.
        assert_eq!(clients[0].ask().0, addresses[round % 2]);
        if round % 2 == 0 {
            assert_eq!(clients[1].ask().0, addresses[0]);
        }
    }
    assert_eq!(clients[2].ask().0, addresses[1]);
    assert_eq!(nginx.errors("memory"), Vec::<String>::new());
    assert_eq!(nginx.errors("alert"), Vec::<String>::new());
}

#[test]
fn a_connection_stays_with_a_removed_server() {
    let dns = Dns::start();
    let server = TcpListener::bind(free_address()).expect("a socket");
    let address = server.local_addr().expect("its address");
    let listener = free_address();
    let configuration = configuration(dns.address(), "", address.port(), listener).replace(" udp reuseport", "");
    let _nginx = Nginx::start(&configuration);
    let question = dns.push(&dns.question(), &[address.ip()]);
    let mut client = TcpStream::connect(listener).expect("connected");
    let (mut served, _) = server.accept().expect("a connection");
    dns.push(&question, &[]);
    let mut heard = [0; 4];
    for _ in 0..3 {
        client.write_all(b"ping").expect("sent");
        served.read_exact(&mut heard).expect("it arrives");
        served.write_all(&heard).expect("sent");
        client.read_exact(&mut heard).expect("an answer");
    }
}
