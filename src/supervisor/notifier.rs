//! Tells the supervisor how LBEX is.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::FusedFuture;
use sd_notify::NotifyState;
use tokio::sync::oneshot;
use tokio::time::{Interval, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::admin::HealthState;

/// The main loop beats every second: shorter silence says nothing.
const LEAST_SILENCE: Duration = Duration::from_secs(3);
/// How long the end of LBEX waits for a supervisor that does not read.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Tells the supervisor that LBEX is ready (once, when `/readyz` first says so), that its main loop runs (twice in the supervisor's
/// `WATCHDOG_USEC`), and that it ends.
#[derive(Debug)]
pub(crate) struct Notifier {
    said_end: Option<oneshot::Receiver<()>>,
}

impl Notifier {
    /// Starts, where a supervisor listens. `stop` is cancelled when LBEX begins to end.
    pub(crate) fn start(health: Arc<HealthState>, stop: CancellationToken) -> Self {
        let said_end = super::listens().then(|| {
            let (said, receiver) = oneshot::channel();
            let line = Line { broken: false, send: sd_notify::notify };
            tokio::spawn(tell(health, stop, Watchdog::asked_for(), line, said));
            receiver
        });
        Self { said_end }
    }

    /// Waits until the supervisor was told that LBEX ends; to be called once `stop` is cancelled.
    pub(crate) async fn ended(self) {
        let Some(said_end) = self.said_end else { return };
        if timeout(LAST_WORD, said_end).await.is_err() {
            tracing::warn!("the supervisor does not take the news that LBEX ends");
        }
    }
}

/// Goes on until the process ends: a drain must not look like a stuck loop.
async fn tell(
    health: Arc<HealthState>,
    stop: CancellationToken,
    mut watchdog: Watchdog,
    mut line: Line<impl Fn(&[NotifyState]) -> io::Result<()> + Clone + Send + 'static>,
    said_end: oneshot::Sender<()>,
) {
    let mut said_end = Some(said_end);
    let mut ready = pin!(health.was_ready().fuse());
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled(), if said_end.is_some() => {
                line.say(NotifyState::Stopping).await;
                // Nobody may wait for it.
                said_end.take().map(|said| said.send(()).ok());
            }
            () = &mut ready, if said_end.is_some() && !ready.is_terminated() => line.say(NotifyState::Ready).await,
            () = watchdog.due() => {
                // What comes before the main loop has time limits of its own.
                let runs = health.beats() == 0 || health.silence() <= watchdog.most_silence;
                if runs || said_end.is_none() {
                    line.say(NotifyState::Watchdog).await;
                }
            }
        }
    }
}

/// When to say that the main loop runs.
struct Watchdog {
    due: Option<Interval>,
    /// After how much silence of the main loop nothing is said.
    most_silence: Duration,
}

impl Watchdog {
    fn asked_for() -> Self {
        let half = sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|half| !half.is_zero());
        Self { due: half.map(interval), most_silence: half.unwrap_or_default().max(LEAST_SILENCE) }
    }

    async fn due(&mut self) {
        match &mut self.due {
            Some(due) => drop(due.tick().await),
            None => std::future::pending().await,
        }
    }
}

/// To the supervisor.
struct Line<S> {
    send: S,
    /// Whether it failed the last time.
    broken: bool,
}

impl<S: Fn(&[NotifyState]) -> io::Result<()> + Clone + Send + 'static> Line<S> {
    /// Says it. A failure is logged, those that follow on it are not.
    async fn say(&mut self, state: NotifyState<'static>) {
        let what = state.to_string();
        let send = self.send.clone();
        let said = tokio::task::spawn_blocking(move || send(&[state])).await;
        let failure = match said {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = failure.as_ref().filter(|_| !self.broken) {
            tracing::warn!("failed to tell the supervisor {what}: {error}");
        }
        self.broken = failure.is_some();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use super::*;

    /// Waits until `done`.
    async fn until(done: impl Fn() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < Duration::from_secs(30), "it does not come");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_loop_that_is_stuck_is_not_called_running_and_an_end_is_not_stuck() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let (health, stop) = (Arc::new(HealthState::new()), CancellationToken::new());
        let most_silence = Duration::from_millis(200);
        let watchdog = Watchdog { due: Some(interval(Duration::from_millis(5))), most_silence };
        let hear = said.clone();
        let send = move |states: &[NotifyState]| {
            hear.lock().unwrap().extend(states.iter().map(ToString::to_string));
            Ok(())
        };
        let (told, ended) = oneshot::channel();
        let line = Line { send, broken: false };
        let task = tokio::spawn(tell(health.clone(), stop.clone(), watchdog, line, told));
        let count = |what: &str| said.lock().unwrap().iter().filter(|state| *state == what).count();

        // Before there is a main loop.
        until(|| count("WATCHDOG=1") > 1).await;
        health.beat();
        health.set_ready(true, "");
        health.set_ready(false, "");
        health.set_ready(true, "");
        until(|| count("READY=1") == 1).await;
        until(|| health.silence() > 2 * most_silence).await;
        let before = count("WATCHDOG=1");
        tokio::time::sleep(most_silence).await;
        assert_eq!(count("WATCHDOG=1"), before, "it does not beat");
        health.beat();
        until(|| count("WATCHDOG=1") > before).await;

        until(|| health.silence() > 2 * most_silence).await;
        let before = count("WATCHDOG=1");
        stop.cancel();
        ended.await.expect("said");
        until(|| count("WATCHDOG=1") > before + 1).await;
        assert_eq!((count("READY=1"), count("STOPPING=1")), (1, 1));
        task.abort();
    }
}
