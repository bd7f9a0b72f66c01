//! Understands what NGINX says about a configuration: which Service it means.

use std::net::SocketAddr;

use lbex_core::names::ServiceKey;

use crate::probe::Transport;
use crate::process::LogLine;
use crate::render::{Claim, ServiceFileName};

/// Why NGINX does not take a configuration, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Its words, without paths; one line.
    pub message: String,
    /// The Service's file that it names.
    pub file: Option<(ServiceKey, ServiceFileName)>,
    /// The socket that it could not open.
    pub socket: Option<Claim>,
}

impl Complaint {
    /// Whether the file's contents alone are to blame, so that trying them again is no use. Not so for a socket that cannot be
    /// opened, or where two files do not go together.
    pub fn lasting(&self) -> bool {
        self.file.is_some() && self.socket.is_none() && !self.message.contains("duplicate")
    }
}

/// Why `nginx -t` refused, from what it printed; `status` is all there is if it printed nothing.
pub fn complaint(output: &str, status: &str) -> Complaint {
    let grave = output.lines().filter_map(LogLine::parse).max_by_key(|line| line.level);
    let said = grave.map_or_else(|| output.lines().last().unwrap_or(status).to_owned(), |line| line.text);
    read(&said)
}

/// What lines of NGINX's log mean.
pub fn complaints(lines: &[LogLine]) -> Vec<Complaint> {
    lines.iter().map(|line| read(&line.text)).collect()
}

/// `TEXT in PATH/services/FILE:LINE`, or `bind() to ADDRESS failed (ERRNO: TEXT)`.
fn read(said: &str) -> Complaint {
    let place = said.rsplit_once(" in ").and_then(|(text, place)| {
        let (path, line) = place.rsplit_once(':')?;
        let (_, name) = path.rsplit_once("/services/")?;
        Some((text, ServiceFileName::parse(name)?, line))
    });
    match place {
        Some((text, file, line)) => {
            Complaint { message: format!("{text} (line {line})"), file: Some(file), socket: socket(said) }
        }
        None => Complaint { message: said.trim().to_owned(), file: None, socket: socket(said) },
    }
}

/// NGINX does not say whether it means TCP or UDP: the message is the same. TCP is assumed; whoever looks for the listener tries
/// UDP if there is no such TCP one.
fn socket(said: &str) -> Option<Claim> {
    let rest = ["bind() to ", "listen() to ", "socket() "].iter().find_map(|start| said.strip_prefix(start))?;
    let address: SocketAddr = rest.split_ascii_whitespace().next()?.trim_end_matches(',').parse().ok()?;
    Some(Claim { transport: Transport::Tcp, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> ServiceKey {
        ServiceKey::new(namespace, name).expect("names")
    }

    #[test]
    fn a_file_names_its_service() {
        let output = "nginx: [warn] something\nnginx: [emerg] unknown directive \"x\" in \
                      /p/conf/../services/default.web-1.0123456789ab.conf:17\nnginx: configuration file /p/conf/c.conf test failed\n";
        let complaint = complaint(output, "exit status: 1");
        assert_eq!(complaint.file.as_ref().map(|(service, _)| service), Some(&key("default", "web-1")));
        assert_eq!(complaint.message, "unknown directive \"x\" (line 17)");
        assert!(complaint.lasting());
    }

    #[test]
    fn two_files_that_do_not_go_together_are_not_judged_for_ever() {
        let output = "nginx: [emerg] duplicate \"0.0.0.0:80\" address and port pair in /p/conf/../services/a.b.0123456789ab.conf:4";
        let complaint = complaint(output, "");
        assert!(complaint.file.is_some() && !complaint.lasting());
    }

    #[test]
    fn sockets_that_cannot_be_opened() {
        for (text, address) in [
            ("bind() to 0.0.0.0:80 failed (98: Address already in use)", "0.0.0.0:80"),
            ("bind() to [::1]:53 failed (13: Permission denied)", "[::1]:53"),
            ("listen() to 127.0.0.1:80, backlog 4096 failed (98: Address already in use)", "127.0.0.1:80"),
            ("socket() 127.0.0.1:80 failed (24: Too many open files)", "127.0.0.1:80"),
        ] {
            let complaint = read(text);
            assert_eq!(complaint.socket.map(|s| s.address), Some(address.parse().expect("an address")), "{text}");
            assert!(complaint.file.is_none());
        }
        assert_eq!(read("bind() to unix:/p/run/generation.sock failed (98: x)").socket, None);
    }

    #[test]
    fn what_names_nobody_is_kept_as_it_is() {
        assert_eq!(complaint("", "signal: 9").message, "signal: 9");
        let main = complaint("nginx: [emerg] invalid value in /p/conf/candidate.conf:3\n", "");
        assert_eq!(main.file, None);
        assert_eq!(main.message, "invalid value in /p/conf/candidate.conf:3");
        let strange = complaint("nginx: [emerg] x in /p/services/README:3\n", "");
        assert_eq!(strange.file, None);
    }
}
