//! Waits until NGINX has applied a number of names.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// All are applied.
    Done,
    /// Some are not, and none came for a while.
    Stuck,
    /// Some are not, and they still come one after the other.
    Slow,
}

/// Counts the names that are still to be applied.
#[derive(Debug, Default)]
pub struct Waiter {
    left: AtomicUsize,
    done: Notify,
}

impl Waiter {
    /// One more name is waited for.
    pub(super) fn one_more(&self) {
        self.left.fetch_add(1, Ordering::AcqRel);
    }

    /// One of them is applied.
    pub(super) fn one_done(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Acquire)
    }

    /// Waits until none is left, as long as there is progress: one at least is done in each `pause`, and not for longer than `most`.
    pub async fn done_or_stuck(&self, pause: Duration, most: Duration) -> Waited {
        let begin = Instant::now();
        loop {
            let before = self.left();
            let rest = most.saturating_sub(begin.elapsed());
            if timeout(pause.min(rest), self.all_done()).await.is_ok() {
                return Waited::Done;
            }
            if self.left() >= before {
                return Waited::Stuck;
            }
            if begin.elapsed() >= most {
                return Waited::Slow;
            }
        }
    }

    /// Returns when none is left.
    async fn all_done(&self) {
        while self.left() > 0 {
            self.done.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_as_long_as_there_is_progress() {
        let (pause, most) = (Duration::from_secs(2), Duration::from_secs(30));
        let waiter = std::sync::Arc::new(Waiter::default());
        (0..100).for_each(|_| waiter.one_more());
        let counting = waiter.clone();
        let work = tokio::spawn(async move {
            for _ in 0..90 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                counting.one_done();
            }
        });
        assert_eq!(waiter.done_or_stuck(pause, most).await, Waited::Slow);
        assert_eq!(waiter.done_or_stuck(pause, most * 10).await, Waited::Stuck);
        assert_eq!(waiter.left(), 10);
        work.await.expect("ended");
        (0..10).for_each(|_| waiter.one_done());
        assert_eq!(waiter.done_or_stuck(pause, most).await, Waited::Done);
    }
}
