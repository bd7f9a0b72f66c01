//! `immediate-push`: the mark `push=on`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::dns::{Dns, PATIENCE};
use crate::nginx::{Nginx, free_address};

/// The next question has to come within this time. Unmarked it takes a second at least, which leaves room for a busy machine.
const AT_ONCE: Duration = Duration::from_millis(500);

fn configuration(dns: SocketAddr, mark: &str) -> String {
    let listener = free_address();
    format!(
        "upstream u {{ zone u 256k; resolver {dns} {mark}; resolver_timeout 24h; server web.lbex:80 resolve; }}\n\
         server {{ listen {listener}; proxy_pass u; }}"
    )
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

/// Whether a question came at once, in one of a few tries: unmarked each takes a second at least, and where the machine stands still a
/// marked one may, too.
fn at_once(what: &str, mut took: impl FnMut() -> Duration) {
    let tries: Vec<Duration> = std::iter::repeat_with(&mut took).take(5).take_while(|took| *took >= AT_ONCE).collect();
    assert!(tries.len() < 5, "{what}: {tries:?}");
}

#[test]
fn the_next_question_comes_at_once_after_an_answer_and_after_no_such_name() {
    let dns = Dns::start();
    let _nginx = Nginx::start(&configuration(dns.address(), "ipv6=off push=on"));
    let mut question = dns.question();
    for addresses in [&["10.0.0.1"][..], &["10.0.0.1", "10.0.0.2"], &[], &["10.0.0.3"]] {
        at_once(&format!("after {addresses:?}"), || {
            let answered = dns.answer(&question, &ips(addresses), 0);
            let next = dns.question();
            assert_ne!(next.id, question.id, "a repetition, no new question");
            question = next;
            question.at - answered
        });
        at_once("after no such name", || {
            let answered = dns.refuse(&question, ResponseCode::NXDomain);
            question = dns.question();
            question.at - answered
        });
    }
}

#[test]
fn both_families_are_asked_for_at_once() {
    let dns = Dns::start();
    let _nginx = Nginx::start(&configuration(dns.address(), "push=on"));
    for addresses in [&["10.0.0.1"][..], &["fd00::1"], &["10.0.0.1", "fd00::1"], &[]] {
        at_once(&format!("after {addresses:?}"), || {
            let questions = [dns.question(), dns.question()];
            let mut types = questions.each_ref().map(|question| question.query.query_type());
            types.sort_unstable();
            assert_eq!(types, [RecordType::A, RecordType::AAAA]);
            let answered = questions.each_ref().map(|question| dns.answer(question, &ips(addresses), 0))[1];
            let next = dns.question();
            dns.answer(&next, &ips(addresses), 0);
            let other = dns.question();
            dns.answer(&other, &ips(addresses), 0);
            next.at - answered
        });
    }
}

#[test]
fn without_the_mark_and_with_a_ttl_nothing_changes() {
    for (mark, ttl) in [("", 0), ("push=off", 0), ("push=on", 1)] {
        let dns = Dns::start();
        let _nginx = Nginx::start(&configuration(dns.address(), &format!("ipv6=off {mark}")));
        let answered = dns.answer(&dns.question(), &ips(&["10.0.0.1"]), ttl);
        let next = dns.question();
        assert!(next.at - answered > Duration::from_millis(900), "{mark} {ttl}: {:?}", next.at - answered);
    }
}

#[test]
fn another_failure_is_followed_by_a_question_within_a_second_or_two() {
    let dns = Dns::start();
    let _nginx = Nginx::start(&configuration(dns.address(), "ipv6=off push=on"));
    let mut question = dns.question();
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        let answered = dns.refuse(&question, code);
        question = dns.question();
        let waited = question.at - answered;
        assert!(waited > Duration::from_millis(900) && waited < Duration::from_secs(3), "{waited:?} after {code}");
    }
}

#[test]
fn new_workers_ask_at_once_whatever_the_answer_before_said() {
    for ttl in [0, 3600] {
        let dns = Dns::start();
        let configuration = configuration(dns.address(), "ipv6=off push=on");
        let nginx = Nginx::start(&configuration);
        let question = dns.question();
        dns.answer(&question, &ips(&["10.0.0.1"]), ttl);
        if ttl == 0 {
            dns.question();
        }
        nginx.reload(&configuration);
        let next = dns.question_within(PATIENCE).expect("the new workers ask");
        assert_ne!(next.from, question.from, "the old worker asks, not the new one");
    }
}

#[test]
fn a_mark_that_is_neither_on_nor_off_is_refused() {
    let dns = Dns::start();
    let output = Nginx::test(&configuration(dns.address(), "push=maybe"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("invalid parameter: push=maybe"), "{text}");
    assert!(Nginx::test(&configuration(dns.address(), "push=on")).status.success());
}
