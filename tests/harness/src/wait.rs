//! The one place that polls: [`eventually`] for what should become true, [`stays`] for what should not change.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout};

/// The usual deadline for a change to be seen in traffic: generous, since a test that succeeds does not wait for it.
pub const SOON: Duration = Duration::from_secs(30);

/// The pause between two attempts.
const INTERVAL: Duration = Duration::from_millis(25);

/// Tries again and again until `attempt` succeeds, and returns what it gave.
///
/// An `Err` of `attempt` says what was seen instead. Fails after `deadline`, and then the message has
/// `what` and the last thing seen. An attempt is cut off at the deadline.
///
/// ```
/// # use lbex_test_harness::wait::eventually;
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let mut calls = 0;
/// let found = eventually("three calls", std::time::Duration::from_secs(5), || {
///     calls += 1;
///     async move { if calls == 3 { Ok(calls) } else { Err(format!("{calls} calls")) } }
/// });
/// assert_eq!(found.await.unwrap(), 3);
/// # }
/// ```
pub async fn eventually<T, E, F>(what: &str, deadline: Duration, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, E>>,
    E: Display,
{
    let end = Instant::now() + deadline;
    let mut last = None;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match timeout(left, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last = Some(format!("{seen:#}")),
            Err(_) if last.is_none() => last = Some("the first attempt did not end".to_owned()),
            Err(_) => {}
        }
        if Instant::now() + INTERVAL >= end {
            bail!("waited {deadline:?} for: {what}; last seen: {}", last.unwrap_or_default());
        }
        sleep(INTERVAL).await;
    }
}

/// Like [`eventually`], for an observation that should become equal to `expected`.
pub async fn eventually_is<T, F>(
    what: &str,
    deadline: Duration,
    expected: T,
    mut observe: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = T>,
    T: PartialEq + std::fmt::Debug,
{
    let expected = &expected;
    eventually(what, deadline, || {
        let seen = observe();
        async move {
            let seen = seen.await;
            if seen == *expected { Ok(()) } else { Err(format!("{seen:?}, not {expected:?}")) }
        }
    })
    .await
}

/// Observes for all of `period` that `check` succeeds; fails at the first time that it does not.
///
/// For things that must not happen. It costs its whole period each time: keep that short, and prefer to
/// wait for an event that comes after the thing would have happened.
pub async fn stays<E, F>(what: &str, period: Duration, mut check: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let start = Instant::now();
    while start.elapsed() < period {
        if let Err(seen) = check().await {
            bail!("after {:?} no longer true: {what}; seen: {seen:#}", start.elapsed());
        }
        sleep(INTERVAL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::{eventually, eventually_is, stays};

    const SHORT: Duration = Duration::from_millis(60);

    #[tokio::test]
    async fn a_failure_tells_what_was_waited_for_and_what_was_seen_last() {
        let calls = Cell::new(0);
        let attempt = || {
            calls.set(calls.get() + 1);
            std::future::ready(Err::<(), _>(format!("sight {}", calls.get())))
        };
        let error = eventually("a wonder", Duration::from_secs(1), attempt).await.unwrap_err().to_string();
        assert_eq!(error, format!("waited 1s for: a wonder; last seen: sight {}", calls.get()));
        assert!(calls.get() > 1);
    }

    #[tokio::test]
    async fn an_attempt_that_hangs_is_cut_off() {
        let hang = || std::future::pending::<Result<(), String>>();
        let error = eventually("an end", SHORT, hang).await.unwrap_err().to_string();
        assert!(error.ends_with("the first attempt did not end"), "{error}");
    }

    #[tokio::test]
    async fn equality_and_constancy_are_told() {
        let calls = Cell::new(0);
        let count = || {
            calls.set(calls.get() + 1);
            std::future::ready(calls.get())
        };
        eventually_is("three", Duration::from_secs(5), 3, count).await.unwrap();
        let below = |limit| move |now| if now < limit { Ok(()) } else { Err(format!("{now}")) };
        stays("below 1000", SHORT, || std::future::ready(below(1000)(3))).await.unwrap();
        let check = || {
            calls.set(calls.get() + 1);
            std::future::ready(below(5)(calls.get()))
        };
        let error = stays("below 5", Duration::from_secs(5), check).await.unwrap_err().to_string();
        assert!(error.ends_with("no longer true: below 5; seen: 5"), "{error}");
    }
}
