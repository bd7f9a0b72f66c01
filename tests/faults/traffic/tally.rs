//! What became of each connection.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Target;

/// What a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A TCP connection with one question.
    Short,
    /// A TCP connection that stays, with a question now and then.
    Held,
    /// A UDP socket that stays, with a question now and then.
    Udp,
}

/// What became of a connection, or of a question over UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A server of the Service answered.
    Right,
    /// A server of another Service answered: this one.
    Wrong(String),
    /// It ended before its client was done.
    Cut(String),
    /// It was accepted, by the kernel at least, and ended before the first answer.
    Closed(String),
    /// Nothing listened.
    Refused,
    /// Nothing came back in time.
    Unanswered(String),
}

/// Something that went wrong.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) service: String,
    pub(crate) kind: Kind,
    /// When all was well for the last time, or it began.
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    pub(crate) outcome: Outcome,
}

impl Record {
    /// In words; times are seconds since `begin`.
    pub(crate) fn told(&self, begin: Instant) -> String {
        let at = |time: Instant| time.saturating_duration_since(begin).as_secs_f64();
        let Self { service, kind, from, to, outcome } = self;
        format!("{:.3} to {:.3} s: {kind:?} client of {service}: {outcome:?}", at(*from), at(*to))
    }
}

/// How many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// TCP connections that were opened, or tried to be.
    pub(crate) opened: usize,
    /// Of all clients.
    pub(crate) right: usize,
    pub(crate) wrong: usize,
    pub(crate) cut: usize,
    pub(crate) closed: usize,
    pub(crate) refused: usize,
    pub(crate) unanswered: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opened, right, wrong, cut, closed, refused, unanswered } = self;
        write!(f, "{opened} connections opened; {right} right answers, {wrong} wrong, {cut} cut, {closed} closed, ")?;
        write!(f, "{refused} refused, {unanswered} unanswered")
    }
}

/// Counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    opened: AtomicUsize,
    right: AtomicUsize,
    records: Mutex<Vec<Record>>,
}

impl Tally {
    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// What became of a client's connection or question that began at `from`.
    pub(super) fn add(&self, target: &Target, kind: Kind, from: Instant, outcome: Outcome) {
        if kind == Kind::Short {
            self.opened();
        }
        if outcome == Outcome::Right {
            self.right.fetch_add(1, Ordering::Relaxed);
        } else if target.steady || matches!(outcome, Outcome::Wrong(_)) {
            let record = Record { service: target.service.clone(), kind, from, to: Instant::now(), outcome };
            self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |is: fn(&Outcome) -> bool| records.iter().filter(|record| is(&record.outcome)).count();
        Counts {
            opened: self.opened.load(Ordering::Relaxed),
            right: self.right.load(Ordering::Relaxed),
            wrong: count(|outcome| matches!(outcome, Outcome::Wrong(_))),
            cut: count(|outcome| matches!(outcome, Outcome::Cut(_))),
            closed: count(|outcome| matches!(outcome, Outcome::Closed(_))),
            refused: count(|outcome| *outcome == Outcome::Refused),
            unanswered: count(|outcome| matches!(outcome, Outcome::Unanswered(_))),
        }
    }

    pub(super) fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
