//! The responder on real sockets, asked as NGINX's resolver asks: a question for each family with an id of its own, repeated where no
//! answer comes, and a new pair as soon as both are answered.

#[path = "common/net.rs"]
mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use lbex_backend_nginx::push::{Pace, Responder, ResponderOptions, ServerGroup, ServerName, Waiter};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// No answer comes within this time.
const SILENCE: Duration = Duration::from_millis(300);

const PORT: u16 = 8080;

fn me() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn options() -> ResponderOptions {
    ResponderOptions { wanted: None, pace: Pace::new(true), users: vec![me()], kept: None, keeper: None }
}

fn service(number: usize) -> ServiceKey {
    ServiceKey::new("default", &format!("s{number}")).expect("a name")
}

fn name(number: usize) -> ServerName {
    let group = ServerGroup { protocol: Protocol::Tcp, listener: 80, port: PORT };
    ServerName { service: service(number), group }
}

fn set(responder: &Responder, number: usize, generation: u64, addresses: &[IpAddr], waiter: Option<&Arc<Waiter>>) {
    let groups = BTreeMap::from([(name(number).group, addresses.to_vec())]);
    responder.set(&service(number), generation, &groups, waiter);
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

fn many(count: u32) -> Vec<IpAddr> {
    (1..=count).map(|number| IpAddr::from((0x0a00_0000 + number).to_be_bytes())).collect()
}

fn question(id: u16, name: &str, family: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), family));
    message.to_vec().expect("bytes")
}

#[derive(Debug)]
struct Answer {
    id: u16,
    name: String,
    truncated: bool,
    addresses: Vec<IpAddr>,
}

fn answer(bytes: &[u8]) -> Answer {
    let message = Message::from_vec(bytes).expect("a DNS message");
    Answer {
        id: message.metadata.id,
        name: message.queries[0].name().to_ascii().trim_end_matches('.').to_owned(),
        truncated: message.metadata.truncation,
        addresses: message.answers.iter().filter_map(|record| record.data.ip_addr()).collect(),
    }
}

/// One resolver: a socket, and the next id.
struct Resolver {
    socket: UdpSocket,
    id: u16,
}

impl Resolver {
    fn new(responder: SocketAddr) -> Self {
        let socket = UdpSocket::bind((responder.ip(), 0)).expect("a socket");
        socket.connect(responder).expect("connected");
        Self { socket, id: 100 }
    }

    fn send(&self, id: u16, name: &ServerName, family: RecordType) {
        self.socket.send(&question(id, &name.to_string(), family)).expect("sent");
    }

    /// A new pair of questions; their ids.
    fn ask(&mut self, name: &ServerName) -> [u16; 2] {
        [RecordType::A, RecordType::AAAA].map(|family| {
            self.id = self.id.wrapping_add(1);
            self.send(self.id, name, family);
            self.id
        })
    }

    fn hear_within(&self, limit: Duration) -> Option<Answer> {
        self.socket.set_read_timeout(Some(limit)).expect("a timeout");
        let mut bytes = [0; 4096];
        self.socket.recv(&mut bytes).ok().map(|length| answer(&bytes[..length]))
    }

    /// The answers to both, in whichever order, as A and AAAA; what was sent again of earlier ones is passed over.
    fn hear(&self, ids: [u16; 2]) -> [Answer; 2] {
        let mut heard = BTreeMap::new();
        while heard.len() < 2 {
            let answer = self.hear_within(PATIENCE).expect("an answer");
            if ids.contains(&answer.id) {
                heard.insert(answer.id, answer);
            }
        }
        ids.map(|id| heard.remove(&id).expect("both"))
    }

    fn addresses(&self, ids: [u16; 2]) -> Vec<IpAddr> {
        self.hear(ids).into_iter().flat_map(|answer| answer.addresses).collect()
    }

    fn hears_nothing(&self) -> bool {
        self.hear_within(SILENCE).is_none()
    }
}

#[test]
fn a_question_is_held_until_something_changes_however_often_it_is_repeated() {
    let responder = Responder::open(&options()).expect("it opens");
    let mut nginx = Resolver::new(responder.address());
    let asked = nginx.ask(&name(0));
    assert!(nginx.hears_nothing(), "the Service is not known yet");
    set(&responder, 0, 1, &ips(&["10.0.0.1"]), None);
    assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1"]));

    let [v4, v6] = nginx.ask(&name(0));
    for _ in 0..3 {
        nginx.send(v4, &name(0), RecordType::A);
    }
    // There are none of that family, which need not be asked for again every five seconds.
    let none = nginx.hear_within(PATIENCE).expect("an answer");
    assert_eq!((none.id, none.addresses), (v6, vec![]));
    assert!(nginx.hears_nothing());
    let waiter = Arc::new(Waiter::default());
    set(&responder, 0, 2, &ips(&["10.0.0.1", "10.0.0.2"]), Some(&waiter));
    let changed = nginx.hear_within(PATIENCE).expect("an answer");
    assert_eq!((changed.id, changed.addresses), (v4, ips(&["10.0.0.1", "10.0.0.2"])));
    assert_eq!(waiter.left(), 1, "NGINX has not said that it has it");
    nginx.ask(&name(0));
    let deadline = Instant::now() + PATIENCE;
    while waiter.left() > 0 {
        assert!(Instant::now() < deadline, "the next question is the proof");
        std::thread::yield_now();
    }
    // An older state changes nothing.
    set(&responder, 0, 1, &ips(&["10.0.0.9"]), None);
    nginx.hear_within(PATIENCE).expect("no address of the other family");
    assert!(nginx.hears_nothing());
}

#[test]
fn an_answer_that_was_lost_comes_again_by_itself_and_when_it_is_asked_for() {
    let responder = Responder::open(&options()).expect("it opens");
    set(&responder, 0, 1, &ips(&["10.0.0.1", "fd00::1"]), None);
    let mut nginx = Resolver::new(responder.address());
    let asked = nginx.ask(&name(0));
    for _ in 0..3 {
        assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1", "fd00::1"]), "again");
    }
    nginx.send(asked[0], &name(0), RecordType::A);
    nginx.send(asked[1], &name(0), RecordType::AAAA);
    assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1", "fd00::1"]));
    // What has changed meanwhile is told in the next round: each id has one answer.
    set(&responder, 0, 2, &ips(&["10.0.0.2"]), None);
    assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1", "fd00::1"]));
    let next = nginx.ask(&name(0));
    assert_eq!(nginx.addresses(next), ips(&["10.0.0.2"]));
    assert!(responder.standing().names.counts.repeated >= 6);
}

#[test]
fn questions_of_several_names_and_families_may_come_in_any_order() {
    let responder = Responder::open(&options()).expect("it opens");
    for number in 0..4 {
        set(&responder, number, 1, &ips(&[&format!("10.0.0.{number}"), &format!("fd00::{number}")]), None);
    }
    let mut nginx = Resolver::new(responder.address());
    for _ in 0..3 {
        for order in [[0, 1, 2, 3], [3, 1, 0, 2]] {
            nginx.id += 8;
            let first = nginx.id;
            let id = |number: usize, family: u16| first + u16::try_from(number).expect("small") * 2 + family;
            order.iter().for_each(|number| nginx.send(id(*number, 1), &name(*number), RecordType::AAAA));
            order.iter().rev().for_each(|number| nginx.send(id(*number, 0), &name(*number), RecordType::A));
            // What NGINX has it is not told again: so something changes.
            let generation = u64::from(first);
            for number in order {
                let addresses = ips(&[&format!("10.0.{}.{number}", first / 256), &format!("fd00::{first}:{number}")]);
                set(&responder, number, generation, &addresses, None);
            }
            let mut left: BTreeSet<u16> = (0..8).map(|number| first + number).collect();
            while !left.is_empty() {
                let answer = nginx.hear_within(PATIENCE).expect("an answer");
                if left.remove(&answer.id) {
                    let number = usize::from((answer.id - first) / 2);
                    assert_eq!((answer.name, answer.addresses.len()), (name(number).to_string(), 1));
                }
            }
        }
    }
}

fn by_tcp(stream: &mut TcpStream, id: u16, family: RecordType) -> Answer {
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

#[test]
fn what_is_too_long_for_a_datagram_is_told_by_tcp() {
    let responder = Responder::open(&options()).expect("it opens");
    let mut nginx = Resolver::new(responder.address());
    let mut stream = TcpStream::connect(responder.address()).expect("connected");
    for (generation, count) in [(1, 250), (2, 254), (3, 1000), (4, 2000)] {
        let addresses = many(count);
        set(&responder, 0, generation, &addresses, None);
        let [v4, v6] = nginx.ask(&name(0));
        let [answered, none] = nginx.hear([v4, v6]);
        assert_eq!((none.truncated, none.addresses.len()), (false, 0));
        if answered.truncated {
            assert!(count > 250 && answered.addresses.is_empty());
            // Something changes before it comes by TCP: it is told what was meant, and the change in the next round.
            set(&responder, 0, generation, &addresses[1..], None);
            assert_eq!(by_tcp(&mut stream, v4, RecordType::A).addresses, addresses);
            set(&responder, 0, generation, &addresses, None);
        } else {
            assert!(count < 300);
            assert_eq!(answered.addresses, addresses);
        }
    }
    // An LBEX that has begun anew meanwhile does not know the question: what is true now.
    assert_eq!(by_tcp(&mut stream, 9, RecordType::A).addresses, many(2000));
    let sixes: Vec<IpAddr> = (1..=2000).map(|n| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n).into()).collect();
    set(&responder, 0, 5, &sixes, None);
    let answered = by_tcp(&mut stream, 10, RecordType::AAAA);
    assert_eq!((answered.truncated, answered.addresses), (false, sixes));
}

#[test]
fn nothing_is_told_by_tcp_of_a_service_that_is_not_known_yet() {
    let responder = Responder::open(&options()).expect("it opens");
    let mut nginx = Resolver::new(responder.address());
    let asked = nginx.ask(&name(0));
    assert!(nginx.hears_nothing());
    let bytes = question(asked[0], &name(0).to_string(), RecordType::A);
    let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    let mut stream = TcpStream::connect(responder.address()).expect("connected");
    stream.write_all(&[&length[..], &bytes].concat()).expect("sent");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(stream.read(&mut [0; 64]).expect("its end"), 0, "as if there were no addresses");
    set(&responder, 0, 1, &many(1000), None);
    let mut stream = TcpStream::connect(responder.address()).expect("connected");
    assert_eq!(by_tcp(&mut stream, asked[0], RecordType::A).addresses, many(1000));
}

#[test]
fn connections_make_way_for_new_ones_and_those_of_garbage_end() {
    let responder = Responder::open(&options()).expect("it opens");
    set(&responder, 0, 1, &many(1000), None);
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(responder.address()).expect("connected")).collect();
    let mut stream = TcpStream::connect(responder.address()).expect("connected");
    assert_eq!(by_tcp(&mut stream, 1, RecordType::A).addresses.len(), 1000);
    drop(silent);
    for garbage in [&b"\0\x04abcd"[..], b"\xff\xffabcd", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(responder.address()).expect("connected");
        stream.write_all(garbage).expect("sent");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // It ends, by whichever means.
        assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
    }
}

#[test]
fn a_service_with_ipv6_addresses_alone() {
    let responder = Responder::open(&options()).expect("it opens");
    set(&responder, 0, 1, &ips(&["fd00::1"]), None);
    let mut nginx = Resolver::new(responder.address());
    let asked = nginx.ask(&name(0));
    assert_eq!(nginx.addresses(asked), ips(&["fd00::1"]));
    let [v4, v6] = nginx.ask(&name(0));
    assert_eq!(nginx.hear_within(PATIENCE).map(|none| (none.id, none.addresses)), Some((v4, vec![])));
    assert!(nginx.hears_nothing());
    // It gets an IPv4 address beside: this round is completed with what it has, and the next one tells both.
    set(&responder, 0, 2, &ips(&["10.0.0.1", "fd00::1"]), None);
    assert_eq!(nginx.hear_within(PATIENCE).map(|told| (told.id, told.addresses)), Some((v6, ips(&["fd00::1"]))));
    let asked = nginx.ask(&name(0));
    assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1", "fd00::1"]));
}

#[test]
fn garbage_and_foreign_names_are_ignored_and_counted() {
    let responder = Responder::open(&options()).expect("it opens");
    set(&responder, 0, 1, &ips(&["10.0.0.1"]), None);
    let mut nginx = Resolver::new(responder.address());
    let ours = name(0).to_string();
    let mut reply = question(1, &ours, RecordType::A);
    reply[2] |= 0x80;
    let garbage = [
        vec![],
        vec![0; 11],
        vec![0xff; 2000],
        question(1, &ours, RecordType::TXT),
        question(1, "example.com", RecordType::A),
        question(1, "8080.80.tcp.default.s0.lbex.example.com", RecordType::A),
        question(1, &ours, RecordType::A)[..20].to_vec(),
        reply,
    ];
    for bytes in &garbage {
        nginx.socket.send(bytes).expect("sent");
    }
    let asked = nginx.ask(&name(0));
    assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1"]));
    assert_eq!(responder.standing().ignored, garbage.len() as u64);
}

/// Asks for a name as another user, with nothing but bash: the id of the answer, if one comes.
fn ask_as(user: u32, responder: SocketAddr) -> Option<u16> {
    let [v4, v6] = [(1, RecordType::A), (2, RecordType::AAAA)].map(|(id, family)| {
        let bytes = question(id, &name(0).to_string(), family);
        bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>()
    });
    let script = format!(
        "exec 3<>/dev/udp/{}/{}; printf '{v4}' >&3; printf '{v6}' >&3; timeout 2 head -c 12 <&3",
        responder.ip(),
        responder.port()
    );
    let output = Command::new("bash").args(["-c", &script]).uid(user).current_dir("/").output().expect("bash runs");
    output.stdout.get(..2).map(|id| u16::from_be_bytes([id[0], id[1]]))
}

#[test]
fn nobody_but_nginx_is_answered() {
    const NOBODY: u32 = 65_534;
    let other = if me() == NOBODY { NOBODY - 1 } else { NOBODY };
    let responder = Responder::open(&ResponderOptions { users: vec![other], ..options() }).expect("it opens");
    set(&responder, 0, 1, &many(1000), None);
    let mut stranger = Resolver::new(responder.address());
    stranger.ask(&name(0));
    assert!(stranger.hears_nothing());
    assert_eq!(responder.standing().names.names, 0, "a stranger's question is none");
    let mut stream = TcpStream::connect(responder.address()).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let end = stream.write_all(&[0, 1]).and_then(|()| stream.read(&mut [0; 8]));
    assert_eq!(end.unwrap_or(0), 0, "a stranger's connection ends");
    assert_eq!(responder.standing().ignored, 3);

    if nix::unistd::geteuid().is_root() {
        assert!(ask_as(other, responder.address()).is_some(), "the one who may ask");
        assert_eq!(ask_as(other - 1, responder.address()), None, "one who may not");
    }
}

#[test]
fn a_flood_of_strangers_keeps_nothing_waiting() {
    let responder = Responder::open(&options()).expect("it opens");
    set(&responder, 0, 1, &many(1000), None);
    let end = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let socket = UdpSocket::bind((responder.address().ip(), 0)).expect("a socket");
            while !end.load(std::sync::atomic::Ordering::Relaxed) {
                socket.send_to(&[0; 100], responder.address()).expect("sent");
            }
        });
        for _ in 0..20 {
            let mut stream = TcpStream::connect(responder.address()).expect("connected");
            assert_eq!(by_tcp(&mut stream, 1, RecordType::A).addresses.len(), 1000);
        }
        end.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// All workers of an NGINX that begins ask for all names in the same instant.
#[test]
fn five_thousand_names_at_once_are_answered_and_none_is_lost() {
    const NAMES: usize = 5000;
    let responder = Responder::open(&options()).expect("it opens");
    (0..NAMES).for_each(|number| set(&responder, number, 1, &ips(&["10.0.0.1"]), None));
    let mut nginx = Resolver::new(responder.address());
    let names: Vec<_> = (0..NAMES).map(name).collect();
    let mut asked: BTreeMap<u16, usize> = BTreeMap::new();
    for (number, name) in names.iter().enumerate() {
        asked.extend(nginx.ask(name).map(|id| (id, number)));
        // NGINX reads between its questions.
        while let Some(answer) = nginx.socket.set_nonblocking(true).ok().and_then(|()| {
            let mut bytes = [0; 4096];
            nginx.socket.recv(&mut bytes).ok().map(|length| self::answer(&bytes[..length]))
        }) {
            asked.remove(&answer.id);
        }
    }
    nginx.socket.set_nonblocking(false).expect("set");
    let mut repeated = 0;
    while !asked.is_empty() {
        if let Some(answer) = nginx.hear_within(Duration::from_secs(5)) {
            asked.remove(&answer.id);
            continue;
        }
        repeated += 1;
        assert!(repeated < 4, "{} of {} questions are not answered", asked.len(), 2 * NAMES);
        for (id, number) in &asked {
            let family = if id % 2 == 1 { RecordType::A } else { RecordType::AAAA };
            nginx.send(*id, &names[*number], family);
        }
    }
    // An ordinary user's socket may be too small for so many.
    let has_room = nix::sys::socket::setsockopt(&nginx.socket, nix::sys::socket::sockopt::RcvBufForce, &4096).is_ok();
    assert!(repeated == 0 || !has_room, "questions were lost");
    assert_eq!(responder.standing().names.names, NAMES);
}

#[test]
fn where_the_port_is_taken_another_one_is_used() {
    let address = SocketAddr::new(net::own_address(), 0);
    let taken = UdpSocket::bind(address).expect("a socket");
    let wanted = taken.local_addr().ok();
    let responder = Responder::open(&ResponderOptions { wanted, ..options() }).expect("it opens");
    assert_ne!(Some(responder.address()), wanted);
    set(&responder, 0, 1, &ips(&["10.0.0.1"]), None);
    let mut nginx = Resolver::new(responder.address());
    let asked = nginx.ask(&name(0));
    assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1"]));
}

#[test]
fn it_answers_on_ipv6_where_nginx_asks_there() {
    if !net::has_ipv6() {
        return;
    }
    let ip = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let wanted = Some(SocketAddr::new(ip, net::free_port(ip)));
    let responder = Responder::open(&ResponderOptions { wanted, ..options() }).expect("it opens");
    assert!(responder.address().ip().is_loopback());
    set(&responder, 0, 1, &many(1000), None);
    let mut nginx = Resolver::new(responder.address());
    let asked = nginx.ask(&name(0));
    assert!(nginx.hear(asked)[0].truncated);
    let mut stream = TcpStream::connect(responder.address()).expect("connected");
    assert_eq!(by_tcp(&mut stream, asked[0], RecordType::A).addresses.len(), 1000);
}

#[test]
fn the_next_responder_answers_at_once_what_was_asked_of_the_one_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = Some(folder.path().join("questions"));
    let ip = net::own_address();
    let wanted = Some(SocketAddr::new(ip, net::free_port(ip)));
    let open = |kept: &Option<_>| {
        let options = ResponderOptions { wanted, kept: kept.clone(), ..options() };
        let responder = Responder::open(&options).expect("it opens");
        assert_eq!(Some(responder.address()), wanted);
        responder
    };
    let first = open(&kept);
    set(&first, 0, 1, &ips(&["10.0.0.1", "fd00::1"]), None);
    let mut nginx = Resolver::new(first.address());
    let asked = nginx.ask(&name(0));
    nginx.hear(asked);
    let waiting = nginx.ask(&name(0));
    assert!(nginx.hears_nothing());
    drop(first);

    let second = open(&kept);
    assert!(kept.as_ref().is_some_and(|path| !path.exists()), "it holds once");
    set(&second, 0, 1, &ips(&["10.0.0.2", "fd00::1"]), None);
    assert_eq!(nginx.addresses(waiting), ips(&["10.0.0.2", "fd00::1"]));
    let waiting = nginx.ask(&name(0));
    assert!(nginx.hears_nothing());
    drop(second);

    // Without what was kept the next one learns of a question when it is repeated.
    let third = open(&None);
    set(&third, 0, 1, &ips(&["10.0.0.3", "fd00::1"]), None);
    assert!(nginx.hears_nothing());
    nginx.send(waiting[0], &name(0), RecordType::A);
    nginx.send(waiting[1], &name(0), RecordType::AAAA);
    assert_eq!(nginx.addresses(waiting), ips(&["10.0.0.3", "fd00::1"]));
}

#[test]
fn what_was_kept_and_is_damaged_does_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("questions");
    let ip = net::own_address();
    let address = SocketAddr::new(ip, net::free_port(ip));
    let options = ResponderOptions { wanted: Some(address), kept: Some(path.clone()), ..options() };
    for text in [String::new(), "nonsense".to_owned(), format!("{address}\n\0\n{address} 1\n1 2 3 4\n")] {
        std::fs::write(&path, text).expect("written");
        let responder = Responder::open(&options).expect("it opens");
        set(&responder, 0, 1, &ips(&["10.0.0.1"]), None);
        let mut nginx = Resolver::new(responder.address());
        let asked = nginx.ask(&name(0));
        assert_eq!(nginx.addresses(asked), ips(&["10.0.0.1"]));
    }
}
