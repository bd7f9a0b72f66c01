//! Echo backends and network namespaces carry TCP and UDP, IPv4 and IPv6; ports are free.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use lbex_test_harness::backends::{
    Conversation, Echo, tcp_ask, tcp_ask_from, tcp_greeting, tcp_tally, udp_ask, udp_ask_from,
};
use lbex_test_harness::netns::Netns;
use lbex_test_harness::ports::{free_port, free_ports, soon};
use lbex_test_harness::wait::{SOON, eventually_is};

const DEADLINE: Duration = Duration::from_secs(5);

fn loopbacks() -> [IpAddr; 2] {
    [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
}

#[tokio::test]
async fn backends_answer_with_their_name_over_both_protocols_and_families() -> Result<()> {
    for ip in loopbacks() {
        let echo = Echo::new("a").ip(ip).start()?;
        assert_eq!(tcp_ask(echo.address()).await?, "a");
        assert_eq!(udp_ask(echo.address(), "some words", DEADLINE).await?, "a");
        assert_eq!((echo.connections(), echo.datagrams()), (1, 1));
    }
    Ok(())
}

#[tokio::test]
async fn backends_count_connections_and_echo_lines() -> Result<()> {
    let echo = Echo::new("a").tcp_only().start()?;
    let mut one = Conversation::open(echo.address()).await?;
    let two = Conversation::open(echo.address()).await?;
    one.say("hello").await?;
    assert_eq!(one.greeting().peer, one.local_address()?);
    assert_eq!((echo.connections(), echo.open_connections()), (2, 2));
    drop(two);
    eventually_is("one is left", SOON, 1, || async { echo.open_connections() }).await?;
    assert_eq!(udp_ask(echo.address(), "x", DEADLINE).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    Ok(())
}

#[tokio::test]
async fn a_drop_stops_a_backend_and_closes_its_connections() -> Result<()> {
    let echo = Echo::new("a").start()?;
    let address = echo.address();
    let mut open = Conversation::open(address).await?;
    drop(echo);
    open.closed(DEADLINE).await?;
    // Its listener is closed by a task that is being ended.
    eventually_is("nobody listens any more", SOON, Some(ErrorKind::ConnectionRefused), || async {
        tcp_ask(address).await.err().map(|error| error.kind())
    })
    .await?;
    let again = Echo::new("b").port(address.port()).start()?;
    assert_eq!(tcp_ask(again.address()).await?, "b");
    Ok(())
}

#[tokio::test]
async fn several_addresses_share_one_port() -> Result<()> {
    let ips = [2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
    let echoes = Echo::on_one_port([("a", ips[0]), ("b", ips[1])])?;
    assert_eq!(echoes[0].port(), echoes[1].port());
    for echo in &echoes {
        assert_eq!(tcp_tally(echo.address(), 3).await?.into_iter().collect::<Vec<_>>(), [(echo.name().to_owned(), 3)]);
    }
    Ok(())
}

#[tokio::test]
async fn clients_choose_their_source() -> Result<()> {
    let echo = Echo::new("a").start()?;
    let source = IpAddr::from([127, 0, 0, 9]);
    assert_eq!(Conversation::open_from(source, echo.address()).await?.greeting().peer.ip(), source);
    assert_eq!(tcp_ask_from(source, echo.address()).await?, "a");
    assert_eq!(udp_ask_from((source, 0).into(), echo.address(), "x", DEADLINE).await?, "a");
    Ok(())
}

#[tokio::test]
async fn no_answer_and_an_early_end_are_told_apart() -> Result<()> {
    let silent = UdpSocket::bind("127.0.0.1:0")?;
    let error = udp_ask(silent.local_addr()?, "x", Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let closing = TcpListener::bind("127.0.0.1:0")?;
    let address = closing.local_addr()?;
    let thread = std::thread::spawn(move || closing.accept().map(drop));
    let error = tcp_ask(address).await.unwrap_err();
    thread.join().unwrap()?;
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error:?}");
    Ok(())
}

#[test]
fn free_ports_are_different_and_can_be_bound() -> Result<()> {
    let ports = free_ports(200)?;
    assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 200);
    for port in ports {
        for ip in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
            // One after the other: without further options :: includes IPv4.
            soon(|| TcpListener::bind((ip, port)))?;
            soon(|| UdpSocket::bind((ip, port)))?;
        }
    }
    let port = free_port()?;
    let taken = soon(|| TcpListener::bind(("127.0.0.7", port)))?;
    assert!(!free_ports(200)?.contains(&taken.local_addr()?.port()));
    Ok(())
}

#[tokio::test]
async fn a_namespace_carries_tcp_and_udp_both_families() -> Result<()> {
    let netns = Netns::new()?;
    for (ip, host) in
        [(IpAddr::from(netns.v4(1)), IpAddr::from(netns.host_v4())), (netns.v6(60).into(), netns.host_v6().into())]
    {
        let echo = Echo::new("pod").ip(ip).inside(&netns).start()?;
        let greeting = tcp_greeting(echo.address()).await?;
        assert_eq!((greeting.name.as_str(), greeting.peer.ip()), ("pod", host));
        assert_eq!(udp_ask(echo.address(), "x", DEADLINE).await?, "pod");
    }
    // And from inside to the host.
    let outside = Echo::new("host").ip(netns.host_v4()).start()?;
    let address = outside.address();
    let stream = netns.enter(move || std::net::TcpStream::connect(address))??;
    assert_eq!(stream.local_addr()?.ip(), IpAddr::from(netns.v4(1)));
    Ok(())
}

#[tokio::test]
async fn namespaces_are_apart_and_take_more_addresses() -> Result<()> {
    let (one, two) = (Netns::new()?, Netns::new()?);
    assert_ne!(one.v4(1), two.v4(1));
    let extra: [IpAddr; 2] = ["100.127.255.1".parse()?, "fd6c:6265:78ff::1".parse()?];
    for ip in extra {
        one.add_address(ip)?;
        let echo = Echo::new("service").ip(ip).inside(&one).start()?;
        assert_eq!(tcp_ask(echo.address()).await?, "service");
        assert_eq!(udp_ask(echo.address(), "x", DEADLINE).await?, "service");
    }
    // Nothing of it is on the host, and all of it goes with the namespace.
    assert!(TcpListener::bind(SocketAddr::new(extra[0], 0)).is_err());
    drop(one);
    eventually_is("the interface is gone", SOON, Some(ErrorKind::AddrNotAvailable), || async {
        // A route to it may still be there for a moment, then the default route says what it will.
        TcpListener::bind(SocketAddr::new(extra[0], 0)).err().map(|error| error.kind())
    })
    .await
}
