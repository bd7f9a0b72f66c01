//! How long things may take, and how long to wait between attempts.

use std::time::Duration;

/// Times of one watch. Tests make them shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timing {
    /// How long a watch lasts before the API server ends it (`timeoutSeconds`), give or take a tenth.
    pub(super) watch: Duration,
    /// How much longer than that nothing may come before the connection is taken for dead.
    pub(super) grace: Duration,
    /// How long a list may be silent at first.
    pub(super) patience: Duration,
    /// How long at the most: doubled each time that a list was given up.
    pub(super) most_patience: Duration,
    /// After so long without an event a watch counts as working.
    pub(super) settled: Duration,
    /// The first wait after a failure.
    pub(super) first_wait: Duration,
    /// The longest.
    pub(super) most_wait: Duration,
    /// After so long without the API server a watch does not go on: meanwhile it may have been restored from a backup, and have come
    /// beyond the version that was seen last.
    pub(super) away: Duration,
    /// How often a trouble that lasts is told again.
    pub(super) tell_again: Duration,
    /// The least time between two loadings of the credentials.
    pub(super) renewal: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            watch: Duration::from_secs(50),
            grace: Duration::from_secs(7),
            patience: Duration::from_secs(60),
            most_patience: Duration::from_secs(600),
            settled: Duration::from_secs(5),
            first_wait: Duration::from_millis(200),
            most_wait: Duration::from_secs(20),
            away: Duration::from_secs(30),
            tell_again: Duration::from_secs(60),
            renewal: Duration::from_secs(5),
        }
    }
}

/// Waits that double, with jitter, until something works again.
#[derive(Debug)]
pub(super) struct Backoff {
    timing: Timing,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(timing: Timing) -> Self {
        Self { timing, failures: 0 }
    }

    /// It works.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many failures there were in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a failure and says how long to wait: from half of the full time to all of it. `asked` is what the API server asked
    /// for, heeded up to the longest wait.
    pub(super) fn failed(&mut self, asked: Option<Duration>) -> Duration {
        let full = self.timing.first_wait.saturating_mul(1 << self.failures.min(20)).min(self.timing.most_wait);
        self.failures = self.failures.saturating_add(1);
        let jittered = full.mul_f64(0.5 + fastrand::f64() / 2.0);
        asked.map_or(jittered, |asked| jittered.max(asked.min(self.timing.most_wait)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_start_again() {
        let mut backoff = Backoff::new(Timing::default());
        let waits: Vec<_> = (0..12).map(|_| backoff.failed(None)).collect();
        assert!(waits[0] <= Duration::from_millis(200) && waits[0] >= Duration::from_millis(100), "{waits:?}");
        assert!(waits[3] >= Duration::from_millis(800), "{waits:?}");
        assert!(waits[11] <= Duration::from_secs(20) && waits[11] >= Duration::from_secs(10), "{waits:?}");
        backoff.reset();
        assert!(backoff.failed(None) <= Duration::from_millis(200));
        assert_eq!(backoff.failed(Some(Duration::from_secs(3))), Duration::from_secs(3));
        assert_eq!(backoff.failed(Some(Duration::from_secs(3600))), Duration::from_secs(20));
    }
}
