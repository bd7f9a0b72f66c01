//! ExternalName: the addresses come from a DNS server that the Service names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{Service, service};
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::free_ports;
use lbex_test_harness::wait::SOON;
use serde_json::json;

use crate::support::{World, at, local, servers, tcp_reaches, tcp_refused, udp_reaches};

/// A DNS server that gives every name the same IPv4 addresses, for a second.
struct Dns {
    address: SocketAddr,
    answers: Arc<Mutex<Vec<Ipv4Addr>>>,
    names: Arc<Mutex<Vec<String>>>,
}

impl Dns {
    fn start(answers: Vec<Ipv4Addr>) -> Result<Self> {
        let socket = UdpSocket::bind((local(14, 1), 0))?;
        let address = socket.local_addr()?;
        let (answers, names) = (Arc::new(Mutex::new(answers)), Arc::new(Mutex::new(Vec::new())));
        let this = Self { address, answers: answers.clone(), names: names.clone() };
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            // It ends with the process.
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let answers = answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some((name, reply)) = reply(&buffer[..length], &answers) {
                    names.lock().unwrap_or_else(PoisonError::into_inner).push(name);
                    let _ = socket.send_to(&reply, peer);
                }
            }
        });
        Ok(this)
    }

    fn answer(&self, answers: Vec<Ipv4Addr>) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    }

    fn was_asked_for(&self, name: &str) -> bool {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|asked| asked == name)
    }
}

/// The name that is asked for, and the answer: the addresses for A, nothing for other types.
fn reply(question: &[u8], addresses: &[Ipv4Addr]) -> Option<(String, Vec<u8>)> {
    let mut end = 12;
    let mut name = String::new();
    while *question.get(end)? != 0 {
        let label = question.get(end + 1..=end + usize::from(question[end]))?;
        name = format!("{name}{}.", String::from_utf8_lossy(label));
        end += 1 + label.len();
    }
    let asks_for_a = question.get(end + 1..end + 3)? == [0, 1];
    let addresses = if asks_for_a { addresses } else { &[] };
    let mut answer = question.get(..2)?.to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::try_from(addresses.len()).ok()?, 0, 0, 0, 0]);
    answer.extend(question.get(12..end + 5)?);
    for address in addresses {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    Some((name, answer))
}

fn v4(server: &Echo) -> Ipv4Addr {
    match server.address().ip() {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => panic!("{ip} is IPv6"),
    }
}

fn external(name: &str, target: &str, port: u16, listener: u16) -> Service {
    let ports = service(name).ask().tcp("tcp", port, 0).udp("udp", port, 0);
    let spec = json!({"type": "ExternalName", "externalName": target});
    ports.listen("tcp", listener).listen("udp", listener).spec(spec)
}

/// Served by name; a change in DNS arrives without anyone telling LBEX.
async fn by_name(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(3)?);
    let dns = Dns::start(servers[..2].iter().map(v4).collect())?;
    let target = servers[0].port();
    let web = external("web", "db.example.com", target, ports[0]).lbex("resolver", &dns.address.to_string());
    let without = external("without", "db.example.com", target, ports[1]);
    let objects = [&web as _, &without as _];
    let world = World::start_with(nginx, &["--allow-external-name", "--reload-interval=100ms"], objects).await?;
    tcp_reaches(at(ports[0]), &["a", "b"]).await?;
    udp_reaches(at(ports[0]), &["a", "b"]).await?;
    assert!(dns.was_asked_for("db.example.com."));
    let reloads = world.reloads().await?;
    dns.answer(vec![v4(&servers[2])]);
    tcp_reaches(at(ports[0]), &["c"]).await?;
    assert!((world.reloads().await? - reloads).abs() < 0.5, "DNS changed and NGINX was reloaded");
    // The name in the Service changes: that is LBEX's to see.
    let renamed = external("web", "new.example.com", target, ports[0]).lbex("resolver", &dns.address.to_string());
    world.put([&renamed as _])?;
    lbex_test_harness::wait::eventually("the new name is asked for", SOON, || async {
        // NGINX asks when a client comes.
        let _ = lbex_test_harness::backends::tcp_ask(at(ports[0])).await;
        anyhow::ensure!(dns.was_asked_for("new.example.com."), "it is not");
        Ok(())
    })
    .await?;
    let line = world.lbex.wait_log("default/without", SOON).await?;
    assert!(line.contains("resolver") && line.contains("not served"), "{line}");
    Ok(())
}

/// Off by default: tenants could reach private addresses by names of theirs.
async fn not_allowed(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(1)?, servers(1)?);
    let dns = Dns::start(vec![v4(&servers[0])])?;
    let web = external("web", "db.example.com", servers[0].port(), ports[0]);
    let world = World::start(nginx, [&web.lbex("resolver", &dns.address.to_string()) as _]).await?;
    tcp_refused(at(ports[0])).await?;
    let line = world.lbex.wait_log("--allow-external-name", Duration::from_secs(5)).await?;
    assert!(line.contains("default/web"), "{line}");
    assert!(!dns.was_asked_for("db.example.com."));
    Ok(())
}

on_each_nginx!(by_name, not_allowed);
