//! Others than NGINX that ask.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::Command;

use hickory_proto::rr::RecordType;
use lbex_backend_nginx::push::{Responder, ResponderOptions};

use crate::resolver::{PATIENCE, Resolver, by_tcp, many, me, name, options, question, set};

/// Asks for a name as another user, with nothing but bash: the id of the answer, if one comes.
fn ask_as(user: u32, responder: SocketAddr) -> Option<u16> {
    let [v4, v6] = [(1, RecordType::A), (2, RecordType::AAAA)].map(|(id, family)| {
        let bytes = question(id, &name(0).to_string(), family);
        bytes.iter().fold(String::new(), |text, byte| format!("{text}\\x{byte:02x}"))
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
