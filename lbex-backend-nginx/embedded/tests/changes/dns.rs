//! The server that NGINX asks: it answers when the test says so.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record};

/// How long a test waits for what has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Dns {
    socket: UdpSocket,
}

/// A question, and when it came.
pub(crate) struct Question {
    pub(crate) id: u16,
    pub(crate) query: Query,
    pub(crate) from: SocketAddr,
    pub(crate) at: Instant,
}

impl Dns {
    pub(crate) fn start() -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { socket: UdpSocket::bind(address).expect("a socket") }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("its address")
    }

    /// The next question, if one comes in time.
    pub(crate) fn question_within(&self, limit: Duration) -> Option<Question> {
        self.socket.set_read_timeout(Some(limit)).expect("a timeout");
        let mut bytes = [0; 512];
        let (length, from) = self.socket.recv_from(&mut bytes).ok()?;
        let at = Instant::now();
        let message = Message::from_vec(&bytes[..length]).expect("a DNS message");
        Some(Question { id: message.metadata.id, query: message.queries[0].clone(), from, at })
    }

    pub(crate) fn question(&self) -> Question {
        self.question_within(PATIENCE).expect("NGINX asks")
    }

    /// Answers with addresses; those of the other family than asked for are left out.
    pub(crate) fn answer(&self, question: &Question, addresses: &[IpAddr], ttl: u32) -> Instant {
        let mut message = Message::response(question.id, OpCode::Query);
        message.add_query(question.query.clone());
        for address in addresses {
            let data = match address {
                IpAddr::V4(address) => RData::A(A(*address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
            };
            if data.record_type() == question.query.query_type() {
                message.add_answer(Record::from_rdata(question.query.name().clone(), ttl, data));
            }
        }
        self.send(question, &message)
    }

    /// Answers with a code, for instance "no such name".
    pub(crate) fn refuse(&self, question: &Question, code: ResponseCode) -> Instant {
        let mut message = Message::error_msg(question.id, OpCode::Query, code);
        message.add_query(question.query.clone());
        self.send(question, &message)
    }

    /// Pushes addresses and awaits the proof that they are in use: the next question, which is returned.
    pub(crate) fn push(&self, question: &Question, addresses: &[IpAddr]) -> Question {
        self.answer(question, addresses, 0);
        self.question()
    }

    fn send(&self, question: &Question, message: &Message) -> Instant {
        let bytes = message.to_vec().expect("it can be written");
        self.socket.send_to(&bytes, question.from).expect("sent");
        Instant::now()
    }
}
