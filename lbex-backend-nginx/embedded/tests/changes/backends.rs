//! Servers behind NGINX that tell their own address, and one that answers nothing.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::dns::PATIENCE;
use crate::nginx::free_address;

/// Starts a server on each of `count` addresses, all with one port, until the test program ends.
pub(crate) fn start(count: u8) -> (Vec<IpAddr>, u16) {
    let [_, test, ..] = ip_of(free_address()).octets();
    for _ in 0..20 {
        let first = TcpListener::bind((Ipv4Addr::new(127, test, 1, 1), 0)).expect("a port");
        let port = first.local_addr().expect("its address").port();
        let others = (2..=count).map(|number| TcpListener::bind((Ipv4Addr::new(127, test, 1, number), port)));
        let Ok(mut listeners) = others.collect::<Result<Vec<_>, _>>() else { continue };
        listeners.insert(0, first);
        let ips = listeners.iter().map(|listener| listener.local_addr().expect("its address").ip()).collect();
        listeners.into_iter().for_each(|listener| drop(thread::spawn(move || serve(&listener))));
        return (ips, port);
    }
    panic!("no port is free on all addresses");
}

fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let own = ip_of(stream.local_addr().expect("its address"));
        // The client may be gone, which is its own affair.
        let _ = stream.write_all(&own.octets());
    }
}

/// UDP servers on each of `count` addresses, all with one port.
pub(crate) fn udp(count: u8) -> (Vec<UdpSocket>, Vec<IpAddr>, u16) {
    let [_, test, ..] = ip_of(free_address()).octets();
    for _ in 0..20 {
        let first = UdpSocket::bind((Ipv4Addr::new(127, test, 1, 1), 0)).expect("a port");
        let port = first.local_addr().expect("its address").port();
        let others = (2..=count).map(|number| UdpSocket::bind((Ipv4Addr::new(127, test, 1, number), port)));
        let Ok(mut sockets) = others.collect::<Result<Vec<_>, _>>() else { continue };
        sockets.insert(0, first);
        let ips = sockets.iter().map(|socket| socket.local_addr().expect("its address").ip()).collect();
        return (sockets, ips, port);
    }
    panic!("no port is free on all addresses");
}

/// Lets UDP servers answer each datagram with their own address and the port that it came from, until the test program ends.
pub(crate) fn answer_udp(sockets: Vec<UdpSocket>) {
    for socket in sockets {
        drop(thread::spawn(move || {
            let own = ip_of(socket.local_addr().expect("its address"));
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                // NGINX may be gone, as the test is then.
                let _ = socket.send_to(&[&own.octets()[..], &from.port().to_be_bytes()].concat(), from);
            }
        }));
    }
}

/// Who answers a client of `listener`: with a source address of its own, if one is given.
pub(crate) fn ask(listener: SocketAddr, client: Option<Ipv4Addr>) -> std::io::Result<IpAddr> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(client) = client {
        socket.bind(&SocketAddr::from((client, 0)).into())?;
    }
    socket.connect_timeout(&listener.into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut octets = [0; 4];
    stream.read_exact(&mut octets)?;
    Ok(IpAddr::from(octets))
}

/// A server that takes no connection: its queue is full, so that the system drops what else comes.
pub(crate) struct BlackHole {
    _listener: Socket,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&address.into()).expect("the address is free");
        listener.listen(0).expect("it listens");
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queue.push(stream);
            assert!(queue.len() < 100, "the queue never fills");
        }
        Self { _listener: listener, _queue: queue }
    }
}

fn ip_of(address: SocketAddr) -> Ipv4Addr {
    match address.ip() {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => panic!("{ip} is no IPv4 address"),
    }
}
