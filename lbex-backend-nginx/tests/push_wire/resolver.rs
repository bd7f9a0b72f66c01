//! Asks as NGINX's resolver does.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use lbex_backend_nginx::push::{Pace, Responder, ResponderOptions, ServerGroup, ServerName, Waiter};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;

/// How long a test waits for what has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// No answer comes within this time.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

pub(crate) const PORT: u16 = 8080;

pub(crate) fn me() -> u32 {
    nix::unistd::geteuid().as_raw()
}

pub(crate) fn options() -> ResponderOptions {
    ResponderOptions { wanted: None, spread: 0, pace: Pace::new(true), users: vec![me()], kept: None, keeper: None }
}

/// The same, for a test that counts answers: none is told again because the machine stood still.
pub(crate) fn unhurried() -> ResponderOptions {
    ResponderOptions { pace: Pace { again: PATIENCE, ..Pace::new(true) }, ..options() }
}

pub(crate) fn service(number: usize) -> ServiceKey {
    ServiceKey::new("default", &format!("s{number}")).expect("a name")
}

pub(crate) fn name(number: usize) -> ServerName {
    let group = ServerGroup { protocol: Protocol::Tcp, listener: 80, port: PORT };
    ServerName { service: service(number), group }
}

pub(crate) fn set(
    responder: &Responder,
    number: usize,
    generation: u64,
    addresses: &[IpAddr],
    waiter: Option<&Arc<Waiter>>,
) {
    let groups = BTreeMap::from([(name(number).group, addresses.to_vec())]);
    responder.set(&service(number), generation, &groups, waiter);
}

pub(crate) fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

pub(crate) fn many(count: u32) -> Vec<IpAddr> {
    (1..=count).map(|number| IpAddr::from((0x0a00_0000 + number).to_be_bytes())).collect()
}

pub(crate) fn question(id: u16, name: &str, family: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), family));
    message.to_vec().expect("bytes")
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) truncated: bool,
    pub(crate) addresses: Vec<IpAddr>,
}

pub(crate) fn answer(bytes: &[u8]) -> Answer {
    let message = Message::from_vec(bytes).expect("a DNS message");
    Answer {
        id: message.metadata.id,
        name: message.queries[0].name().to_ascii().trim_end_matches('.').to_owned(),
        truncated: message.metadata.truncation,
        addresses: message.answers.iter().filter_map(|record| record.data.ip_addr()).collect(),
    }
}

/// One resolver: a socket, and the next id.
pub(crate) struct Resolver {
    pub(crate) socket: UdpSocket,
    pub(crate) id: u16,
}

impl Resolver {
    pub(crate) fn new(responder: SocketAddr) -> Self {
        let socket = UdpSocket::bind((responder.ip(), 0)).expect("a socket");
        socket.connect(responder).expect("connected");
        Self { socket, id: 100 }
    }

    pub(crate) fn send(&self, id: u16, name: &ServerName, family: RecordType) {
        self.socket.send(&question(id, &name.to_string(), family)).expect("sent");
    }

    /// A new pair of questions; their ids.
    pub(crate) fn ask(&mut self, name: &ServerName) -> [u16; 2] {
        [RecordType::A, RecordType::AAAA].map(|family| {
            self.id = self.id.wrapping_add(1);
            self.send(self.id, name, family);
            self.id
        })
    }

    pub(crate) fn hear_within(&self, limit: Duration) -> Option<Answer> {
        self.socket.set_read_timeout(Some(limit)).expect("a timeout");
        let mut bytes = [0; 4096];
        self.socket.recv(&mut bytes).ok().map(|length| answer(&bytes[..length]))
    }

    /// The answers to both, in whichever order, as A and AAAA; what was sent again of earlier ones is passed over.
    pub(crate) fn hear(&self, ids: [u16; 2]) -> [Answer; 2] {
        let mut heard = BTreeMap::new();
        while heard.len() < 2 {
            let answer = self.hear_within(PATIENCE).expect("an answer");
            if ids.contains(&answer.id) {
                heard.insert(answer.id, answer);
            }
        }
        ids.map(|id| heard.remove(&id).expect("both"))
    }

    pub(crate) fn addresses(&self, ids: [u16; 2]) -> Vec<IpAddr> {
        self.hear(ids).into_iter().flat_map(|answer| answer.addresses).collect()
    }

    pub(crate) fn hears_nothing(&self) -> bool {
        self.hear_within(SILENCE).is_none()
    }
}

/// Asks on a connection.
pub(crate) fn by_tcp(stream: &mut TcpStream, id: u16, family: RecordType) -> Answer {
    let bytes = question(id, &name(0).to_string(), family);
    let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length[..], &bytes].concat()).expect("sent");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("an answer");
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes).expect("the whole of it");
    answer(&bytes)
}
