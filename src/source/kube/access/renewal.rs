//! When credentials are to be loaded anew.

use std::time::{Duration, Instant, SystemTime};

/// A time by two clocks, of which the first counts that gets there. The clock on the wall may be set back, by an hour or by a year; the
/// other one stands still while the host sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Renewal {
    wall: SystemTime,
    /// `None`: further away than that clock goes.
    running: Option<Instant>,
}

impl Renewal {
    /// After so long.
    pub(super) fn after(age: Duration) -> Self {
        Self::at(SystemTime::now() + age)
    }

    /// At this time; one that is over is now.
    pub(super) fn at(wall: SystemTime) -> Self {
        Self::seen(wall, SystemTime::now(), Instant::now())
    }

    fn seen(wall: SystemTime, now: SystemTime, running: Instant) -> Self {
        let left = wall.duration_since(now).unwrap_or_default();
        Self { wall, running: running.checked_add(left) }
    }

    /// Whether that is now, or before.
    pub(super) fn is_due(&self) -> bool {
        self.is_due_at(SystemTime::now(), Instant::now())
    }

    fn is_due_at(&self, wall: SystemTime, running: Instant) -> bool {
        self.wall <= wall || self.running.is_some_and(|at| at <= running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_clock_that_is_set_back_puts_nothing_off() {
        let (wall, running) = (SystemTime::UNIX_EPOCH + 50 * YEAR, Instant::now());
        let renewal = Renewal::seen(wall + seconds(45), wall, running);
        for now in [wall, wall - seconds(3600), wall - YEAR] {
            assert!(!renewal.is_due_at(now, running + seconds(44)));
            assert!(renewal.is_due_at(now, running + seconds(45)));
        }
    }

    #[test]
    fn a_clock_that_is_set_forward_or_a_host_that_slept_has_it_done_at_once() {
        let (wall, running) = (SystemTime::UNIX_EPOCH + 50 * YEAR, Instant::now());
        let renewal = Renewal::seen(wall + seconds(45), wall, running);
        assert!(renewal.is_due_at(wall + seconds(3600), running + seconds(1)));
        assert!(renewal.is_due_at(wall + YEAR, running));
    }

    #[test]
    fn what_is_over_is_due_and_what_is_far_away_is_not() {
        assert!(Renewal::at(SystemTime::UNIX_EPOCH).is_due());
        assert!(!Renewal::at(SystemTime::now() + 8000 * YEAR).is_due());
        assert!(!Renewal::after(seconds(3600)).is_due());
    }
}
