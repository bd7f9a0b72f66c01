//! What the health endpoint answers (contract section 6). The engine writes it, the health server reads it; neither
//! ever waits for the other.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// After how much silence of the engine `/livez` says that it is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// For how long what was seen of the proxy counts.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// Bytes of an explanation that are shown at the most.
const DETAIL_LIMIT: usize = 500;

/// An answer: yes, or no and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the answer is `200` (otherwise `503`).
    pub ok: bool,
    /// One line without its end.
    pub line: String,
}

impl Verdict {
    fn yes(word: &str) -> Self {
        Self { ok: true, line: word.to_owned() }
    }

    fn no(why: &str) -> Self {
        Self { ok: false, line: one_line(why) }
    }
}

/// Whether LBEX and its proxy are well. Shared: the engine writes, the servers read.
#[derive(Debug)]
pub struct HealthState {
    inner: Mutex<Inner>,
    /// Whether it was ever ready.
    was_ready: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner {
    /// When the engine last showed that it runs.
    beat: Instant,
    /// How often it did.
    beats: u64,
    /// What was last seen of the proxy.
    proxy: Option<Seen>,
    ready: bool,
    /// Why it is not ready.
    waiting_for: String,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    healthy: bool,
    detail: String,
}

impl Default for HealthState {
    fn default() -> Self {
        Self::new()
    }
}

impl HealthState {
    /// Nothing is known yet: live, neither healthy nor ready.
    pub fn new() -> Self {
        let waiting_for = "LBEX is starting".to_owned();
        let inner = Inner { beat: Instant::now(), beats: 0, proxy: None, ready: false, waiting_for };
        Self { inner: Mutex::new(inner), was_ready: watch::Sender::new(false) }
    }

    /// What was just seen of the proxy: whether it answers with a configuration that LBEX wrote, and in words what runs or
    /// what is wrong. Counts for 60 s: to be called at every observation, changed or not, also while something is
    /// being applied. A change is logged.
    pub fn set_proxy(&self, healthy: bool, detail: impl Into<String>) {
        let detail = detail.into();
        let before = {
            let mut inner = self.lock();
            let seen = Seen { at: Instant::now(), healthy, detail: detail.clone() };
            inner.proxy.replace(seen).map(|seen| seen.healthy)
        };
        let detail = one_line(&detail);
        match (before, healthy) {
            (Some(true), false) => tracing::error!("the proxy is no longer healthy: {detail}"),
            (None, false) => tracing::info!("the proxy is not healthy yet: {detail}"),
            (None | Some(false), true) => tracing::info!("the proxy is healthy: {detail}"),
            (Some(true), true) | (Some(false), false) => {}
        }
    }

    /// Whether the first full sync is applied or the last good state is served; if not, what is waited for.
    pub fn set_ready(&self, ready: bool, waiting_for: impl Into<String>) {
        {
            let mut inner = self.lock();
            inner.ready = ready;
            inner.waiting_for = waiting_for.into();
        }
        self.was_ready.send_if_modified(|was_ready| ready && !std::mem::replace(was_ready, true));
    }

    /// Waits until it has been ready once.
    pub async fn was_ready(&self) {
        // The sender is here: it cannot be gone.
        let _ = self.was_ready.subscribe().wait_for(|was_ready| *was_ready).await;
    }

    /// What it waits for now; no news where it is ready already.
    pub fn set_waiting_for(&self, what: impl Into<String>) {
        self.lock().waiting_for = what.into();
    }

    /// The engine shows that its loop runs. To be called at least every few seconds; after 60 s of silence `/livez` says no.
    pub fn beat(&self) {
        let mut inner = self.lock();
        inner.beat = Instant::now();
        inner.beats += 1;
    }

    /// `GET /`: LBEX runs, and its proxy answers with a configuration that LBEX wrote.
    pub fn healthy(&self) -> Verdict {
        self.healthy_at(Instant::now())
    }

    /// `GET /livez`: the engine's loop runs.
    pub fn live(&self) -> Verdict {
        self.live_at(Instant::now())
    }

    /// `GET /readyz`: the first full sync is applied, or the last good state is being served.
    pub fn ready(&self) -> Verdict {
        let inner = self.lock();
        if inner.ready { Verdict::yes("ready") } else { Verdict::no(&inner.waiting_for) }
    }

    /// For how long the engine has not shown that it runs.
    pub fn silence(&self) -> Duration {
        self.silence_at(Instant::now())
    }

    /// How often the engine showed that it runs.
    pub fn beats(&self) -> u64 {
        self.lock().beats
    }

    fn healthy_at(&self, now: Instant) -> Verdict {
        let inner = self.lock();
        let Some(seen) = &inner.proxy else {
            return Verdict::no("LBEX is starting: the proxy has not answered yet");
        };
        let age = now.saturating_duration_since(seen.at);
        match (seen.healthy, age > STALE_AFTER) {
            (true, false) => Verdict::yes("healthy"),
            (true, true) => {
                Verdict::no(&format!("LBEX last looked at the proxy {} s ago: is it stuck?", age.as_secs()))
            }
            (false, _) => Verdict::no(&seen.detail),
        }
    }

    fn live_at(&self, now: Instant) -> Verdict {
        let silence = self.silence_at(now);
        if silence <= STUCK_AFTER {
            return Verdict::yes("live");
        }
        Verdict::no(&format!("LBEX's main loop has been silent for {} s: it is stuck", silence.as_secs()))
    }

    fn silence_at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.lock().beat)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every write is a plain store: a panic elsewhere leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `text` as one printable line of at most [`DETAIL_LIMIT`] bytes; never empty.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.trim().chars() {
        if line.len() >= DETAIL_LIMIT {
            line.push_str("...");
            break;
        }
        if c.is_control() {
            // Writing to a String cannot fail.
            let _ = write!(line, "{}", c.escape_debug());
        } else {
            line.push(c);
        }
    }
    if line.is_empty() { "no reason is known".to_owned() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_live_neither_healthy_nor_ready() {
        let state = HealthState::new();
        assert!(state.live().ok);
        assert!(!state.healthy().ok);
        assert_eq!(state.ready(), Verdict { ok: false, line: "LBEX is starting".to_owned() });
    }

    #[test]
    fn follows_the_proxy() {
        let state = HealthState::new();
        state.set_proxy(true, "NGINX 1.28.3 answers");
        assert_eq!(state.healthy(), Verdict { ok: true, line: "healthy".to_owned() });
        state.set_proxy(false, "no process\nwith id 7");
        assert_eq!(state.healthy(), Verdict { ok: false, line: "no process\\nwith id 7".to_owned() });
    }

    #[test]
    fn readiness_says_what_is_waited_for() {
        let state = HealthState::new();
        state.set_ready(false, "the first list of Nodes");
        assert_eq!(state.ready().line, "the first list of Nodes");
        state.set_ready(true, "");
        assert_eq!(state.ready(), Verdict { ok: true, line: "ready".to_owned() });
    }

    #[test]
    fn a_silent_engine_is_not_live_and_what_it_saw_goes_stale() {
        let state = HealthState::new();
        state.set_proxy(true, "fine");
        state.beat();
        let soon = Instant::now() + Duration::from_secs(30);
        assert!(state.live_at(soon).ok && state.healthy_at(soon).ok);
        let late = Instant::now() + Duration::from_secs(90);
        assert!(
            state.live_at(late).line.contains("silent for 90 s")
                || state.live_at(late).line.contains("silent for 89 s")
        );
        assert!(!state.healthy_at(late).ok);
    }

    #[test]
    fn explanations_stay_short_and_are_never_empty() {
        assert_eq!(one_line(" \n"), "no reason is known");
        assert!(one_line(&"ä".repeat(10_000)).len() < DETAIL_LIMIT + 10);
    }
}
