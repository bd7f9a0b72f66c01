//! Answers that do not fit into a datagram.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpStream};

use hickory_proto::rr::RecordType;
use lbex_backend_nginx::push::Responder;

use crate::resolver::{PATIENCE, Resolver, by_tcp, many, name, options, question, set};

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
