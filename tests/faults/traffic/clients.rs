//! The three kinds of clients.

use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lbex_test_harness::backends::Conversation;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Kind, Outcome, Tally, Target};

/// The pause between two questions of a client that stays.
const PAUSE: Duration = Duration::from_millis(150);

/// How long a UDP client waits before it asks again: a datagram may be lost, and a worker be retired with the answer.
const UDP_ANSWER: Duration = Duration::from_secs(1);

/// How often it asks before it gives up.
const UDP_TRIES: usize = 3;

/// One connection with one question.
pub(super) async fn short(target: &Target) -> Outcome {
    match Conversation::open(target.at).await {
        Ok(mut connection) => {
            let said = connection.say("short").await;
            answered_by(target, said.map(|()| connection.name().to_owned()))
        }
        Err(error) => not_opened(&error),
    }
}

/// A connection that stays; when it is cut another one is opened.
pub(super) async fn held(target: Target, tally: Arc<Tally>, enough: watch::Receiver<bool>) {
    while !*enough.borrow() {
        let mut well = Instant::now();
        tally.opened();
        let mut connection = match Conversation::open(target.at).await {
            Ok(connection) if !is_of(&target, connection.name()) => {
                tally.add(&target, Kind::Held, well, Outcome::Wrong(connection.name().to_owned()));
                continue;
            }
            Ok(connection) => connection,
            Err(error) => {
                tally.add(&target, Kind::Held, well, not_opened(&error));
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while !*enough.borrow() {
            let said = connection.say("still here").await;
            let outcome = said.map_or_else(|error| failed(&error), |()| Outcome::Right);
            let is_over = outcome != Outcome::Right;
            tally.add(&target, Kind::Held, well, outcome);
            if is_over {
                break;
            }
            well = Instant::now();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A socket that stays, on which question after question is asked.
pub(super) async fn session(target: Target, tally: Arc<Tally>, enough: watch::Receiver<bool>) {
    let socket = match connected(&target).await {
        Ok(socket) => socket,
        Err(error) => return tally.add(&target, Kind::Udp, Instant::now(), Outcome::Cut(error.to_string())),
    };
    let mut number = 0_u64;
    while !*enough.borrow() {
        let from = Instant::now();
        let mut outcome = Outcome::Refused;
        for _ in 0..UDP_TRIES {
            number += 1;
            let asked = timeout(UDP_ANSWER, ask(&socket, &number.to_string())).await;
            let asked = asked.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
            let is_answered = asked.is_ok();
            outcome = answered_by(&target, asked);
            if is_answered {
                break;
            }
            if outcome == Outcome::Refused {
                // Told at once: a client would ask again later.
                tokio::time::sleep(UDP_ANSWER).await;
            }
        }
        tally.add(&target, Kind::Udp, from, outcome);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn connected(target: &Target) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(target.at).await?;
    Ok(socket)
}

/// Who answers a question. Late answers to earlier ones are passed over.
async fn ask(socket: &UdpSocket, question: &str) -> io::Result<String> {
    let mut buffer = [0; 256];
    socket.send(question.as_bytes()).await?;
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = String::from_utf8_lossy(&buffer[..length]);
        match answer.split_once(' ') {
            Some((name, echo)) if echo == question => return Ok(name.to_owned()),
            _ => {}
        }
    }
}

fn is_of(target: &Target, server: &str) -> bool {
    server.rsplit_once('.').is_some_and(|(service, _)| service == target.service)
}

fn answered_by(target: &Target, asked: io::Result<String>) -> Outcome {
    match asked {
        Ok(name) if is_of(target, &name) => Outcome::Right,
        Ok(name) => Outcome::Wrong(name),
        Err(error) => failed(&error),
    }
}

fn not_opened(error: &io::Error) -> Outcome {
    match failed(error) {
        Outcome::Cut(text) => Outcome::Closed(text),
        other => other,
    }
}

fn failed(error: &io::Error) -> Outcome {
    match error.kind() {
        ErrorKind::ConnectionRefused => Outcome::Refused,
        ErrorKind::TimedOut => Outcome::Unanswered(error.to_string()),
        _ => Outcome::Cut(error.to_string()),
    }
}
