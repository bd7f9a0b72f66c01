//! What NGINX asks, and what LBEX answers: reading is total, an answer keeps to its limit, and it is one to the same question.

use std::net::IpAddr;

use lbex_backend_nginx::push::wire::Question;

use super::Bytes;

/// A datagram.
pub fn push_question(bytes: &[u8]) {
    let Ok(question) = Question::read(bytes) else { return };
    let mut more = Bytes(bytes);
    let mut addresses: Vec<IpAddr> = Vec::new();
    while let Some(byte) = more.next() {
        addresses.push(if byte % 2 == 0 { IpAddr::from([10, 0, 0, byte]) } else { IpAddr::from([byte; 16]) });
    }
    for limit in [512, 4096, usize::from(u16::MAX)] {
        let answer = question.answer(&addresses, 1, limit);
        assert!(answer.len() <= limit.max(512), "{} bytes, at most {limit}", answer.len());
        // An answer is no question; without the flag that says so it is the same one.
        assert!(Question::read(&answer).is_err());
        let mut asked = answer;
        asked[2] &= 0x7f;
        asked[6..8].fill(0);
        let end = 12 + question.name.to_string().len() + 2 + 4;
        assert_eq!(Question::read(&asked[..end]), Ok(question.clone()));
    }
}
