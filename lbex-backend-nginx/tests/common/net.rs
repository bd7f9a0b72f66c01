//! Small servers that answer with their name, clients, and addresses that no other test has.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// A loopback address of this test's own: tests run at once, in this process and in others.
pub(crate) fn own_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id();
    let (high, low) = (u8::try_from(process / 250 % 100).unwrap_or(0), u8::try_from(process % 250).unwrap_or(0));
    IpAddr::V4(Ipv4Addr::new(127, 100 + high, low + 1, NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// A port on which neither TCP nor UDP is in use at that address, and another one each time.
pub(crate) fn free_port(address: IpAddr) -> u16 {
    static GIVEN: Mutex<BTreeSet<(IpAddr, u16)>> = Mutex::new(BTreeSet::new());
    loop {
        let tcp = TcpListener::bind((address, 0)).expect("a port");
        let port = tcp.local_addr().expect("bound").port();
        if UdpSocket::bind((address, port)).is_ok() && GIVEN.lock().expect("no panic").insert((address, port)) {
            return port;
        }
    }
}

/// A port on which neither is in use at any address, below those that the kernel gives to clients.
pub(crate) fn free_everywhere() -> u16 {
    let first = u16::try_from(std::process::id() % 4000).unwrap_or(0);
    let free = |port: &u16| {
        let any = (Ipv4Addr::UNSPECIFIED, *port);
        TcpListener::bind(any).is_ok() && UdpSocket::bind(any).is_ok()
    };
    (26_000 + first..32_000).find(free).expect("a port")
}

/// So many ports on which TCP is not in use at that address, below those that the kernel gives to clients.
pub(crate) fn free_ports(address: IpAddr, count: usize) -> Vec<u16> {
    let free = |port: &u16| TcpListener::bind((address, *port)).is_ok();
    let ports: Vec<u16> = (10_000..32_000).filter(free).take(count).collect();
    assert_eq!(ports.len(), count, "too few free ports");
    ports
}

/// Whether this host has IPv6 on loopback.
pub(crate) fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// A TCP and UDP server on one port, in threads that end with the process. TCP: says its name, then reads until the client has
/// said all, and answers with the number of bytes. UDP: answers each datagram with its name, a space and the datagram.
pub(crate) fn server(name: &'static str, address: IpAddr) -> SocketAddr {
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind((address, 0)).expect("a port");
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("bound")) {
            break (tcp, udp);
        }
    };
    let address = tcp.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            std::thread::spawn(move || serve(name, stream));
        }
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            let answer = [name.as_bytes(), b" ", &buffer[..length]].concat();
            // A client that is gone is no reason to end.
            let _ = udp.send_to(&answer, client);
        }
    });
    address
}

fn serve(name: &str, mut stream: TcpStream) {
    let mut all = Vec::new();
    if stream.write_all(format!("{name}\n").as_bytes()).is_ok() && stream.read_to_end(&mut all).is_ok() {
        let _ = stream.write_all(all.len().to_string().as_bytes());
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

/// Connects, reads the name; empty if the connection is closed before that. `None`: refused.
pub(crate) fn ask_tcp(address: SocketAddr) -> Option<String> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    Some(read_name(&stream))
}

pub(crate) fn read_name(mut stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let (mut name, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).is_ok_and(|n| n == 1) && byte[0] != b'\n' {
        name.push(byte[0]);
    }
    String::from_utf8(name).expect("a name")
}

/// Sends all, says that this was all, and reads the answer.
pub(crate) fn send_all(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("connected");
    let name = read_name(&stream);
    stream.write_all(bytes).expect("sent");
    stream.shutdown(Shutdown::Write).expect("said");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    format!("{name} {answer}")
}

/// Ends a connection on which the name was read: whether the server's last word still comes.
pub(crate) fn is_alive(mut stream: TcpStream) -> bool {
    let mut answer = String::new();
    stream.shutdown(Shutdown::Write).is_ok() && stream.read_to_string(&mut answer).is_ok() && answer == "0"
}

/// Sends a datagram from a new socket and awaits the answer.
pub(crate) fn ask_udp(address: SocketAddr, datagram: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).expect("bound");
    socket.connect(address).expect("connected");
    socket.send(datagram).ok()?;
    socket.set_read_timeout(Some(patience)).expect("set");
    let mut buffer = vec![0; 65536];
    let length = socket.recv(&mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
