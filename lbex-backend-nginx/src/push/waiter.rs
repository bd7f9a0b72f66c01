//! Waits until NGINX has applied a number of names.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

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

    /// Returns when none is left.
    pub async fn all_done(&self) {
        while self.left() > 0 {
            self.done.notified().await;
        }
    }
}
