//! The kernel's netfilter over netlink: what nft does not say, or takes long to say. Messages are made and read by pure functions.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// More than the kernel puts in one datagram of a dump.
const BUFFER: usize = 1 << 16;

const HEADER: usize = 16;
/// Family, version, resource, in front of the attributes.
const NETFILTER_HEADER: usize = 4;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// What is dumped changed meanwhile.
const INTERRUPTED: u16 = 0x10;

const ERROR: u16 = 2;
const DONE: u16 = 3;

/// An attribute: its type, and what it holds.
pub type Attribute<'a> = (u16, &'a [u8]);

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// Subsystem and message.
    pub kind: u16,
    /// The address family; 0: all.
    pub family: u8,
    /// Attributes, as bytes.
    pub attributes: Vec<u8>,
}

/// Appends an attribute.
pub fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// Appends a text, with the zero that ends it.
pub fn text_attribute(to: &mut Vec<u8>, kind: u16, text: &str) {
    attribute(to, kind, &[text.as_bytes(), &[0]].concat());
}

/// The attributes that these bytes hold. What is cut off ends them.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let (length, kind) = (number(bytes, 0)?, number(bytes, 2)?);
        let value = bytes.get(4..usize::from(length))?;
        bytes = bytes.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
        // Without the marks for 'nested' and 'in network order'.
        Some((kind & 0x3fff, value))
    })
}

/// One attribute of those that these bytes hold.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A text, without the zero that ends it.
pub fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn message(question: &Question, flags: u16, sequence: u32) -> Vec<u8> {
    let length = HEADER + NETFILTER_HEADER + question.attributes.len();
    let mut bytes = u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    bytes.extend(question.kind.to_ne_bytes());
    bytes.extend((REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([question.family, 0, 0, 0]);
    bytes.extend(&question.attributes);
    bytes
}

/// What one datagram adds to an answer.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    More,
    Done,
    Failed(Errno),
    /// The answer is not of one moment.
    Interrupted,
}

/// Reads the messages of a datagram that belong to a question; hands out their attributes, behind the family.
fn read(mut bytes: &[u8], sequence: u32, each: &mut dyn FnMut(u8, &[u8])) -> Read {
    while let Some(length) = long(bytes, 0).map(|length| length as usize).filter(|length| *length >= HEADER) {
        let Some(message) = bytes.get(..length) else { break };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        if long(message, 8) != Some(sequence) {
            continue;
        }
        if number(message, 6).is_some_and(|flags| flags & INTERRUPTED != 0) {
            return Read::Interrupted;
        }
        match number(message, 4) {
            Some(DONE) => return Read::Done,
            Some(ERROR) => {
                let code = long(message, HEADER).map_or(0, u32::cast_signed);
                return if code == 0 { Read::Done } else { Read::Failed(Errno::from_raw(-code)) };
            }
            _ => {
                if let Some(body) = message.get(HEADER + NETFILTER_HEADER..) {
                    each(message[HEADER], body);
                }
            }
        }
    }
    Read::More
}

/// A connection to the kernel, in the network namespace of the thread that opens it.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens it. Each answer may take this long.
    pub fn open(timeout: Duration) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // Zero would mean for ever.
        let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX).max(1);
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(millis))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for one thing that the kernel has.
    pub fn get(&mut self, question: &Question, mut each: impl FnMut(u8, &[u8])) -> io::Result<()> {
        self.ask(question, ACK, &mut each)
    }

    /// Asks for all things of a kind. An error of the kind `Interrupted` says that they changed meanwhile: ask again.
    pub fn dump(&mut self, question: &Question, mut each: impl FnMut(u8, &[u8])) -> io::Result<()> {
        self.ask(question, DUMP, &mut each)
    }

    /// Has the kernel do something.
    pub fn tell(&mut self, question: &Question) -> io::Result<()> {
        self.ask(question, ACK, &mut |_, _| ())
    }

    fn ask(&mut self, question: &Question, flags: u16, each: &mut dyn FnMut(u8, &[u8])) -> io::Result<()> {
        self.sequence += 1;
        let fd = self.socket.as_raw_fd();
        send(fd, &message(question, flags, self.sequence), MsgFlags::empty())?;
        let mut buffer = vec![0; BUFFER];
        let mut interrupted = false;
        loop {
            let length = recv(fd, &mut buffer, MsgFlags::empty())?;
            match read(&buffer[..length], self.sequence, each) {
                Read::More => {}
                Read::Interrupted => interrupted = true,
                Read::Failed(errno) => return Err(errno.into()),
                Read::Done if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                Read::Done => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_that_were_written_are_read() {
        let mut bytes = Vec::new();
        text_attribute(&mut bytes, 3, "lbex");
        attribute(&mut bytes, 0x8000 | 7, &[1, 2, 3, 4]);
        assert_eq!(bytes.len(), 12 + 8);
        assert_eq!(find(&bytes, 3).and_then(text), Some("lbex"));
        assert_eq!(find(&bytes, 7), Some(&[1, 2, 3, 4][..]));
        assert_eq!(find(&bytes, 8), None);
    }

    #[test]
    fn what_is_cut_off_or_no_message_ends_an_answer() {
        let mut bytes = Vec::new();
        attribute(&mut bytes, 1, &[1, 2, 3, 4]);
        attribute(&mut bytes, 2, &[5, 6, 7, 8]);
        for length in 0..bytes.len() {
            assert_eq!(attributes(&bytes[..length]).count(), length / 8, "{length} bytes");
        }
        let whole = message(&Question { kind: 5, family: 2, attributes: bytes }, 0, 9);
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length], 9, &mut |_, _| panic!("a message of {length} bytes")), Read::More);
        }
        assert_eq!(read(&[0; 64], 9, &mut |_, _| panic!("no message")), Read::More);
    }

    #[test]
    fn an_answer_is_read_to_its_end() {
        let question = Question { kind: 5, family: 2, attributes: vec![5, 0, 1, 0, 42, 0, 0, 0] };
        let mut end = message(&Question { kind: DONE, family: 0, attributes: Vec::new() }, 0, 9);
        let (mut datagram, mut seen) = (message(&question, 0, 9), Vec::new());
        // One that answers another question.
        datagram.extend(message(&question, 0, 8));
        datagram.append(&mut end);
        let read = read(&datagram, 9, &mut |family, body| seen.push((family, find(body, 1).map(<[u8]>::to_vec))));
        assert_eq!((read, seen), (Read::Done, vec![(2, Some(vec![42]))]));
    }

    #[test]
    fn an_error_is_the_systems() {
        let mut failed = message(&Question { kind: ERROR, family: 0, attributes: Vec::new() }, 0, 1);
        failed[HEADER..].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(read(&failed, 1, &mut |_, _| ()), Read::Failed(Errno::EPERM));
    }
}
