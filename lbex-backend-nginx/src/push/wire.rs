//! NGINX's questions and LBEX's answers as DNS messages (RFC 1035), as far as NGINX's resolver uses them.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::{DNSClass, RecordType};

use super::name::ServerName;

/// How long a UDP answer may be, in bytes: NGINX reads no more.
pub const LONGEST_UDP: usize = 4096;

/// The length of a message's header.
const HEADER: usize = 12;

/// The length of a record without its address.
const RECORD: usize = 12;

/// Flags of an answer: recursion was desired, and is available.
const ANSWER: u16 = 0x8180;

/// The flag that says 'ask by TCP'.
const TRUNCATED: u16 = 0x0200;

/// The name that stands in the question (RFC 1035, 4.1.4).
const TO_QUESTION: u16 = 0xc00c;

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// 0 or 1.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// Whether an address is of this family.
    pub fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// A question for the addresses of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What the answer has to carry for NGINX to take it.
    pub id: u16,
    /// For which servers.
    pub name: ServerName,
    /// For which addresses.
    pub family: Family,
}

/// Why a message is no question that LBEX answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAQuestion {
    /// Not a DNS message at all, or not one that asks for addresses.
    #[error("not a DNS question for addresses")]
    Malformed,
    /// It asks for a name that is not of LBEX's upstream servers.
    #[error("a question for a name that is not of LBEX's upstream servers")]
    Foreign,
}

impl Question {
    /// Reads a message.
    pub fn read(message: &[u8]) -> Result<Self, NotAQuestion> {
        let message = Message::from_vec(message).map_err(|_| NotAQuestion::Malformed)?;
        let metadata = &message.metadata;
        let [query] = message.queries.as_slice() else { return Err(NotAQuestion::Malformed) };
        let plain = metadata.message_type == MessageType::Query && metadata.op_code == OpCode::Query;
        let family = match query.query_type() {
            RecordType::A => Family::V4,
            RecordType::AAAA => Family::V6,
            _ => return Err(NotAQuestion::Malformed),
        };
        if !plain || query.query_class() != DNSClass::IN {
            return Err(NotAQuestion::Malformed);
        }
        let text = query.name().to_ascii().to_ascii_lowercase();
        let name = text.strip_suffix('.').unwrap_or(&text).parse().map_err(|_| NotAQuestion::Foreign)?;
        Ok(Self { id: metadata.id, name, family })
    }

    /// The answer: those of `addresses` that are of the question's family, to be kept for `ttl` seconds. Where it is longer than
    /// `limit` bytes, one that says 'ask by TCP' instead.
    ///
    /// Written here and not by a library: each record names its owner by two bytes that point to the question, so that as much as
    /// possible fits into a datagram, and a push costs little.
    pub fn answer(&self, addresses: &[IpAddr], ttl: u32, limit: usize) -> Vec<u8> {
        let (kind, size) = match self.family {
            Family::V4 => (RecordType::A, 4_u16),
            Family::V6 => (RecordType::AAAA, 16),
        };
        let count = addresses.iter().filter(|address| self.family.has(**address)).count();
        let length = HEADER + self.question_length() + count * (RECORD + usize::from(size));
        let fits = length <= limit;
        let count = if fits { u16::try_from(count).unwrap_or(u16::MAX) } else { 0 };
        let mut bytes = Vec::with_capacity(length.min(limit));
        let flags = ANSWER | if fits { 0 } else { TRUNCATED };
        for number in [self.id, flags, 1, count, 0, 0] {
            bytes.extend(number.to_be_bytes());
        }
        for label in self.name.to_string().split('.') {
            // Labels have at most 63 bytes.
            bytes.push(u8::try_from(label.len()).unwrap_or_default());
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        bytes.extend(u16::from(kind).to_be_bytes());
        bytes.extend(u16::from(DNSClass::IN).to_be_bytes());
        for address in addresses.iter().filter(|address| fits && self.family.has(**address)) {
            bytes.extend(TO_QUESTION.to_be_bytes());
            bytes.extend(u16::from(kind).to_be_bytes());
            bytes.extend(u16::from(DNSClass::IN).to_be_bytes());
            bytes.extend(ttl.to_be_bytes());
            bytes.extend(size.to_be_bytes());
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
        bytes
    }

    /// The question in a message: a length byte for each label and the end, type and class.
    fn question_length(&self) -> usize {
        self.name.to_string().len() + 2 + 4
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Query, ResponseCode};
    use hickory_proto::rr::Name;
    use proptest::prelude::*;

    use super::*;

    /// As NGINX 1.28.3 writes it: no EDNS, recursion desired.
    const NGINX: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x048080\x0280\x03tcp\x07default\x03web\x04lbex\x00\x00\x01\x00\x01";

    #[test]
    fn a_question_of_nginx_is_read_and_answered() {
        let question = Question::read(NGINX).expect("a question");
        assert_eq!((question.id, question.family), (0x1234, Family::V4));
        assert_eq!(question.name.to_string(), "8080.80.tcp.default.web.lbex");
        let addresses = ["10.0.0.1".parse().expect("an address"), "fd00::1".parse().expect("an address")];
        let answer = question.answer(&addresses, 0, LONGEST_UDP);
        let message = Message::from_vec(&answer).expect("a message");
        assert_eq!(message.metadata.id, 0x1234);
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        let told: Vec<_> = message.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
        assert_eq!(told, [addresses[0]]);
        // Flags that NGINX insists on: an answer, not truncated, nothing reserved set.
        assert_eq!(u16::from_be_bytes([answer[2], answer[3]]) & 0xfa70, 0x8000);
    }

    #[test]
    fn what_is_too_long_for_a_datagram_is_asked_for_by_tcp() {
        let question = Question::read(NGINX).expect("a question");
        let addresses: Vec<IpAddr> = (0..1000u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes())).collect();
        let short = question.answer(&addresses, 0, LONGEST_UDP);
        let message = Message::from_vec(&short).expect("a message");
        assert!(message.metadata.truncation && message.answers.is_empty());
        let long = question.answer(&addresses, 0, usize::from(u16::MAX));
        assert_eq!(Message::from_vec(&long).expect("a message").answers.len(), 1000);
        let fits = question.answer(&addresses[..250], 0, LONGEST_UDP);
        assert_eq!(Message::from_vec(&fits).expect("a message").answers.len(), 250);
    }

    #[test]
    fn foreign_names_and_other_kinds_of_questions_are_told_apart() {
        let mut foreign = Message::new(1, MessageType::Query, OpCode::Query);
        foreign.add_query(Query::query(Name::from_ascii("example.com.").expect("a name"), RecordType::A));
        assert_eq!(Question::read(&foreign.to_vec().expect("bytes")), Err(NotAQuestion::Foreign));
        let mut text = NGINX.to_vec();
        let end = text.len() - 3;
        text[end] = 16;
        assert_eq!(Question::read(&text), Err(NotAQuestion::Malformed));
        let mut answer = NGINX.to_vec();
        answer[2] |= 0x80;
        assert_eq!(Question::read(&answer), Err(NotAQuestion::Malformed));
        assert_eq!(Question::read(&NGINX[..20]), Err(NotAQuestion::Malformed));
    }

    proptest! {
        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(question) = Question::read(&bytes) {
                prop_assert!(Message::from_vec(&question.answer(&[], 0, LONGEST_UDP)).is_ok());
            }
        }

        #[test]
        fn reading_damaged_questions_is_total(at in 0..NGINX.len(), byte in any::<u8>()) {
            let mut bytes = NGINX.to_vec();
            bytes[at] = byte;
            if let Ok(question) = Question::read(&bytes) {
                prop_assert!(Message::from_vec(&question.answer(&[IpAddr::from([10, 0, 0, 1])], 0, LONGEST_UDP)).is_ok());
            }
        }
    }
}
