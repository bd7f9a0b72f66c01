//! How many lines may be logged: a store of lines that fills up over time.

use std::time::{Duration, Instant};

/// Lines that may follow each other at once.
const BURST: u32 = 40;
/// One more line after this long.
const REFILL: Duration = Duration::from_millis(500);

/// Lines that may still be logged.
#[derive(Debug)]
pub(super) struct Budget {
    lines: u32,
    /// Up to when it has been filled.
    filled: Instant,
}

impl Budget {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self { lines: BURST, filled: now }
    }

    /// Takes one line, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled);
        let earned = u32::try_from(elapsed.as_millis() / REFILL.as_millis()).unwrap_or(u32::MAX);
        if earned >= BURST - self.lines {
            (self.lines, self.filled) = (BURST, now);
        } else {
            self.lines += earned;
            self.filled += REFILL * earned;
        }
        let granted = self.lines > 0;
        self.lines = self.lines.saturating_sub(1);
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_per_refill() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!((0..100).filter(|_| budget.take(start)).count(), BURST as usize);
        let later = start + REFILL * 3;
        assert_eq!((0..100).filter(|_| budget.take(later)).count(), 3);
        let much_later = start + Duration::from_secs(86_400 * 365);
        assert_eq!((0..100).filter(|_| budget.take(much_later)).count(), BURST as usize);
    }
}
