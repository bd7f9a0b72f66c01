//! Never half-alive: a panic anywhere ends LBEX, and so does a main loop that is stuck. Its supervisor starts it again; the proxy
//! serves on meanwhile.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::admin::HealthState;
use crate::cli::{DEFECT, Failure};

/// How often the loop is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// The most that one look counts, however long ago the one before was: a process that was stopped (`SIGSTOP`), or did not get the
/// processor, is not stuck. A host that sleeps stops the clock itself.
const MOST_STEP: Duration = Duration::from_secs(2);
/// After how much silence, counted so, the loop is stuck for good. `/livez` has said so for two minutes by then.
const STUCK: Duration = Duration::from_secs(180);
/// How long saying the last word may take.
const LAST_WORD: Duration = Duration::from_secs(5);

/// From now on a panic of any thread or task ends the process, with a last line in the log and on standard error.
pub(super) fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let why = last_line(panic);
        // Only where RUST_BACKTRACE asks for it.
        let backtrace = Backtrace::capture();
        end(&why, (backtrace.status() == BacktraceStatus::Captured).then_some(&backtrace))
    }));
}

fn last_line(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let said = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let said = said.unwrap_or("nothing that can be shown").escape_debug().to_string();
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = thread::current().name().unwrap_or("without a name").to_owned();
    format!("a defect: panic at {place} (thread {thread}): {said}; LBEX ends, the proxy serves on")
}

/// Says why, and ends the process, whatever the rest of it does.
fn end(why: &str, backtrace: Option<&Backtrace>) -> ! {
    // Saying it takes locks, and this may be anywhere.
    let limit = thread::Builder::new().name("lbex-end".to_owned()).spawn(|| {
        thread::sleep(LAST_WORD);
        std::process::abort();
    });
    if let Some(backtrace) = backtrace {
        tracing::error!("{backtrace}");
    }
    tracing::error!("{why}");
    // Kept to the end: it is the last line, whatever other threads still do.
    let mut last = std::io::stderr().lock();
    // Nobody is left to be told that standard error cannot be written.
    let _ = writeln!(last, "lbex: {why}");
    drop(limit);
    std::process::exit(i32::from(DEFECT));
}

/// Watches the main loop until it is dropped.
pub(super) struct LoopWatch {
    _until_dropped: mpsc::Sender<()>,
}

impl LoopWatch {
    /// Starts a thread that ends the process when the loop that beats for `health` is stuck.
    pub(super) fn start(health: Arc<HealthState>) -> Result<Self, Failure> {
        let seconds = STUCK.as_secs();
        let stuck = move || {
            end(
                &format!("a defect: the main loop has been stuck for {seconds} s; LBEX ends, the proxy serves on"),
                None,
            );
        };
        Self::watch(EVERY, Silence::new(STUCK), move || health.beats(), stuck)
    }

    fn watch(
        every: Duration,
        mut silence: Silence,
        beats: impl Fn() -> u64 + Send + 'static,
        stuck: impl FnOnce() + Send + 'static,
    ) -> Result<Self, Failure> {
        let (sender, dropped) = mpsc::channel();
        let watch = move || {
            let mut last = Instant::now();
            while dropped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let now = Instant::now();
                if silence.lasts(beats(), now.duration_since(std::mem::replace(&mut last, now))) {
                    return stuck();
                }
            }
        };
        let started = thread::Builder::new().name("lbex-watch".to_owned()).spawn(watch);
        started.map_err(|e| Failure::usage(anyhow::Error::new(e).context("failed to start threads")))?;
        Ok(Self { _until_dropped: sender })
    }
}

/// Adds up for how long there was no beat.
struct Silence {
    limit: Duration,
    beats: u64,
    silent: Duration,
}

impl Silence {
    fn new(limit: Duration) -> Self {
        Self { limit, beats: 0, silent: Duration::ZERO }
    }

    /// Takes in a look at the number of beats, so long after the one before. True: it has been silent for too long.
    fn lasts(&mut self, beats: u64, since: Duration) -> bool {
        self.silent = if beats == self.beats { self.silent + since.min(MOST_STEP) } else { Duration::ZERO };
        self.beats = beats;
        self.silent >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_stuck_after_its_time() {
        let mut silence = Silence::new(STUCK);
        let looks = |silence: &mut Silence, beats| (1..1000).find(|_| silence.lasts(beats, EVERY));
        assert!(!silence.lasts(1, EVERY));
        assert_eq!(looks(&mut silence, 1), Some(180));
        assert!(!silence.lasts(2, EVERY), "it goes on");
        assert_eq!(looks(&mut silence, 2), Some(180));
    }

    #[test]
    fn a_process_that_was_stopped_for_hours_is_not_stuck() {
        let mut silence = Silence::new(STUCK);
        for beat in 1..1000 {
            assert!(!silence.lasts(beat, EVERY));
            assert!(!silence.lasts(beat, Duration::from_secs(7200)), "this thread runs before the loop does");
        }
    }

    #[test]
    fn the_thread_says_it_once_and_ends_with_its_owner() {
        let (say, said) = mpsc::channel();
        let short = || Silence::new(Duration::from_millis(20));
        let every = Duration::from_millis(1);
        let watch = LoopWatch::watch(every, short(), || 7, move || say.send(()).expect("heard")).expect("started");
        said.recv_timeout(Duration::from_secs(30)).expect("stuck");
        assert!(said.recv_timeout(Duration::from_secs(30)).is_err(), "the thread has ended");
        drop(watch);

        let (owner, dropped) = mpsc::channel::<()>();
        let beating = std::sync::atomic::AtomicU64::new(0);
        let beats = move || {
            let _keep = &owner;
            beating.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        };
        drop(LoopWatch::watch(every, short(), beats, || panic!("it beats")).expect("started"));
        assert_eq!(dropped.recv_timeout(Duration::from_secs(30)), Err(RecvTimeoutError::Disconnected));
    }
}
