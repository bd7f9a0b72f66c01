//! Who holds a TCP port, from `/proc`: for an error message, so every failure to find out is just no answer.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A process that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its name (`comm`: 15 bytes at the most).
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// The process whose listening TCP socket keeps `address` from being bound, where this user may know.
pub(super) fn of_tcp_port(address: SocketAddr) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|text| listening(&text, address))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        files
            .flatten()
            .filter_map(|f| fs::read_link(f.path()).ok())
            .any(|to| to.to_str().is_some_and(|t| inodes.iter().any(|i| i == t)))
    };
    let pid = { pids }.find(holds)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(Holder { pid, name: name.trim_end().escape_debug().to_string() })
}

/// Inodes of the listening sockets in the text of `/proc/net/tcp` or `tcp6` that collide with `address`.
fn listening(table: &str, address: SocketAddr) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (ip, port) = local.split_once(':')?;
        let same_port = u16::from_str_radix(port, 16).ok()? == address.port();
        (*state == LISTEN && same_port && collides(parse_ip(ip)?, address.ip())).then(|| inode.parse().ok())?
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// Whether sockets at both addresses exclude each other. `::` may take IPv4 as well: the table does not say.
fn collides(theirs: IpAddr, ours: IpAddr) -> bool {
    theirs == ours || theirs.is_unspecified() || (ours.is_unspecified() && ours.is_ipv4() == theirs.is_ipv4())
}

/// The tables write addresses as 32-bit words in the machine's byte order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let word = |i: usize| u32::from_str_radix(hex.get(i * 8..i * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for i in 0..4 {
                bytes[i * 4..i * 4 + 4].copy_from_slice(&word(i)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn finds_this_process() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let bound = listener.local_addr().unwrap();
            let holder = of_tcp_port(bound).expect("found in /proc");
            assert_eq!(holder.pid, std::process::id(), "{address}");
            let everywhere =
                SocketAddr::new(if bound.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap(), bound.port());
            assert_eq!(of_tcp_port(everywhere).map(|h| h.pid), Some(std::process::id()), "{everywhere}");
        }
    }

    #[test]
    fn other_ports_addresses_and_states_do_not_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1CA3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 71 1\n\
             1: 0100007F:1CA3 0100007F:1000 01 00000000:00000000 00:00000000 00000000     0        0 72 1\n\
             2: 0200007F:1CA3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 73 1\n\
             3: nonsense\n";
        if cfg!(target_endian = "little") {
            assert_eq!(listening(table, "127.0.0.1:7331".parse().unwrap()), [71]);
            assert_eq!(listening(table, "0.0.0.0:7331".parse().unwrap()), [71, 73]);
        }
        assert!(listening(table, "127.0.0.1:7332".parse().unwrap()).is_empty());
    }
}
