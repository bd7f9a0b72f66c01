//! The time that a call has.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The call in progress: how long it may take, and whether LBEX still waits for it. A method that waits for something waits for this
/// too. One that takes longer is asked to end; LBEX calls nothing of the plugin until it has, and then opens the backend anew.
#[derive(Debug, Clone)]
pub struct Call {
    deadline: Instant,
    cancel: Arc<Cancel>,
}

#[derive(Debug, Default)]
pub(crate) struct Cancel {
    cancelled: Mutex<bool>,
    changed: Condvar,
}

impl Cancel {
    fn set(&self, cancelled: bool) {
        *self.cancelled.lock().unwrap_or_else(PoisonError::into_inner) = cancelled;
        self.changed.notify_all();
    }

    pub(crate) fn cancel(&self) {
        self.set(true);
    }

    /// A call that begins now. A cancellation that came for the one before is forgotten.
    pub(crate) fn begin(self: &Arc<Self>, timeout: Duration) -> Call {
        self.set(false);
        Call { deadline: Instant::now() + timeout, cancel: self.clone() }
    }
}

impl Call {
    /// A call that nobody cancels, for an author's own tests.
    pub fn with_timeout(timeout: Duration) -> Self {
        Arc::new(Cancel::default()).begin(timeout)
    }

    /// When it has to be done.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long it may still take; zero after its time, and after it was cancelled.
    pub fn remaining(&self) -> Duration {
        if *self.cancel.cancelled.lock().unwrap_or_else(PoisonError::into_inner) {
            return Duration::ZERO;
        }
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether it should return now: its time is over, or LBEX waits no longer.
    pub fn is_over(&self) -> bool {
        self.remaining().is_zero()
    }

    /// Sleeps for `duration`, or until the call [is over](Self::is_over). Whether the whole of it was slept.
    pub fn sleep(&self, duration: Duration) -> bool {
        let until = self.deadline.min(Instant::now() + duration);
        let mut cancelled = self.cancel.cancelled.lock().unwrap_or_else(PoisonError::into_inner);
        while !*cancelled {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return until < self.deadline;
            }
            let waited = self.cancel.changed.wait_timeout(cancelled, left);
            cancelled = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_call_wakes_who_sleeps_and_leaves_the_next_alone() {
        let cancel = Arc::new(Cancel::default());
        let call = cancel.begin(Duration::from_secs(60));
        let sleeper = std::thread::spawn(move || (call.sleep(Duration::from_secs(50)), call.is_over()));
        cancel.cancel();
        // Where the sleeper had not begun yet, it does not sleep at all.
        assert_eq!(sleeper.join().unwrap(), (false, true));
        assert!(!cancel.begin(Duration::from_secs(60)).is_over());
    }

    #[test]
    fn nobody_sleeps_longer_than_the_call_may_take() {
        let call = Call::with_timeout(Duration::from_millis(20));
        assert!(call.sleep(Duration::from_millis(1)));
        assert!(!call.sleep(Duration::from_secs(50)) && call.is_over());
    }
}
