//! Counts the connections that old workers have left, now and then: where there are a hundred thousand that takes a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::process::Nginx;

/// The least time between two counts.
const EVERY: Duration = Duration::from_secs(5);

/// The last count.
#[derive(Debug, Clone, Default)]
pub(super) struct Draining(Arc<Mutex<Count>>);

#[derive(Debug, Default)]
struct Count {
    connections: Option<u64>,
    begun: Option<Instant>,
    running: bool,
}

impl Draining {
    fn lock(&self) -> MutexGuard<'_, Count> {
        // Three plain values: whatever a panicking thread left of them is as good as any.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections these workers held when they were last counted; `None` before that, and where nobody may count them.
    /// Waits for nothing.
    pub(super) fn connections(&self, nginx: &Nginx, workers: &[i32]) -> Option<u64> {
        let mut count = self.lock();
        if workers.is_empty() {
            (count.connections, count.begun) = (None, None);
            return Some(0);
        }
        if !count.running && count.begun.is_none_or(|begun| begun.elapsed() >= EVERY) {
            (count.running, count.begun) = (true, Some(Instant::now()));
            let (this, nginx, workers) = (self.clone(), nginx.clone(), workers.to_vec());
            tokio::spawn(async move {
                let connections = nginx.connections_of(workers).await;
                let mut count = this.lock();
                count.running = false;
                // Those whose count began before the last worker ended are of no interest any more.
                count.connections = connections.filter(|_| count.begun.is_some());
            });
        }
        count.connections
    }
}
