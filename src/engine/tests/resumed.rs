//! The last good state, and what else serves meanwhile.

use std::sync::Mutex;

use lbex_core::backend::BackendError;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_proxy_that_somebody_starts_is_not_set_back_to_the_last_good_state() {
    let seen = |healthy| Observed { healthy, in_step: false, ..Observed::default() };
    let failing = || vec![Err(BackendError::Retry("it cannot be started".to_owned()))];
    let backend = Scripted { observed: Mutex::new(seen(false)), script: Mutex::new(failing()), ..Scripted::new() };
    let running = Running::resume(backend, Some(planned(&[("web", 80)])));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(running.backend.calls().len(), 1, "it does not serve");
    // Before it is tried again, somebody starts it, with what may be newer.
    *running.backend.observed.lock().unwrap() = seen(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running.backend.calls().len(), 1, "it serves");
    assert!(running.health.ready().ok, "{:?}", running.health.ready());
    // It dies.
    running.backend.script.lock().unwrap().extend(failing());
    *running.backend.observed.lock().unwrap() = seen(false);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(running.backend.calls().len(), 2, "it does not serve");
    *running.backend.observed.lock().unwrap() = seen(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running.backend.calls().len(), 2, "it serves");
    // A plan is another matter, also where it is the same.
    running.send(SourceEvent::Changes(lists(&[("web", 80)]))).await;
    running.send(SourceEvent::Synced).await;
    let calls = running.backend.calls();
    assert_eq!((calls.len(), calls[2].from, calls[2].generation, calls[2].changed), (3, 0, 1, 1));
    running.end().await;
}
