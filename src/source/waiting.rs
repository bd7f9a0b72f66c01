//! Says that a source is waited for at start, while the last good state is served.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// What was said about a source that cannot be reached.
pub(super) struct Waiting {
    tell_again: Duration,
    since: Option<Instant>,
    said: Option<Instant>,
}

impl Waiting {
    /// Nothing is wrong yet; what lasts is said again after `tell_again`.
    pub(super) fn new(tell_again: Duration) -> Self {
        Self { tell_again, since: None, said: None }
    }

    /// An attempt failed.
    pub(super) fn tell(&mut self, why: &dyn Display, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if self.said.is_some_and(|said| now.duration_since(said) < self.tell_again) {
            tracing::debug!("{why}");
            return;
        }
        self.said = Some(now);
        let lasting = match now.duration_since(since).as_secs() {
            0 => String::new(),
            seconds => format!(" (for {seconds} s now)"),
        };
        tracing::warn!("{why}{lasting}; the last good state is served meanwhile, trying again");
    }

    /// An attempt succeeded.
    pub(super) fn over(&self) {
        if let Some(since) = self.since {
            tracing::info!("the source answers, after {:.1} s", since.elapsed().as_secs_f64());
        }
    }
}
