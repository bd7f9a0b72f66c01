//! What may go wrong for clients, and when: what the faults of a schedule explain.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::traffic::{Outcome, Record};

/// What a fault explains. That another Service's server answers is never explained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Excuses {
    /// Connections that are open are cut.
    pub(crate) cuts: bool,
    /// Clients are refused.
    pub(crate) refusals: bool,
    /// Clients get no answer.
    pub(crate) silence: bool,
}

impl Excuses {
    /// Clients notice nothing.
    pub(crate) const NOTHING: Self = Self { cuts: false, refusals: false, silence: false };
    /// Those who are connected are cut.
    pub(crate) const CUTS: Self = Self { cuts: true, ..Self::NOTHING };
    /// Nobody new is served.
    pub(crate) const NEW: Self = Self { refusals: true, silence: true, ..Self::NOTHING };
    /// Nobody is served.
    pub(crate) const EVERYTHING: Self = Self { cuts: true, refusals: true, silence: true };
    /// Some get no answer.
    pub(crate) const SILENCE: Self = Self { silence: true, ..Self::NOTHING };

    fn covers(self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Right => true,
            Outcome::Wrong(_) => false,
            Outcome::Cut(_) => self.cuts,
            // Whoever held the listening socket ended.
            Outcome::Closed(_) => self.cuts || self.refusals,
            Outcome::Refused => self.refusals,
            Outcome::Unanswered(_) => self.silence,
        }
    }
}

/// What a fault is done to: one at a time, each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// The API server, the way to it, or what it says.
    Api,
    /// The objects.
    Objects,
    /// LBEX's process.
    Lbex,
    /// NGINX's processes.
    Nginx,
    /// The disk.
    Prefix,
}

/// A fault while it lasts.
#[derive(Debug, Clone, Copy)]
struct Window {
    on: On,
    from: Instant,
    to: Option<Instant>,
    excuses: Excuses,
}

impl Window {
    fn touches(&self, from: Instant, to: Instant) -> bool {
        self.from <= to && self.to.is_none_or(|end| end >= from)
    }
}

/// The faults so far.
#[derive(Debug, Default)]
pub(crate) struct Windows(Mutex<Vec<Window>>);

impl Windows {
    /// A fault begins. Answers its number.
    pub(crate) fn open(&self, on: On, excuses: Excuses) -> usize {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Window { on, from: Instant::now(), to: None, excuses });
        all.len() - 1
    }

    /// It is over, and so is what it did. Answers how long it took.
    pub(crate) fn close(&self, number: usize) -> Duration {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all[number].to = Some(now);
        now.duration_since(all[number].from)
    }

    /// Whether a fault of these kinds, other than this one, was there at the same time.
    pub(crate) fn hindered(&self, number: usize, by: &[On]) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, to) = (all[number].from, all[number].to.unwrap_or_else(Instant::now));
        all.iter()
            .enumerate()
            .any(|(other, window)| other != number && by.contains(&window.on) && window.touches(from, to))
    }

    /// Whether one of this kind is there, or was not longer ago than that.
    pub(crate) fn was_there(&self, on: On, ago: Duration) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = |window: &Window| window.to.is_none_or(|end| end.elapsed() < ago);
        all.iter().any(|window| window.on == on && lately(window))
    }

    /// Whether a fault explains what a client saw.
    pub(crate) fn explain(&self, record: &Record) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().any(|window| window.touches(record.from, record.to) && window.excuses.covers(&record.outcome))
    }
}
